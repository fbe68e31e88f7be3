"""Synthetic graphs are what they claim to be, and the same for a seed."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from bottega.core.errors import RecipeError
from bottega.core.graph import Graph, canonical
from bottega.core.graph_rules import broken
from bottega.data.graphs.synthetic import KINDS, community, from_prufer, synthetic


@pytest.mark.parametrize(("kind", "rule", "least", "most"), [
    ("communities", "connected", 12, 20), ("grids", "grid", 9, 49), ("trees", "tree", 8, 24)])
def test_each_keeps_its_rule_and_its_sizes(kind: str, rule: str, least: int, most: int) -> None:
    graphs = synthetic(kind, 100, 1)
    assert {broken(graph, rule) for graph in graphs} == {""}
    assert min(map(len, graphs)) == least
    assert max(map(len, graphs)) == most
    assert {node for graph in graphs for node in graph.nodes} == {"node"}
    assert {edge for graph in graphs for *_, edge in graph.edges} == {"edge"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_graphs_however_many(kind: str) -> None:
    assert synthetic(kind, 5, 7) == synthetic(kind, 20, 7)[:5] != synthetic(kind, 5, 8)


def test_communities_are_dense_inside_and_sparse_between() -> None:
    rng, dense, possible = np.random.default_rng(0), 0, 0
    for _ in range(200):
        count, pairs = community(rng)
        crossing = {}
        for one in range(6, 11):  # the seam is where fewest edges cross
            if 6 <= count - one <= 10:
                crossing[one] = sum((i < one) != (j < one) for i, j in pairs)
        one = min(crossing, key=crossing.__getitem__)
        assert crossing[one] == 1
        dense += len(pairs) - 1
        possible += one * (one - 1) // 2 + (count - one) * (count - one - 1) // 2
    assert dense / possible == pytest.approx(0.7, abs=0.02)


def test_every_code_is_another_tree() -> None:
    """Cayley: there are n^(n-2) trees on n numbered nodes, and as many codes."""
    trees = {frozenset(map(frozenset, from_prufer(list(code)))) for code in itertools.product(range(5), repeat=3)}
    assert len(trees) == 5 ** 3
    shapes = Counter(canonical(Graph.of("aaaaa", [(i, j, "e") for i, j in map(sorted, map(tuple, edges))]))
                     for edges in trees)
    assert sorted(shapes.values()) == [5, 60, 60]  # the star, the path, the fork


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(RecipeError, match="did you mean 'trees'"):
        synthetic("tree", 1, 0)
    with pytest.raises(RecipeError, match="0 graphs"):
        synthetic("trees", 0, 0)
