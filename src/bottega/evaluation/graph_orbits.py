"""How often each node of a graph plays each part in small subgraphs; `pytest tests/evaluation/test_graph_orbits.py`.

Parts are the 15 orbits of the connected graphs of 2 to 4 nodes, numbered as in Pržulj, "Biological network comparison
using graphlet degree distribution", 2007; subgraphs are induced. No subgraph is listed: subgraphs that may have
further edges are counted from products of the adjacency matrix, and the denser ones taken off again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bottega.core.graph import Graph

ORBITS = 15
Counts = NDArray[np.int64]


def adjacency(graph: Graph) -> Counts:
    """Return the symmetric matrix of edges whatever their type, 0 or 1: int64 [N, N]."""
    matrix = np.zeros((len(graph), len(graph)), np.int64)
    for one, other, _ in graph.edges:
        matrix[one, other] = matrix[other, one] = 1
    return matrix


def triangles(near: Counts) -> Counts:
    """Return for each edge of an adjacency matrix how many triangles it is a side of, else 0: int64 [N, N]."""
    return np.asarray(near * _product(near, near), np.int64)


def orbits(graph: Graph) -> Counts:
    """Return how often each node is in each orbit: int64 [N, 15].

    0 edge; 1 end, 2 middle of a path of three; 3 triangle; 4 end, 5 inner node of a path of four; 6 leaf, 7 centre of
    a star of four; 8 cycle of four; 9 tail, 10 far node, 11 joint of a triangle with a tail; 12 outer, 13 inner node
    of two triangles with a common side; 14 four nodes all joined.
    """
    near = adjacency(graph)
    degree, walks, sides = near.sum(1), _product(near, near), triangles(near)
    around = sides.sum(1) // 2  # triangles at a node
    found = np.zeros((len(graph), ORBITS), np.int64)
    found[:, 0] = degree
    found[:, 1] = near @ (degree - 1) - 2 * around
    found[:, 2] = _pairs(degree) - around
    found[:, 3] = around
    whole = _complete(near)
    # Of each kind first all subgraphs that hold it, whatever other edges they have; then those of the denser kinds go,
    # as many times as each of them holds this one with the node in the same part.
    inner = (near * _pairs(sides)).sum(1) - 3 * whole
    outer = (_product(near, near * (sides - 1)) * near).sum(1) // 2 - 3 * whole
    joint = around * (degree - 2) - 2 * inner - 3 * whole
    far = sides @ (degree - 2) - 2 * outer - 2 * inner - 6 * whole
    tail = near @ around - sides.sum(1) - 2 * outer - 3 * whole
    apart = walks * (1 - np.eye(len(graph), dtype=np.int64))
    cycle = _pairs(apart).sum(1) - outer - inner - 3 * whole
    found[:, 7] = degree * (degree - 1) * (degree - 2) // 6 - joint - inner - whole
    found[:, 6] = near @ _pairs(degree - 1) - tail - far - 2 * outer - inner - 3 * whole
    inside = (degree - 1) * (near @ (degree - 1)) - sides.sum(1)
    found[:, 5] = inside - 2 * cycle - far - 2 * joint - 2 * outer - 4 * inner - 6 * whole
    ends = (apart * (degree - 1 - near)).sum(1)
    found[:, 4] = ends - 2 * cycle - 2 * tail - far - 4 * outer - 2 * inner - 6 * whole
    found[:, 8:] = np.stack([cycle, tail, far, joint, outer, inner, whole], 1)
    return found


def _pairs(count: Counts) -> Counts:
    return np.asarray(count * (count - 1) // 2, np.int64)


def _product(one: Counts, other: Counts) -> Counts:
    """Multiply by the fast routine for floats; entries stay far below 2⁵³, so that nothing is rounded."""
    return np.rint(one.astype(np.float64) @ other.astype(np.float64)).astype(np.int64)


def _complete(near: Counts) -> Counts:
    """Return for each node in how many sets of four joined nodes it is: triangles among its neighbours. int64 [N]."""
    found = np.zeros(len(near), np.int64)
    for node, row in enumerate(near):
        around = np.flatnonzero(row)
        found[node] = triangles(near[np.ix_(around, around)]).sum() // 6
    return found
