"""Distances of sets of graphs: nothing between equal sets, a floor between real ones, and far more to random graphs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from bottega.core.errors import InputError
from bottega.core.graph import Graph
from bottega.data.graphs.synthetic import KINDS, synthetic
from bottega.evaluation.graph_distances import (
    MEASURES,
    clustering,
    degrees,
    graph_distances,
    mean_orbits,
    mmd,
    spectrum,
    split,
)
from bottega.evaluation.graph_models import BarabasiAlbert, ErdosRenyi
from bottega.evaluation.graph_orbits import adjacency


def plain(count: int, pairs: list[tuple[int, int]]) -> Graph:
    return Graph.of(["a"] * count, [(*pair, "e") for pair in pairs])


TRIANGLE, PATH, LONELY = plain(3, [(0, 1), (0, 2), (1, 2)]), plain(3, [(0, 1), (1, 2)]), plain(1, [])


@pytest.mark.parametrize("name", MEASURES)
def test_equal_sets_are_not_apart_in_any_order(name: str) -> None:
    graphs = synthetic("communities", 10, 0)
    turned = [graph.permuted(list(range(len(graph)))[::-1]) for graph in graphs[::-1]]
    assert mmd(graphs, turned, name) == pytest.approx(0, abs=1e-12)
    assert mmd([LONELY], [LONELY], name) == 0


def test_descriptions_of_graphs_that_are_known() -> None:
    assert degrees(PATH).tolist() == pytest.approx([0, 2 / 3, 1 / 3])
    assert degrees(LONELY).tolist() == [1]
    assert clustering(TRIANGLE)[-1] == clustering(PATH)[0] == 1
    assert mean_orbits(PATH)[:4].tolist() == pytest.approx([4 / 3, 2 / 3, 1 / 3, 0])
    # the path of three has eigenvalues 0, 1, 2, the triangle 0, 3/2, 3/2
    assert spectrum(PATH)[[0, -1]].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert spectrum(PATH)[99:101].sum() == pytest.approx(1 / 3)  # 1 is where two bins meet
    assert spectrum(TRIANGLE).max() == pytest.approx(2 / 3)
    assert all(describe(LONELY).sum() == 1 for describe in (degrees, clustering, spectrum))


def test_kernels_are_those_of_the_papers() -> None:
    """One graph against another: 2 - 2 exp(-d² / 2σ²)."""
    def apart(d: float, sigma: float) -> float:
        return 2 - 2 * math.exp(-d * d / (2 * sigma * sigma))

    # degrees: (0, 2/3, 1/3) and (0, 0, 1); clustering: all 0 and all 1; orbits: one by one
    assert mmd([PATH], [TRIANGLE], "degree") == pytest.approx(apart(2 / 3, 1))
    assert mmd([PATH], [TRIANGLE], "clustering") == pytest.approx(apart(1, 0.1))
    assert mmd([PATH], [TRIANGLE], "clustering, earth mover") == pytest.approx(apart(0.99, 0.1))
    squared = (2 - 4 / 3) ** 2 + (2 / 3) ** 2 + (1 / 3) ** 2 + 1
    assert mmd([PATH], [TRIANGLE], "orbit") == pytest.approx(apart(math.sqrt(squared), 30))
    assert mmd([PATH], [TRIANGLE], "spectrum") == pytest.approx(apart(2 / 3, 1))


def test_the_biased_estimate_is_written_out() -> None:
    one, other = synthetic("trees", 4, 0), synthetic("trees", 3, 1)

    def alike(a: Graph, b: Graph) -> float:
        width = max(len(degrees(a)), len(degrees(b)))
        apart = [np.pad(degrees(graph), (0, width - len(degrees(graph)))) for graph in (a, b)]
        return math.exp(-(np.abs(apart[0] - apart[1]).sum() / 2) ** 2 / 2)

    def mean(left: list[Graph], right: list[Graph]) -> float:
        return float(np.mean([alike(a, b) for a, b in itertools.product(left, right)]))

    assert mmd(one, other, "degree") == pytest.approx(mean(one, one) + mean(other, other) - 2 * mean(one, other))


def test_networkx_has_the_same_coefficients_and_eigenvalues() -> None:
    networkx = pytest.importorskip("networkx")
    for graph in [*synthetic("communities", 3, 0), plain(5, [(0, 1), (1, 2)])]:
        theirs = networkx.from_numpy_array(adjacency(graph))
        assert clustering(graph) == pytest.approx(
            np.histogram(list(networkx.clustering(theirs).values()), 100, (0, 1))[0] / len(graph))
        degree = adjacency(graph).sum(1)
        scale = np.diag([1 / math.sqrt(each) if each else 0 for each in degree])
        values = np.linalg.eigvalsh(scale @ (np.diag(degree) - adjacency(graph)) @ scale)
        assert spectrum(graph) @ (np.arange(200) + 0.5) / 100 == pytest.approx(values.mean(), abs=0.006)


@pytest.mark.parametrize("kind", KINDS)
def test_real_graphs_are_at_the_floor_and_random_ones_far_above(kind: str) -> None:
    train, held, made = synthetic(kind, 50, 1), synthetic(kind, 50, 2), synthetic(kind, 50, 3)
    random = {"er": ErdosRenyi.fit(train).sample(50, 0), "ba": BarabasiAlbert.fit(train).sample(50, 0)}
    found = {each.name: each for each in graph_distances(made, held, fresh=train, baselines=random, seed=0)}
    assert list(found) == list(MEASURES)
    for name, distance in found.items():
        assert distance.value < 2 * distance.high + 1e-9, name
        for value in distance.baselines.values():
            if kind == "trees" and "clustering" in name:
                continue  # trees have no triangles, and these random ones have few
            if not distance.blind:
                assert value > max(distance.high, 2 * distance.floor), (name, distance)
    assert found["clustering"].blind == (kind == "communities")


def test_without_other_real_graphs_the_floor_is_of_halves() -> None:
    rng = np.random.default_rng(0)
    sizes = {(len(one), len(other)) for one, other in split(30, 20, 0, rng)}
    assert sizes == {(10, 10)}
    assert {(len(one), len(other)) for one, other in split(30, 20, 40, rng)} == {(30, 20)}
    assert all(not set(one.tolist()) & set(other.tolist()) for one, other in split(3, 5, 6, rng))
    held = synthetic("trees", 20, 0)
    assert graph_distances(held, held)[0].floor > graph_distances(held, held)[0].value


def test_too_few_graphs() -> None:
    with pytest.raises(InputError, match="0 made and 2 real"):
        graph_distances([], [PATH, PATH])
