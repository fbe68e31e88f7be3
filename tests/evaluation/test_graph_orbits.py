"""Orbit counts against a listing of all subgraphs, and triangles against networkx."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bottega.core.graph import Graph
from bottega.evaluation.graph_orbits import adjacency, orbits, triangles

# (degrees of a connected graph of 2 to 4 nodes in order) → degree of a node in it → orbit
PARTS = {(1, 1): {1: 0}, (1, 1, 2): {1: 1, 2: 2}, (2, 2, 2): {2: 3}, (1, 1, 2, 2): {1: 4, 2: 5},
         (1, 1, 1, 3): {1: 6, 3: 7}, (2, 2, 2, 2): {2: 8}, (1, 2, 2, 3): {1: 9, 2: 10, 3: 11},
         (2, 2, 3, 3): {2: 12, 3: 13}, (3, 3, 3, 3): {3: 14}}


def plain(count: int, pairs: list[tuple[int, int]]) -> Graph:
    return Graph.of(["a"] * count, [(*pair, "e") for pair in pairs])


def chance_graph(count: int, share: float, seed: int) -> Graph:
    rng = np.random.default_rng(seed)
    return plain(count, [pair for pair in itertools.combinations(range(count), 2) if rng.random() < share])


def listed(graph: Graph) -> np.ndarray:
    """Look at every set of two to four nodes; degrees tell the connected ones apart."""
    near, found = adjacency(graph), np.zeros((len(graph), 15), np.int64)
    for size in (2, 3, 4):
        for nodes in itertools.combinations(range(len(graph)), size):
            degrees = near[np.ix_(nodes, nodes)].sum(1).tolist()
            for node, degree in zip(nodes, degrees, strict=True):
                part = PARTS.get(tuple(sorted(degrees)))
                if part is not None and degrees.count(0) == 0:
                    found[node, part[degree]] += 1
    return found


@given(st.integers(1, 11), st.floats(0, 1), st.integers(0, 10_000))
@settings(max_examples=60)
def test_counts_are_those_of_a_listing(count: int, share: float, seed: int) -> None:
    graph = chance_graph(count, share, seed)
    assert (orbits(graph) == listed(graph)).all()


def test_every_graph_of_five_nodes() -> None:
    pairs = list(itertools.combinations(range(5), 2))
    for uses in itertools.product([0, 1], repeat=len(pairs)):
        graph = plain(5, [pair for pair, use in zip(pairs, uses, strict=True) if use])
        assert (orbits(graph) == listed(graph)).all(), graph


def test_graphs_whose_counts_are_known() -> None:
    assert orbits(plain(4, list(itertools.combinations(range(4), 2))))[0].tolist() == [3, 0, 0, 3] + [0] * 10 + [1]
    assert orbits(plain(4, [(0, 1), (0, 2), (0, 3)]))[0, 7] == 1
    assert orbits(plain(256, [(0, leaf) for leaf in range(1, 256)]))[0, 7] == 255 * 254 * 253 // 6


def test_networkx_counts_as_many_triangles() -> None:
    networkx = pytest.importorskip("networkx")
    for seed in range(5):
        graph = chance_graph(25, 0.4, seed)
        theirs = networkx.triangles(networkx.from_numpy_array(adjacency(graph)))
        assert (triangles(adjacency(graph)).sum(1) // 2).tolist() == [theirs[node] for node in range(25)]
        assert orbits(graph)[:, 3].tolist() == [theirs[node] for node in range(25)]
