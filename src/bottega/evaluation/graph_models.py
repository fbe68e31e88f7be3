"""Random graphs that a learned generator must beat; `pytest tests/evaluation/test_graph_models.py`.

Both take the number of nodes from the training graphs and know nothing of their shape. Types of nodes and edges are
drawn one by one, as often as in training.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bottega.core.errors import InputError
from bottega.core.graph import Graph
from bottega.evaluation.graph_distances import drawn, mmd

_FITTED = 200  # graphs on which the number of edges of a new node is chosen


class RandomGraphs(Protocol):
    """A fitted distribution of graphs."""

    def sample(self, count: int, seed: int) -> list[Graph]:
        """Draw graphs; the same seed gives the same ones."""
        ...


@dataclass(frozen=True)
class Labels:
    """How often each type of node and of edge is there, and how many nodes graphs have, one entry a graph."""

    nodes: dict[str, float]
    edges: dict[str, float]
    sizes: list[int]

    @staticmethod
    def of(graphs: Sequence[Graph]) -> Labels:
        """Count them.

        Raises:
            InputError: no graph is given.
        """
        if not graphs:
            raise InputError("random graphs cannot be fitted to no graph", fix="give the training graphs")
        nodes = Counter(kind for graph in graphs for kind in graph.nodes)
        edges = Counter(kind for graph in graphs for *_, kind in graph.edges)
        return Labels({kind: count / nodes.total() for kind, count in nodes.items()},
                      {kind: count / edges.total() for kind, count in edges.items()}, [len(graph) for graph in graphs])

    def put_on(self, count: int, pairs: Sequence[tuple[int, int]], rng: np.random.Generator) -> Graph:
        """Return a graph with these edges and types drawn for each."""
        nodes = rng.choice(list(self.nodes), count, p=list(self.nodes.values())).tolist()
        kinds = rng.choice(list(self.edges), len(pairs), p=list(self.edges.values())).tolist() if pairs else []
        return Graph.of(nodes, [(*pair, kind) for pair, kind in zip(pairs, kinds, strict=True)])


@dataclass(frozen=True)
class ErdosRenyi:
    """Every two nodes are joined with one probability, the most likely one for graphs of this size (Gilbert 1959).

    Attributes:
        labels: types and sizes.
        shares: number of nodes → probability of an edge.
    """

    labels: Labels
    shares: dict[int, float]

    @staticmethod
    def fit(graphs: Sequence[Graph]) -> ErdosRenyi:
        """Count edges and pairs of nodes.

        Raises:
            InputError: no graph is given.
        """
        labels = Labels.of(graphs)
        edges: defaultdict[int, int] = defaultdict(int)
        for graph in graphs:
            edges[len(graph)] += len(graph.edges)
        return ErdosRenyi(labels, {size: edges[size] / max(1, count * size * (size - 1) // 2)
                                   for size, count in Counter(labels.sizes).items()})

    def sample(self, count: int, seed: int) -> list[Graph]:
        """Draw graphs; the same seed gives the same ones."""
        rng = np.random.default_rng(seed)
        made = []
        for size in rng.choice(self.labels.sizes, count).tolist():
            rows, columns = np.triu_indices(size, 1)
            use = rng.random(len(rows)) < self.shares[size]
            made.append(self.labels.put_on(size, list(zip(rows[use].tolist(), columns[use].tolist(), strict=True)),
                                           rng))
        return made


@dataclass(frozen=True)
class BarabasiAlbert:
    """Nodes come one by one and are joined to `links` others, the more likely the more neighbours these have.

    Barabási & Albert, "Emergence of scaling in random networks", 1999; the first links + 1 nodes are a star.

    Attributes:
        labels: types and sizes.
        links: edges of a new node.
    """

    labels: Labels
    links: int

    @staticmethod
    def fit(graphs: Sequence[Graph], *, seed: int = 0) -> BarabasiAlbert:
        """Choose the links whose degrees are nearest to those of the training graphs (a sample of at most 200).

        Raises:
            InputError: no graph is given.
        """
        labels = Labels.of(graphs)
        some = drawn(graphs, _FITTED, np.random.default_rng(seed))
        # n nodes have about links × n edges: no more links than the densest graph has edges a node can be nearest
        most = max(1, *(-(-len(graph.edges) // len(graph)) + 1 for graph in some))
        return min((BarabasiAlbert(labels, links) for links in range(1, most + 1)),
                   key=lambda model: mmd(model.sample(len(some), seed), some, "degree"))

    def sample(self, count: int, seed: int) -> list[Graph]:
        """Draw graphs; the same seed gives the same ones."""
        rng = np.random.default_rng(seed)
        return [self.labels.put_on(size, _grown(size, self.links, rng), rng)
                for size in rng.choice(self.labels.sizes, count).tolist()]


def _grown(size: int, links: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    links = min(links, size - 1)
    pairs = [(0, leaf) for leaf in range(1, links + 1)]
    degree = np.bincount(np.array(pairs, np.int64).reshape(-1), minlength=size).astype(np.float64)
    for node in range(links + 1, size):
        chosen = rng.choice(node, links, replace=False, p=degree[:node] / degree[:node].sum())
        pairs += [(int(other), node) for other in chosen]
        degree[chosen] += 1
        degree[node] = links
    return pairs
