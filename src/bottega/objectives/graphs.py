"""Training on graphs: every node is predicted from those before it (`bottega train recipes/communities-graph.yaml`).

Each time a graph is seen its nodes stand in another breadth-first order, from a node at its rim, so that few are open
at a time. Held-out graphs are always seen in the same orders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bottega.core.errors import DataError
from bottega.core.validate import Strict
from bottega.data.graphs.dataset import Coded
from bottega.data.order import Permutation
from bottega.families.base import Batch, Loss
from bottega.families.graph import GraphGenerator

_HELD_OUT = 256  # graphs a validation looks at, at most
_LOOKS = 2       # orders that each of a few held-out graphs is seen in


class Settings(Strict):
    """Keys of `objective` besides `kind`: there are none."""


class Graphs(Protocol):
    """What is needed of a dataset; `data.graphs.dataset.GraphDataset` keeps it."""

    def coded(self, split: Any) -> Sequence[Coded]:
        """Return the graphs of a split."""


def dense(graphs: Sequence[Coded], rngs: Sequence[np.random.Generator]) -> Batch:
    """Return graphs as a batch (see `GraphGenerator`), each in a random breadth-first order of its own generator."""
    most = max(len(graph.nodes) for graph in graphs)
    nodes = np.zeros((len(graphs), most), np.int64)
    edges = np.zeros((len(graphs), most, most), np.int64)
    for row, (graph, rng) in enumerate(zip(graphs, rngs, strict=True)):
        size = len(graph.nodes)
        matrix = np.zeros((size, size), np.int64)
        matrix[graph.edges[:, 0], graph.edges[:, 1]] = graph.edges[:, 2]
        matrix += matrix.T
        order = breadth_first(matrix, rng)
        nodes[row, :size] = graph.nodes[order]
        edges[row, :size, :size] = matrix[np.ix_(order, order)]
    return {"nodes": torch.from_numpy(nodes), "edges": torch.from_numpy(edges),
            "sizes": torch.tensor([len(graph.nodes) for graph in graphs])}


def breadth_first(matrix: NDArray[np.int64], rng: np.random.Generator) -> list[int]:
    """Return the nodes of a graph in a random breadth-first order, part after part, each from a node at its rim.

    A node at the rim is one of the farthest from a random one.

    Args:
        matrix: [n, n], what is not 0 joins.
        rng: of start and order.
    """
    near = [np.flatnonzero(row).tolist() for row in matrix]
    keys = rng.random(len(near)).tolist()
    order: list[int] = []
    seen = [False] * len(near)
    for first in sorted(range(len(near)), key=keys.__getitem__):
        if not seen[first]:
            order += _walk(_walk(first, near, keys, list(seen))[-1], near, keys, seen)
    return order


def _walk(start: int, near: list[list[int]], keys: list[float], seen: list[bool]) -> list[int]:
    found, seen[start] = [start], True
    for node in found:
        for other in sorted((other for other in near[node] if not seen[other]), key=keys.__getitem__):
            seen[other] = True
            found.append(other)
    return found


class GraphTraining:
    """Graphs in a keyed order.

    Args:
        generator: the model.
        dataset: both splits.
        batch: graphs an optimiser step.
        micro_batch: graphs a forward pass.
        seed: of the order of graphs and of their nodes.

    Raises:
        DataError: a split is empty.
    """

    kind = "graphs"

    def __init__(self, generator: GraphGenerator, dataset: Graphs, *, batch: int, micro_batch: int, seed: int) -> None:
        self.generator, self.seed = generator, seed
        self._graphs = {split: dataset.coded(split) for split in ("train", "validation")}
        for split, graphs in self._graphs.items():
            if not len(graphs):
                raise DataError(f"the {split} split holds no graphs", where="data", fix="change data.validation")
        self.count = len(self._graphs["train"])
        self.rows, self.micro_batch = batch, micro_batch

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Return the generator's players."""
        return self.generator.players()

    def batch(self, step: int) -> list[Batch]:
        """Return the micro-batches of a step; see `GraphGenerator` for keys and shapes."""
        found = []
        for first in range(step * self.rows, (step + 1) * self.rows, self.micro_batch):
            places = np.arange(first, min(first + self.micro_batch, (step + 1) * self.rows), dtype=np.int64)
            rows = [int(Permutation(self.count, self.seed, int(place // self.count)).take(
                np.array([place % self.count]))[0]) for place in places]
            rngs = [np.random.default_rng([self.seed, int(place)]) for place in places]
            found.append(self._to_device(dense([self._graphs["train"][row] for row in rows], rngs)))
        return found

    def _to_device(self, batch: Batch) -> Batch:
        device = self.generator.network.kind.weight.device
        return {name: tensor.to(device) for name, tensor in batch.items()}

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return the model's loss."""
        return self.generator.loss(batch, player)

    def validation(self) -> Iterator[Batch]:
        """Yield fixed held-out graphs in fixed orders; few are seen in several."""
        whole = len(self._graphs["validation"])
        count = min(whole, _HELD_OUT)
        looks = max(1, min(_LOOKS, _HELD_OUT // count))
        picked = [self._graphs["validation"][row * whole // count] for row in range(count)]
        for look in range(looks):
            for first in range(0, count, self.micro_batch):
                part = picked[first:first + self.micro_batch]
                rngs = [np.random.default_rng([self.seed, 2**31, look, first + row]) for row in range(len(part))]
                yield self._to_device(dense(part, rngs))

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        """Return nats a graph, those of nodes and edges, and those of the best weights so far, which are kept."""
        loss = totals["loss"] / weight
        self.generator.judge(loss)
        return {"nats": loss, "best": float(self.generator.best_loss), "nodes": totals["nodes"] / weight,
                "edges": totals["edges"] / weight}

    def tokens(self, batch: Batch) -> int:
        """Return how many graphs a micro-batch holds."""
        return len(batch["sizes"])
