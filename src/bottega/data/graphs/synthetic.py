"""Graphs drawn from known distributions, to prove a model on: communities, grids and trees.

`pytest tests/data/test_graph_synthetic.py` runs it.

Nodes come in random order: no model can profit from the order in which they were made.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bottega.core.errors import RecipeError, suggest
from bottega.core.graph import Graph

NODE, EDGE = "node", "edge"
COMMUNITY = (6, 10)  # nodes of each of two communities: 12 to 20 in all
INSIDE, BETWEEN = 0.7, 0.05  # probability of an edge inside one; edges from one to the other, per node of the graph
SIDE = (3, 7)  # nodes along a side of a grid: 15 different grids of 9 to 49 nodes
TREE = (8, 24)  # nodes of a tree

Pairs = list[tuple[int, int]]


def synthetic(kind: str, count: int, seed: int) -> list[Graph]:
    """Draw graphs with nodes of type `node` and edges of type `edge`.

    The first graphs of a seed are the same for every count.

    Args:
        kind: `communities`, `grids` or `trees`.
        count: how many.
        seed: the same seed gives the same graphs.

    Raises:
        RecipeError: there is no such kind, or `count` is not positive.
    """
    if kind not in KINDS:
        raise RecipeError(f"'{kind}' is no kind of synthetic graphs", fix=suggest(kind, KINDS))
    if count < 1:
        raise RecipeError(f"{count} graphs cannot be drawn", fix="ask for 1 or more")
    rng = np.random.default_rng(seed)
    return [_graph(*KINDS[kind](rng), rng) for _ in range(count)]


def community(rng: np.random.Generator) -> tuple[int, Pairs]:
    """Draw two dense random graphs, each in one part, and join them by few edges; return node count and edges.

    As the small community graphs of You et al., "GraphRNN", 2018 and those who compare with it: 12 to 20 nodes, edges
    inside with probability .7, between them 5 % of the node count, at least one.
    """
    sizes = rng.integers(COMMUNITY[0], COMMUNITY[1], 2, endpoint=True)
    left, right = (_dense(int(size), rng) for size in sizes)
    one, count = int(sizes[0]), int(sizes.sum())
    links = rng.choice(one * (count - one), max(1, round(BETWEEN * count)), replace=False)
    return count, [*left, *((one + i, one + j) for i, j in right),
                   *((int(link) % one, one + int(link) // one) for link in links)]


def grid(rng: np.random.Generator) -> tuple[int, Pairs]:
    """Draw the sides of a rectangle of nodes, each joined to those beside it; return node count and edges."""
    height, width = map(int, rng.integers(SIDE[0], SIDE[1], 2, endpoint=True))
    number = np.arange(height * width).reshape(height, width)
    ends = [(number[:, :-1], number[:, 1:]), (number[:-1], number[1:])]
    return height * width, [(int(i), int(j)) for one, other in ends
                            for i, j in zip(one.ravel(), other.ravel(), strict=True)]


def tree(rng: np.random.Generator) -> tuple[int, Pairs]:
    """Draw one of all trees on numbered nodes, each as likely (Prüfer 1918); return node count and edges."""
    count = int(rng.integers(TREE[0], TREE[1], endpoint=True))
    return count, from_prufer(rng.integers(0, count, count - 2).tolist())


def from_prufer(code: list[int]) -> Pairs:
    """Return the edges of the tree on len(code) + 2 nodes with this Prüfer code, one to one.

    Each number of the code in turn is joined to the smallest node that is a leaf of what is left.
    """
    count = len(code) + 2
    degree = [1 + code.count(node) for node in range(count)]
    edges: Pairs = []
    for node in code:
        leaf = degree.index(1)
        edges.append((leaf, node))
        degree[leaf] -= 1
        degree[node] -= 1
    edges.append((degree.index(1), count - 1))
    return edges


KINDS: dict[str, Callable[[np.random.Generator], tuple[int, Pairs]]] = {
    "communities": community, "grids": grid, "trees": tree}


def _dense(count: int, rng: np.random.Generator) -> Pairs:
    """Draw edges until all nodes are in one part."""
    rows, columns = np.triu_indices(count, 1)
    while True:
        use = rng.random(len(rows)) < INSIDE
        pairs = [(int(i), int(j)) for i, j in zip(rows[use], columns[use], strict=True)]
        if len(_typed(count, pairs).components()) == 1:
            return pairs


def _graph(count: int, pairs: Pairs, rng: np.random.Generator) -> Graph:
    return _typed(count, pairs).permuted(rng.permutation(count).tolist())


def _typed(count: int, pairs: Pairs) -> Graph:
    return Graph.of([NODE] * count, [(i, j, EDGE) for i, j in pairs])
