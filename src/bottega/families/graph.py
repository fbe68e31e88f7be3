"""Graphs, node by node: a message-passing network decides each node's type and its edges to the nodes before it.

    bottega train recipes/communities-graph.yaml

p(graph, order) is a product: the type of node t given the graph of the nodes before it (or the end), then each edge of
t to nodes 0, 1, … given that graph and the edges of t decided so far. No decision is taken apart from the others, as in
"Learning Deep Generative Models of Graphs" (Li et al. 2018, arXiv 1803.03324); orders are breadth first, as in GraphRNN
(You et al. 2018, arXiv 1802.08773), so that most edges need no decision. In training all decisions of a graph are
scored at once, each beside the graph as it was then. The loss bounds -log p(graph) from above, up to the number of its
orders.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from bottega.core.errors import RecipeError
from bottega.core.validate import validate
from bottega.families import base
from bottega.families.base import Batch, Loss
from bottega.families.best import KeepsBest
from bottega.families.graph_network import GraphNetwork
from bottega.families.graph_prefix import Prefixes, before, prefixes

FACTS = ("kinds", "types", "largest")


class GraphConfig(base.Config):
    """Facts of the graphs, and the dial.

    Attributes:
        kinds: types of nodes.
        types: types of edges.
        largest: nodes of a graph, at most.
        depth: rounds of messages.
        width: of the network.
        drop: share of units left out in training.
        ema: largest decay of the averaged weights, which are judged and used.
    """

    kinds: int = Field(ge=1)
    types: int = Field(ge=1)
    largest: int = Field(ge=1)
    depth: int = Field(ge=1, le=32)
    width: int = Field(ge=8, le=2048)
    drop: float = Field(default=0.0, ge=0, lt=1)
    ema: float = Field(default=0.995, ge=0, lt=1)

    # Graphs have other facts than texts.
    @staticmethod
    def derive(depth: int, facts: dict[str, Any],  # type: ignore[override]
               overrides: dict[str, Any] | None = None) -> GraphConfig:
        """Fill in a whole configuration; width 24 x depth.

        Raises:
            RecipeError: an unknown key, a bad value, or a fact given as a key.
        """
        overrides = overrides or {}
        for key in FACTS:
            if key in overrides:
                raise RecipeError(f"'{key}' of a model of graphs is decided by the graphs", where="generator",
                                  fix="leave it out; the codec sets it")
        return validate(GraphConfig, {"width": 24 * depth, **overrides, **facts, "depth": depth},
                        where="generator (graph)")

    def derived(self) -> dict[str, Any]:
        """Return the settings to print."""
        return {"node types": self.kinds, "edge types": self.types, "depth": self.depth, "width": self.width}


class GraphGenerator(KeepsBest):
    """The model.

    A batch holds `nodes` int64 [B, n] (types), `edges` int64 [B, n, n] (symmetric; 0 none, else the type counted from
    1) and `sizes` int64 [B], each graph's nodes in a breadth-first order.
    """

    family: ClassVar[str] = "graph"
    Config: ClassVar[type[base.Config]] = GraphConfig
    understands: ClassVar[frozenset[str]] = frozenset({"rows", "nodes", "seed", "temperature"})
    trained: ClassVar[str] = "network"
    config: GraphConfig
    best: GraphNetwork

    def __init__(self, config: GraphConfig) -> None:
        super().__init__(config)
        self.network = GraphNetwork(config.kinds, config.types, config.largest, config.width, config.depth, config.drop)
        self._keep(config.ema)

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return nats a graph: of its nodes and of its edges."""
        nodes, edges, sizes = batch["nodes"], batch["edges"], batch["sizes"]
        graph = torch.repeat_interleave(torch.arange(nodes.size(0), device=nodes.device), sizes + 1)
        first = (sizes + 1).cumsum(0) - sizes - 1
        at = prefixes(nodes, edges, graph, torch.arange(graph.size(0), device=graph.device) - first[graph],
                      self.config.types)
        network: GraphNetwork = self.network if self.training else self.average.shadow  # type: ignore[assignment]
        x, context = network.read(at)
        done = at.count == sizes[graph]
        kind = torch.where(done, self.config.kinds, nodes[graph, at.count.clamp_max(nodes.size(1) - 1)])
        of_nodes = functional.cross_entropy(network.node_logits(context, at.count), kind, reduction="sum")
        of_edges = self._edge_nats(network, x, context, kind, at, edges)
        weight = torch.tensor(float(nodes.size(0)), device=nodes.device)
        return Loss(of_nodes + of_edges, weight, {"nodes": of_nodes.detach(), "edges": of_edges.detach()})

    def _edge_nats(self, network: GraphNetwork, x: Tensor, context: Tensor, kind: Tensor, at: Prefixes,
                   edges: Tensor) -> Tensor:
        """Return the summed -log p of all edges of every prefix's next node."""
        size = edges.size(1)
        targets = edges[at.graph, at.count.clamp_max(size - 1)]
        targets = targets * (torch.arange(size, device=edges.device) < at.count[:, None])
        counts, near = before(targets, at.near, self.config.types)
        target = targets[at.owner, at.node]
        added = x.new_zeros(at.count.size(0), size, x.size(1)).index_put((at.owner, at.node),
                                                                         network.joining(x, target))
        joined = (added.cumsum(1) - added)[at.owner, at.node]
        asked = (kind[at.owner] < self.config.kinds) & (at.node >= at.low[at.owner])
        rows, owner, node = asked.nonzero()[:, 0], at.owner[asked], at.node[asked]
        logits = network.edge_logits(x[rows], context[owner], kind[owner], counts[owner, node], near[owner, node],
                                     at.count[owner] - 1 - node, joined[rows])
        return functional.cross_entropy(logits, target[rows], reduction="sum")

    def flops_per_item(self, context: int) -> float:
        """Return operations of a forward pass for a graph of the largest size."""
        width, places = self.config.width, self.config.largest * (self.config.largest + 1) / 2
        return 2.0 * places * width**2 * (self.config.depth * (8 + self.config.types) + 3 + self.config.types)
