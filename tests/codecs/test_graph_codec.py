"""Graphs to numbers and back: types, rule, limits, the line that a graph is shown as, the file beside the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.graph_models import molecules

from bottega.codecs.graph import FILE, GraphCodec
from bottega.core.errors import CorruptError, DataError, RecipeError
from bottega.core.graph import Graph
from bottega.core.smiles import read_smiles
from bottega.data.graphs.read import from_plain

ODD = ["città", "人", "a b", 'quo"te', "line\u2028end", "next\x85", "tab\t", "{}"]


def odd() -> Graph:
    """Return a graph whose types are hard to write down."""
    return Graph.of(ODD, [(place, place + 1, kind[::-1]) for place, kind in enumerate(ODD[1:])])


def back(codec: GraphCodec, graph: Graph) -> Graph:
    coded = codec.encode(graph)
    matrix = np.zeros((len(graph), len(graph)), np.int64)
    for one, other, kind in coded.edges:
        matrix[one, other] = matrix[other, one] = kind
    return codec.decode(coded.nodes, matrix)


def test_graphs_come_back_as_they_were(tmp_path: Path) -> None:
    for graphs, form in ((molecules(), "molecules"), ([odd(), Graph.of(["人"], [])], "graphs")):
        codec = GraphCodec.of({"largest": 20}).learn(graphs, form)  # type: ignore[arg-type]
        assert [back(codec, graph) for graph in graphs] == graphs
        codec.save(tmp_path)
        loaded = GraphCodec.load(tmp_path)
        assert (loaded, loaded.digest, loaded.rule) == (codec, codec.digest, codec.rule)
        assert codec.kinds == tuple(sorted({kind for graph in graphs for kind in graph.nodes}))
        assert (codec.largest, codec.graphs) == (max(map(len, graphs)), len(graphs))
    assert GraphCodec.of({}).learn(molecules(), "molecules").digest != codec.digest


def test_a_graph_is_one_line_that_says_everything() -> None:
    codec = GraphCodec.of({}).learn([odd()], "graphs")
    line = codec.text(odd())
    assert line.splitlines() == [line]
    assert "città" in line
    assert from_plain(json.loads(line)) == odd()
    codec = GraphCodec.of({}).learn(molecules(), "molecules")
    for graph in molecules():
        assert codec.key(read_smiles(codec.text(graph)).graph) == codec.key(graph)


def test_equal_graphs_have_one_key() -> None:
    codec = GraphCodec.of({}).learn([odd()], "graphs")
    assert codec.key(odd().permuted([3, 1, 0, 2, 4, 6, 5, 7])) == codec.key(odd())
    rings = [read_smiles(text).graph for text in ("Cc1ccccc1O", "CC1=CC=CC=C1O", "CC1=C(O)C=CC=C1")]
    assert len({GraphCodec.of({}).learn(rings, "molecules").key(ring) for ring in rings}) == 1


def test_types_that_nobody_learned_are_refused() -> None:
    codec = GraphCodec.of({}).learn([Graph.of(["a", "b"], [(0, 1, "x")])], "graphs")
    for graph in (Graph.of(["a", "z"], []), Graph.of(["a", "b"], [(0, 1, "z")])):
        with pytest.raises(DataError, match="knows no type 'z'"):
            codec.encode(graph)


def test_limits_follow_from_the_rule() -> None:
    codec = GraphCodec.of({}).learn(molecules(), "molecules")
    limits = codec.limits()
    assert (codec.rule, limits.connected, limits.one, limits.order) == ("molecule", True, False, [1, 2, 3])
    assert limits.capacity is not None
    found = dict(zip(codec.kinds, limits.capacity, strict=True))
    assert {kind: found[kind] for kind in ("C", "N", "N+", "O", "O-", "S", "P", "F")} == {
        "C": 4, "N": 3, "N+": 4, "O": 2, "O-": 1, "S": 6, "P": 5, "F": 1}
    for rule, connected, one in (("none", False, False), ("connected", True, False), ("tree", True, True),
                                 ("grid", True, False)):
        limits = GraphCodec.of({"rule": rule}).learn([odd()], "graphs").limits()
        assert (limits.connected, limits.one, limits.capacity, limits.order) == (connected, one, None, None)


def test_a_set_without_edges_has_a_type_of_edge_that_its_rule_knows() -> None:
    gases = [read_smiles(text).graph for text in ("C", "O", "[Cl-]")]
    codec = GraphCodec.of({}).learn(gases, "molecules")
    assert codec.types == ("1",)
    assert codec.limits().order == [1]
    assert GraphCodec.of({}).learn([Graph.of(["a"], [])], "graphs").types == ("edge",)
    atoms = GraphCodec.of({"rule": "molecule"}).learn([Graph.of(["C"], [])], "graphs")
    assert atoms.limits().order == [1]


def test_what_breaks_the_rule_is_told() -> None:
    codec = GraphCodec.of({"rule": "tree", "largest": 3}).learn([odd()], "graphs")
    assert "more than 3 (codec.largest)" in codec.broken(odd())
    assert "parts" in codec.broken(Graph.of(["a", "a"], []))
    assert codec.broken(Graph.of(["a", "a"], [(0, 1, "x")])) == ""
    assert GraphCodec.of({}).learn([odd()], "graphs").broken(Graph.of(["a", "a"], [])) == ""


def test_bad_settings_and_bad_files_are_refused(tmp_path: Path) -> None:
    refused: list[dict[str, object]] = [{"rule": "forest"}, {"largest": 0}, {"largest": 257}, {"rules": []}]
    for settings in refused:
        with pytest.raises(RecipeError):
            GraphCodec.of(settings)
    (tmp_path / FILE).write_text('{"kind": "table"}')
    with pytest.raises(CorruptError):
        GraphCodec.load(tmp_path)


def test_what_a_codec_does_not_know_is_named() -> None:
    codec = GraphCodec.of({"largest": 20}).learn([Graph.of(["a", "b"], [(0, 1, "edge")])], "graphs")
    assert codec.foreign(Graph.of(["b", "a"], [(0, 1, "edge")])) == ""
    assert codec.foreign(Graph.of(["c"], [])) == "the model knows no type 'c'"
    assert codec.foreign(Graph.of(["edge"], [])) == "the model knows no type 'edge'"  # it is one, but of no node
    assert codec.foreign(Graph.of(["a", "b"], [(0, 1, "a")])) == "the model knows no type 'a'"
    assert "knows 2 at most" in codec.foreign(Graph.of(["a"] * 3, []))
