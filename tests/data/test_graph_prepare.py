"""From files of graphs to prepared sets: what is kept, left out and refused, and when work is done again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.graph_models import SMILES, molecules

from bottega.codecs.graph import GraphCodec
from bottega.core.errors import BottegaError, CorruptError, DataError, InputError, RecipeError
from bottega.core.graph import Graph
from bottega.core.recipe import DataSpec
from bottega.data.graphs.dataset import GraphDataset
from bottega.data.graphs.prepare import prepare_graphs
from bottega.data.graphs.read import to_plain
from bottega.data.graphs.synthetic import synthetic

Prepare = Callable[..., GraphDataset[GraphCodec]]


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    """Prepare sources in a workshop of the test."""
    def run(*sources: str | Path, codec: dict[str, Any] | None = None, **data: Any) -> GraphDataset[GraphCodec]:
        spec = DataSpec(sources=[str(source) for source in sources], **{"validation": 0.2, **data})
        return prepare_graphs(spec, GraphCodec.of(codec or {}), home=tmp_path / "home")

    return run


def lines(path: Path, *graphs: Graph) -> Path:
    """Write graphs as JSON lines."""
    path.write_text("".join(json.dumps(to_plain(graph)) + "\n" for graph in graphs), encoding="utf-8")
    return path


def path_of(count: int, kind: str = "a") -> Graph:
    return Graph.of([kind] * count, [(node, node + 1, "x") for node in range(count - 1)])


def test_known_distributions_and_files(prepare: Prepare, tmp_path: Path) -> None:
    grids = prepare("grids", codec={"rule": "grid"}, limit=40)
    both = [*grids.graphs("train"), *grids.graphs("validation")]
    assert sorted(graph.edges for graph in both) == sorted(graph.edges for graph in synthetic("grids", 40, 0))
    assert grids.card["bottega"]["licences"] == ["CC0-1.0"]
    assert grids.card["bottega"]["splits"]["train"]["graphs"] == len(grids.coded("train")) < 40
    assert len(prepare("trees", "communities", limit=20).graphs("train")) > 20
    graphs = [path_of(count) for count in range(1, 9)] + [Graph.of(["b"] * 5, [(1, 3, "y")])]
    own = prepare(lines(tmp_path / "own.jsonl", *graphs))
    assert {graph for split in ("train", "validation") for graph in own.graphs(split)} == set(graphs)
    assert (own.codec.kinds, own.codec.types, own.codec.largest) == (("a", "b"), ("x", "y"), 8)
    (tmp_path / "some.smi").write_text("\n".join(SMILES))
    found = prepare(tmp_path / "some.smi")
    assert found.codec.form == "molecules"
    assert {found.codec.key(graph) for split in ("train", "validation") for graph in found.graphs(split)} == {
        found.codec.key(graph) for graph in molecules()}


def test_graphs_in_numbers_are_a_sequence(prepare: Prepare) -> None:
    data = prepare("trees", limit=20)
    coded = data.coded("train")
    assert len(coded[1:3]) == 2
    assert coded[-1].nodes.tolist() == coded[len(coded) - 1].nodes.tolist()
    assert [len(one.nodes) for one in coded] == [len(graph) for graph in data.graphs("train")]
    with pytest.raises(IndexError):
        coded[len(coded)]


def test_graphs_that_break_the_rule_are_left_out_and_counted(prepare: Prepare, tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    ring = Graph.of(["a"] * 3, [(0, 1, "x"), (1, 2, "x"), (0, 2, "x")])
    apart, large = Graph.of(["z"] * 3, [(0, 1, "x")]), path_of(12, "z")
    file = lines(tmp_path / "own.jsonl", path_of(3), path_of(4), ring, ring, apart, large)
    data = prepare(file, codec={"rule": "tree", "largest": 10})
    assert data.card["bottega"]["stages"] == {"read": 6, "kept": 2, "dropped": 4}
    assert sum(data.card["bottega"]["dropped"].values()) == 4
    assert "2 of 6 graphs are left out: # edges close cycles" in capsys.readouterr().err
    assert (data.codec.kinds, data.codec.largest) == (("a",), 4)  # nothing is learned from what is left out


def test_a_graph_that_cannot_be_named_is_left_out(prepare: Prepare, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bottega.core.graph._LEAVES", 2)  # enough for a path; a real such graph takes minutes
    whole = Graph.of(["a"] * 5, [(i, j, "x") for j in range(5) for i in range(j)])
    data = prepare(lines(tmp_path / "own.jsonl", path_of(2), whole, path_of(3)))
    assert data.card["bottega"]["dropped"] == {"a graph of # nodes is too regular to be named": 1}
    assert data.codec.largest == 3


@pytest.mark.parametrize(("graphs", "codec"), [
    ([path_of(3)], {}), ([path_of(9), path_of(8)], {"largest": 5}), ([path_of(3), path_of(4)], {"rule": "grid"}),
    ([path_of(3), path_of(4)], {"rule": "molecule"})])
def test_too_few_graphs_are_refused(prepare: Prepare, tmp_path: Path, graphs: list[Graph],
                                    codec: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"holds [01] graphs that can be used"):
        prepare(lines(tmp_path / "own.jsonl", *graphs), codec=codec)
    assert not list((tmp_path / "home" / "data").glob("*"))


def test_what_graphs_do_not_have_is_refused(prepare: Prepare, tmp_path: Path) -> None:
    (tmp_path / "some.smi").write_text("CCO\nCC\n")
    refused: list[tuple[type[BottegaError], str, tuple[Any, ...], dict[str, Any]]] = [
        (RecipeError, "cannot be learned together", (tmp_path / "some.smi", "trees"), {}),
        (RecipeError, r"no data\.rules", ("trees",), {"rules": {"short": "words < 3"}}),
        (RecipeError, r"no data\.languages", ("trees",), {"languages": ["en"]}),
        (InputError, "no file of graphs", (tmp_path / "nothing.smi",), {})]
    for error, match, sources, data in refused:
        with pytest.raises(error, match=match):
            prepare(*sources, **data)


def test_a_set_is_reused_until_something_changed(prepare: Prepare, tmp_path: Path) -> None:
    file = lines(tmp_path / "own.jsonl", *(path_of(count) for count in range(2, 12)))
    one = prepare(file)
    stamp = (one.path / "card.json").stat().st_mtime_ns
    assert (prepare(file).path / "card.json").stat().st_mtime_ns == stamp
    other = prepare(file, codec={"largest": 8})
    assert other.path != one.path
    nodes = one.path / "nodes-train.npy"
    content = nodes.read_bytes()
    nodes.write_bytes(content[:-1] + b"\x07")
    with pytest.raises(CorruptError):
        GraphDataset.open(one.path, GraphCodec)
    again = prepare(file)
    assert (again.digest, nodes.read_bytes()) == (one.digest, content)
    (one.path / "card.json").unlink()
    with pytest.raises(CorruptError):
        GraphDataset.open(one.path, GraphCodec)
    with pytest.raises(InputError, match="no prepared set"):
        GraphDataset.open(tmp_path, GraphCodec)


def test_equal_molecules_are_on_one_side_of_the_split(prepare: Prepare, tmp_path: Path) -> None:
    written = ["c1ccccc1C", "CC1=CC=CC=C1", "CCO", "OCC", "C(O)C", "CC#N", "N#CC", "CC(C)C", "C(C)(C)C"]
    for validation in (0.001, 0.3, 0.6, 0.899):
        (tmp_path / "some.smi").write_text("\n".join(written))
        data = prepare(tmp_path / "some.smi", validation=validation)
        sides = [{data.codec.key(graph) for graph in data.graphs(split)} for split in ("train", "validation")]
        assert all(sides)
        assert not sides[0] & sides[1]
        assert sum(len(data.coded(split)) for split in ("train", "validation")) == len(written)


def test_copies_of_one_graph_are_on_both_sides(prepare: Prepare, tmp_path: Path) -> None:
    data = prepare(lines(tmp_path / "own.jsonl", *[path_of(1)] * 5))
    assert {len(data.coded("train")), len(data.coded("validation"))} == {1, 4}
    assert data.graphs("validation")[0] == path_of(1)  # nodes alone: no edge in the whole set
