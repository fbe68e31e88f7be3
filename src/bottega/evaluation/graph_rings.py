"""Sizes of the smallest rings of a graph; `pytest tests/evaluation/test_graph_rings.py`.

Of all sets of rings from which every other ring is a sum, one with the smallest total length is taken; its sizes are
the same for all such sets. Candidates and choice as in Horton, "A polynomial-time algorithm to find the shortest cycle
basis of a graph", 1987. Chemists call it the smallest set of smallest rings.
"""

from __future__ import annotations

from collections import deque

from bottega.core.graph import Graph


def ring_sizes(graph: Graph) -> list[int]:
    """Return how many nodes each ring has, smallest first; as many rings as edges beyond a forest."""
    wanted = len(graph.edges) - len(graph) + len(graph.components())
    if not wanted:
        return []
    bit = {edge[:2]: 1 << number for number, edge in enumerate(graph.edges)}
    found: list[int] = []
    reduced: dict[int, int] = {}  # highest edge → ring, a sum of rings taken so far
    for size, ring in _candidates(graph, bit):
        while ring and ring.bit_length() in reduced:
            ring ^= reduced[ring.bit_length()]
        if ring:  # no sum of shorter ones
            reduced[ring.bit_length()] = ring
            found.append(size)
            if len(found) == wanted:
                break
    return found


def _candidates(graph: Graph, bit: dict[tuple[int, int], int]) -> list[tuple[int, int]]:
    """Return size and edges (as bits) of the rings of an edge and shortest paths from a node to its ends."""
    rings = set()
    for start in range(len(graph)):
        nodes, edges = _shortest(graph, start, bit)
        for (one, other), mark in bit.items():
            if one in nodes and nodes[one] & nodes[other] == 1 << start:
                ring = edges[one] ^ edges[other] ^ mark
                size = ring.bit_count()
                if size > 2 and not (edges[one] | edges[other]) & mark:
                    rings.add((size, ring))
    return sorted(rings)


def _shortest(graph: Graph, start: int, bit: dict[tuple[int, int], int]) -> tuple[dict[int, int], dict[int, int]]:
    """Return the nodes and the edges, as bits, on a shortest path from `start` to each node that it reaches."""
    nodes, edges, queue = {start: 1 << start}, {start: 0}, deque([start])
    while queue:
        here = queue.popleft()
        for there in graph.neighbours[here]:
            if there not in nodes:
                nodes[there] = nodes[here] | 1 << there
                edges[there] = edges[here] | bit[min(here, there), max(here, there)]
                queue.append(there)
    return nodes, edges
