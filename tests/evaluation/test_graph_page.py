"""The page about made graphs: where nodes are drawn, that odd names stay text, and its figures beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bottega.core.graph import Graph
from bottega.data.graphs.synthetic import synthetic
from bottega.evaluation.graph_report import drawing, layout, write_page
from bottega.evaluation.graphs import judge_graphs

EVIL = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize("graph", [
    Graph.of(["a"], []), Graph.of(["a", "a"], [(0, 1, "x")]), Graph.of(["a"] * 5, []), *synthetic("grids", 3, 0),
    Graph.of(["a"] * 6, [(i, j, "x") for j in range(6) for i in range(j)]), *synthetic("trees", 3, 0)])
def test_nodes_lie_apart_within_the_drawing(graph: Graph) -> None:
    places = layout(graph)
    assert places.shape == (len(graph), 2)
    assert np.isfinite(places).all()
    assert places.min() >= -1e-9
    assert places.max() <= 1 + 1e-9
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(len(graph))
    assert apart.min() > 0.02
    assert np.array_equal(places, layout(graph))


def test_a_path_is_drawn_as_a_line() -> None:
    places = layout(Graph.of(["a"] * 5, [(i, i + 1, "x") for i in range(4)]))
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert steps == pytest.approx(np.full(4, 0.25), abs=0.01)


def test_names_stay_text_and_figures_lie_beside(tmp_path: Path) -> None:
    odd = Graph.of([EVIL, "b"], [(0, 1, EVIL)])
    assert "<img" not in drawing(odd, EVIL, sorted(set(odd.nodes)))
    graphs = [*synthetic("trees", 12, 0), odd]
    scores = judge_graphs([*graphs[6:], Graph.of(["node"] * 2, [])], graphs[:6], graphs[3:9], rules=["tree"])
    path = write_page(scores, [(odd, EVIL)], [(odd, "b")], tmp_path / "page.html", title=EVIL, facts={"model": EVIL})
    page = path.read_text()
    assert "<img" not in page
    assert "<script" not in page.lower()
    assert "1 graphs break the rule" in page
    assert json.loads((tmp_path / "page.json").read_text())["counts"]["made"] == 8
