"""Drawing graphs from a model, node by node, many at once; limits are kept at every decision.

`pytest tests/generation/test_graph_engine.py` runs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bottega.families.graph import GraphGenerator
from bottega.families.graph_prefix import FAR, prefixes

_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Limits:
    """What no graph may break, in a form that can be asked before each decision.

    Attributes:
        connected: every node but the first has an edge to one before it.
        one: … to exactly one: a tree.
        capacity: int64 [kinds], the largest sum of `order` of a node's edges, by its type; None: no limit.
        order: int64 [types], what an edge takes of both its ends.
    """

    connected: bool = False
    one: bool = False
    capacity: Tensor | None = None
    order: Tensor | None = None


@dataclass(slots=True)
class Drawn:
    """Graphs that were drawn: `nodes` int64 [B, n], `edges` int64 [B, n, n], `sizes` int64 [B], `nats` float32 [B]."""

    nodes: Tensor
    edges: Tensor
    sizes: Tensor
    nats: Tensor


class GraphSampler:
    """Draws graphs.

    Args:
        model: its best weights are used.
        limits: that are kept.
        temperature: of every decision; 0 takes the likeliest.
        size: nodes of every graph; None leaves it to the model.
    """

    def __init__(self, model: GraphGenerator, limits: Limits, *, temperature: float = 1.0,
                 size: int | None = None) -> None:
        self.model, self.network, self.limits = model, model.best, limits
        self.temperature, self.size = temperature, size
        # what the lightest edge takes: a node that has less left is closed, and without this would be waited for
        self._least = 0 if limits.order is None else int(limits.order.min())

    @torch.no_grad()
    def draw(self, count: int, rng: torch.Generator) -> Drawn:
        """Return `count` graphs; how many numbers `rng` gives depends on all of them, so they repeat together only."""
        config, device = self.model.config, self.network.kind.weight.device
        most = config.largest if self.size is None else self.size
        nodes = torch.zeros(count, most, dtype=torch.int64, device=device)
        edges = torch.zeros(count, most, most, dtype=torch.int64, device=device)
        sizes = torch.full((count,), most, device=device)
        nats = torch.zeros(count, device=device)
        alive = torch.arange(count, device=device)
        for step in range(most + 1):
            at = prefixes(nodes[alive], edges[alive], torch.arange(len(alive), device=device),
                          torch.full((len(alive),), step, device=device), config.types)
            x, context = self.network.read(at)
            free = self._free(nodes[alive, :step], edges[alive, :step, :step])
            logits = self._allow_kinds(self.network.node_logits(context, at.count), step, free, at.low)
            kind = self._pick(logits, rng, count, alive, nats)
            ended = kind == config.kinds
            sizes[alive[ended]] = step
            if step == most:
                break
            go = ~ended
            nodes[alive[go], step] = kind[go]
            alive = alive[go]
            if not len(alive):
                break
            if step:
                x = x.view(len(go), step, -1)[go]
                found = self._edges(x, context[go], kind[go], at.near[go][:, :step, :step], at.low[go],
                                    None if free is None else free[go], rng, count, alive, nats)
                edges[alive, step, :step] = found
                edges[alive, :step, step] = found
        return Drawn(nodes, edges, sizes, nats)

    def _free(self, nodes: Tensor, edges: Tensor) -> Tensor | None:
        """Return how much of its capacity every node has left, int64 [A, t]."""
        if self.limits.capacity is None or self.limits.order is None:
            return None
        cost = torch.cat([self.limits.order.new_zeros(1), self.limits.order])
        return self.limits.capacity[nodes] - cost[edges].sum(2)

    def _allow_kinds(self, logits: Tensor, step: int, free: Tensor | None, low: Tensor) -> Tensor:
        """Return logits with what may not follow at minus infinity."""
        if self.size is not None:
            logits[:, -1 if step < self.size else slice(-1)] = _NEVER
        if self.limits.capacity is not None and free is not None and self.limits.connected and step:
            open_ = (free >= self._least) & (torch.arange(step, device=low.device) >= low[:, None])
            full = ~open_.any(1)
            logits[:, :-1][:, self.limits.capacity < self._least] = _NEVER
            logits[full, :-1] = _NEVER
            logits[full, -1] = 0.0  # also where more nodes are asked for: the graph cannot grow
        return logits

    def _edges(self, x: Tensor, context: Tensor, kind: Tensor, between: Tensor, low: Tensor, free: Tensor | None,
               rng: torch.Generator, count: int, alive: Tensor, nats: Tensor) -> Tensor:
        """Return the edges of one more node of each graph, int64 [A, t], decided in order."""
        rows, step = x.size(0), x.size(1)
        types, device = self.model.config.types, x.device
        found = torch.zeros(rows, step, dtype=torch.int64, device=device)
        counts = torch.zeros(rows, types, device=device)
        near = torch.full((rows, step), FAR + 1, device=device)
        joined = torch.zeros_like(context)
        own = None if self.limits.capacity is None else self.limits.capacity[kind]
        open_ = torch.arange(step, device=device) >= low[:, None]
        if free is not None:
            open_ = open_ & (free >= self._least)
        last = step - 1 - open_.flip(1).int().argmax(1)  # the last node that could still be joined
        for node in range(int(low.min()), step):
            left = torch.full((rows,), step - 1 - node, device=device)
            logits = self.network.edge_logits(x[:, node], context, kind, counts, near[:, node], left, joined).clone()
            none = found[:, :node].amax(1) == 0 if node else torch.ones(rows, dtype=torch.bool, device=device)
            if own is not None and free is not None and self.limits.order is not None:
                room = torch.minimum(own, free[:, node])
                logits[:, 1:][room[:, None] < self.limits.order] = _NEVER
            if self.limits.one:
                logits[~none, 1:] = _NEVER
            logits[node < low, 1:] = _NEVER
            if self.limits.connected:
                logits[none & (last == node), 0] = _NEVER
            chosen = self._pick(logits, rng, count, alive, nats)
            found[:, node] = chosen
            some = chosen > 0
            if some.any():
                which = some.nonzero()[:, 0]
                counts[which, chosen[which] - 1] += 1
                near[which] = torch.minimum(near[which], between[which, node])
                joined[which] += self.network.joining(x[which, node], chosen[which])
                if own is not None and self.limits.order is not None:
                    own[which] -= self.limits.order[chosen[which] - 1]
        return found

    def _pick(self, logits: Tensor, rng: torch.Generator, count: int, alive: Tensor, nats: Tensor) -> Tensor:
        """Return a choice a row, int64 [A], and add its -log p to `nats`; every graph has a number of its own."""
        numbers = torch.rand(count, generator=rng, dtype=torch.float64).to(logits.device)[alive]
        if self.temperature == 0:
            chosen = logits.argmax(1)
        else:
            edges = (logits.double() / self.temperature).softmax(1).cumsum(1)
            chosen = torch.searchsorted(edges, numbers[:, None] * edges[:, -1:], right=True)[:, 0]
            # rounding can only point behind the last possible choice
            chosen = torch.minimum(chosen, (logits > _NEVER).int().mul(torch.arange(
                logits.size(1), device=logits.device)).amax(1))
        nats[alive] -= logits.log_softmax(1).gather(1, chosen[:, None])[:, 0]
        return chosen
