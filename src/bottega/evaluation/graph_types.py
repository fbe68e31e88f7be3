"""How often types of nodes and edges and sizes of rings are there; `pytest tests/evaluation/test_graphs.py`.

Distances are total variations: the share of nodes (edges, rings) that would have to be of another type. Each stands
beside its floor, as in graph_distances.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from bottega.core.graph import Graph
from bottega.evaluation.graph_distances import MOST, Distance, drawn, split
from bottega.evaluation.graph_rings import ring_sizes

Counted = Callable[[Graph], Counter[str]]


def node_types(graph: Graph) -> Counter[str]:
    """Count the nodes of each type."""
    return Counter(graph.nodes)


def edge_types(graph: Graph) -> Counter[str]:
    """Count the edges of each type."""
    return Counter(kind for *_, kind in graph.edges)


def rings(graph: Graph) -> Counter[str]:
    """Count the smallest rings of each size; a graph without rings counts as one of size `none`."""
    return Counter(map(str, ring_sizes(graph))) or Counter({"none": 1})


TYPES: dict[str, tuple[Counted, str]] = {
    "node types": (node_types, "share of nodes that would have to be of another type"),
    "edge types": (edge_types, "share of edges that would have to be of another type"),
    "ring sizes": (rings, "share of smallest rings that would have to be of another size")}


def type_distance(name: str, made: Sequence[Graph], real: Sequence[Graph], *, fresh: Sequence[Graph] = (),
                  seed: int = 0) -> Distance:
    """Measure how far made graphs are from real ones by one of `TYPES`.

    Args:
        name: key of `TYPES`.
        made: one graph or more; at most 1,000 of each set, drawn at random, are counted.
        real: two graphs or more that the model was not trained on.
        fresh: more real graphs, for the floor, as in `graph_distances`.
        seed: of samples and splits.
    """
    count, about = TYPES[name]
    rng = np.random.default_rng(seed)
    made, real, fresh = (drawn(graphs, MOST, rng) for graphs in (made, real, fresh))
    table = _table([count(graph) for graph in (*real, *fresh, *made)])
    pool, here = table[:len(real) + len(fresh)], table[len(real) + len(fresh):]
    floors = [_apart(pool[one], pool[other]) for one, other in split(len(made), len(real), len(fresh), rng)]
    return Distance(name, _apart(here, pool[:len(real)]), fmean(floors), float(np.quantile(floors, 0.95)), about=about)


def _table(counts: Sequence[Counter[str]]) -> NDArray[np.int64]:
    place = {kind: number for number, kind in enumerate(sorted(set().union(*counts)))}
    found = np.zeros((len(counts), len(place)), np.int64)
    for row, counter in enumerate(counts):
        for kind, many in counter.items():
            found[row, place[kind]] = many
    return found


def _apart(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Return the total variation of two sets; of one with nothing in it, such as no edge, from another: 1."""
    left, right = one.sum(0), other.sum(0)
    if not left.any() or not right.any():
        return float(left.any() != right.any())
    return float(np.abs(left / left.sum() - right / right.sum()).sum() / 2)
