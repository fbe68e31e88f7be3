"""The judge of graphs: fresh real graphs pass, copies are found out, random graphs are far from real ones."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from bottega.core.errors import InputError, RecipeError
from bottega.core.graph import Graph
from bottega.core.smiles import read_smiles
from bottega.data.graphs.read import read_graphs
from bottega.data.graphs.synthetic import synthetic
from bottega.evaluation.graph_models import ErdosRenyi
from bottega.evaluation.graph_types import rings, type_distance
from bottega.evaluation.graphs import GraphScores, judge_graphs


def values(scores: GraphScores) -> dict[str, float | None]:
    return {share.name: share.made["value"] if share.made else None for share in scores.shares}


def molecules(*texts: str) -> list[Graph]:
    return [read_smiles(text).graph for text in texts]


TRAIN = synthetic("trees", 60, 1)
HELD = synthetic("trees", 60, 2)


def test_fresh_graphs_pass() -> None:
    scores = judge_graphs(synthetic("trees", 60, 3), TRAIN, HELD, rules=["tree"])
    assert values(scores)["valid"] == 1
    assert values(scores)["valid, unique, novel"] > 0.9
    assert not scores.broken
    assert not scores.types  # one type of node and of edge tells nothing
    assert {each.name: each.value < 2 * each.high + 1e-9 for each in scores.distances} == \
        dict.fromkeys([each.name for each in scores.distances], True)


def test_copies_are_found_in_any_order_of_nodes() -> None:
    copies = [graph.permuted(list(range(len(graph)))[::-1]) for graph in TRAIN[:20]] * 2
    found = values(judge_graphs(copies, TRAIN, HELD, rules=["tree"]))
    assert found["valid"] == 1
    assert found["unique"] <= 0.5
    assert found["novel"] == found["valid, unique, novel"] == 0


def test_random_graphs_break_the_rule_and_are_far() -> None:
    scores = judge_graphs(ErdosRenyi.fit(TRAIN).sample(60, 9), TRAIN, HELD, rules=["tree", "connected"])
    assert values(scores)["valid"] < 0.1
    assert {each.rule for each in scores.broken} == {"tree", "connected"}
    assert all(each.count > 40 for each in scores.broken)
    assert next(each.example for each in scores.broken if each.rule == "connected").startswith("it is in ")
    degree = scores.distances[0]
    assert degree.value > 2 * degree.high
    assert degree.value == pytest.approx(degree.baselines["Erdős–Rényi"], rel=0.5)


def test_grids_are_seldom_new_and_held_out_ones_are_not_either() -> None:
    scores = judge_graphs(synthetic("grids", 40, 3), synthetic("grids", 100, 1), synthetic("grids", 40, 2),
                          rules=["grid"])
    novel = next(share for share in scores.shares if share.name == "novel")
    assert novel.made is not None
    assert novel.held is not None
    assert novel.made["value"] == novel.held["value"] == 0


def test_molecules_are_the_same_however_double_bonds_are_placed() -> None:
    train, held = molecules("CC1=CC=CC=C1C", "CCO", "CC#N", "C1CC1"), molecules("CCN", "COC", "C1CO1")
    wrong = Graph.of("CCCCCC", [(0, other, "1") for other in range(1, 6)])
    scores = judge_graphs([*molecules("CC1=C(C)C=CC=C1", "OCC", "CCC"), wrong], train, held, rules=["molecule"])
    assert values(scores) == {"valid": 0.75, "unique": 1, "novel": pytest.approx(1 / 3),
                              "valid, unique, novel": 0.25}
    assert scores.broken[0].example == "node 0, C, has bonds of order 5 in all"
    assert [each.name for each in scores.types] == ["node types", "edge types", "ring sizes"]


def test_ring_sizes_and_types_by_hand() -> None:
    assert [rings(graph) for graph in molecules("CCO", "C1CC2CC1C2")] == [Counter(none=1), Counter({"4": 1, "5": 1})]
    made, real = molecules("CO", "CO"), molecules("CC", "CO")
    assert type_distance("node types", made, real).value == pytest.approx(0.25)
    assert type_distance("edge types", molecules("C"), real).value == 1
    assert type_distance("edge types", molecules("C"), molecules("C", "O")).value == 0
    assert type_distance("ring sizes", molecules("C1CC1"), molecules("C1CC1", "CC")).value == pytest.approx(0.5)


def test_graphs_too_regular_to_be_named_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bottega.core.graph._LEAVES", 0)
    scores = judge_graphs(TRAIN[:3], TRAIN, HELD)
    assert scores.counts["unnamed"] == 3
    assert values(scores) == {"valid": 1, "unique": 0, "novel": None, "valid, unique, novel": 0}
    assert any("3 are too regular" in line for line in scores.lines())


def test_the_page_and_the_json_hold_all_figures() -> None:
    scores = judge_graphs(synthetic("communities", 20, 3), synthetic("communities", 20, 1),
                          synthetic("communities", 20, 2), rules=["connected"])
    page = "\n".join(scores.lines())
    for word in ("20 made graphs", "valid", "100.0% (84%–100%)", "degree", "spectrum", "Barabási–Albert", "blind here"):
        assert word in page
    assert max(map(len, scores.lines())) < 140
    assert json.loads(json.dumps(scores.plain(), allow_nan=False))["counts"]["made"] == 20
    none = judge_graphs([Graph.of("ab", [])], TRAIN, HELD, rules=["tree"])
    assert "–" in "\n".join(none.lines())
    json.dumps(none.plain(), allow_nan=False)


def test_the_same_seed_gives_the_same_scores() -> None:
    made = synthetic("trees", 10, 3)
    assert judge_graphs(made, TRAIN, HELD, seed=4) == judge_graphs(made, TRAIN, HELD, seed=4)


def test_what_cannot_be_judged() -> None:
    with pytest.raises(InputError, match="0 made, 60 training and 60 held-out"):
        judge_graphs([], TRAIN, HELD)
    with pytest.raises(RecipeError, match="did you mean 'tree'"):
        judge_graphs(TRAIN, TRAIN, HELD, rules=["trees"])


def test_qm9_against_itself_and_against_random_atoms(real_data: Path) -> None:
    path = real_data / "molecules" / "qm9.csv"
    if not path.is_file():
        pytest.skip("no QM9 in BOTTEGA_DATA")
    graphs = read_graphs(path, limit=6000).graphs[-1800:]
    made, train, held = graphs[::3][:300], graphs[1::3][:300], graphs[2::3][:300]
    scores = judge_graphs(made, train, held, rules=["molecule"])
    assert values(scores)["valid"] == 1
    assert values(scores)["novel"] > 0.98  # some of its molecules differ by stereo marks alone, which are dropped
    assert all(each.value < 2 * each.high for each in (*scores.distances, *scores.types))
    random = judge_graphs(ErdosRenyi.fit(train).sample(300, 0), train, held, rules=["molecule"])
    assert values(random)["valid"] < 0.2
    assert random.distances[0].value > 2 * random.distances[0].high
