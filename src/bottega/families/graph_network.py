"""The network of the graph generator: message passing over a prefix, and two heads, for the next node and its edges.

Messages run along edges, one matrix a type of edge, and are summed (relational graph convolutions: Schlichtkrull et
al. 2018, arXiv 1703.06103; sums tell multisets apart: Xu et al. 2019, arXiv 1810.00826); every node also hears the
mean of all. `pytest tests/families/test_graph_family.py` runs it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bottega.families.graph_prefix import FAR, FEATURES, Prefixes

_AGES = 16     # nodes since a node was added, from which on it is old
_DEGREES = 12  # edges of the next node, from which on they are many


class _Layer(nn.Module):
    """x + W2 dropout(silu(W1 [norm(x), messages, mean]))."""

    def __init__(self, width: int, types: int, drop: float) -> None:
        super().__init__()
        self.types, self.norm, self.drop = types, nn.LayerNorm(width), nn.Dropout(drop)
        self.message = nn.Linear(width, types * width, bias=False)
        self.wide, self.back = nn.Linear(3 * width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, at: Prefixes) -> Tensor:
        """Return float [N, width]."""
        y = self.norm(x)
        sent = self.message(y).view(x.size(0), self.types, x.size(1))[at.ends[0], at.bonds]
        heard = torch.zeros_like(y).index_add_(0, at.ends[1], sent)
        everyone = mean(y, at)[at.owner]
        found: Tensor = x + self.back(self.drop(functional.silu(self.wide(torch.cat([y, heard, everyone], 1)))))
        return found


def mean(x: Tensor, at: Prefixes) -> Tensor:
    """Return the mean over the nodes of each prefix, float [P, width]; 0 for an empty one."""
    total = x.new_zeros(at.count.size(0), x.size(1)).index_add_(0, at.owner, x)
    return total / at.count.clamp_min(1)[:, None]


class GraphNetwork(nn.Module):
    """Message passing and heads.

    Args:
        kinds: of nodes.
        types: of edges.
        largest: nodes of a graph, at most.
        width: of all layers.
        depth: rounds of messages.
        drop: share of units left out in training.
    """

    def __init__(self, kinds: int, types: int, largest: int, width: int, depth: int, drop: float) -> None:
        super().__init__()
        self.types, self.width = types, width
        self.kind, self.age = nn.Embedding(kinds, width), nn.Embedding(_AGES, width)
        self.enter = nn.Linear(types + FEATURES, width)
        self.layers = nn.ModuleList(_Layer(width, types, drop) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.size = nn.Embedding(largest + 1, width)
        self.whole = nn.Linear(2 * width, width)
        self.next_kind = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Dropout(drop),
                                       nn.Linear(width, kinds + 1))
        self.next = nn.Embedding(kinds, width)
        self.here, self.context = nn.Linear(width, width), nn.Linear(width, width)
        self.joined = nn.Linear(width, types * width, bias=False)
        self.counted = nn.Embedding(_DEGREES * types, width)
        self.near, self.left = nn.Embedding(FAR + 2, width), nn.Embedding(_AGES, width)
        self.edge = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Dropout(drop),
                                  nn.Linear(width, types + 1))

    def read(self, at: Prefixes) -> tuple[Tensor, Tensor]:
        """Return what is known of every place, float [N, width], and of every prefix, float [P, width]."""
        age = (at.count[at.owner] - 1 - at.node).clamp_max(_AGES - 1)
        x = self.kind(at.kinds) + self.age(age) + self.enter(at.features)
        for layer in self.layers:
            x = layer(x, at)
        x = self.norm(x)
        last = x.new_zeros(at.count.size(0), x.size(1))
        some = at.count > 0
        last[some] = x[(at.count.cumsum(0) - 1)[some]]
        return x, self.whole(torch.cat([mean(x, at), last], 1)) + self.size(at.count)

    def node_logits(self, context: Tensor, count: Tensor) -> Tensor:
        """Return logits of the next node's type, the last one for the end of the graph, float [P, kinds + 1].

        No graph is empty and none grows beyond the largest: what cannot follow is at minus infinity, so that the
        probabilities of all graphs add up to 1.

        Args:
            context: of the prefixes, float [P, width].
            count: their nodes, int64 [P].
        """
        found: Tensor = self.next_kind(context)
        end = torch.arange(found.size(1), device=found.device) == found.size(1) - 1
        full = count >= self.size.num_embeddings - 1
        return found.masked_fill((count == 0)[:, None] & end | full[:, None] & ~end, float("-inf"))

    def joining(self, x: Tensor, target: Tensor) -> Tensor:
        """Return what an edge to a node adds to the decisions after it, float [N, width]; 0 for no edge.

        Args:
            x: of the nodes, float [N, width].
            target: int64 [N], 0 for no edge, else its type counted from 1.
        """
        weight = self.joined.weight.view(self.types, self.width, -1)
        found = x.new_zeros(x.size(0), self.width)
        for kind in range(self.types):
            which = (target == kind + 1).nonzero()[:, 0]
            found = found.index_put((which,), x[which] @ weight[kind].T)
        return found

    def edge_logits(self, x: Tensor, context: Tensor, kind: Tensor, counts: Tensor, near: Tensor, left: Tensor,
                    joined: Tensor) -> Tensor:
        """Return logits of the edge between the next node and one before it, float [N, types + 1]; the first: none.

        Args:
            x: of the node before, float [N, width].
            context: of the prefix, float [N, width].
            kind: of the next node, int64 [N].
            counts: its edges so far by type, float [N, types].
            near: distance to the nearest node it is joined to, int64 [N].
            left: nodes whose edges to it are decided after this one, int64 [N].
            joined: sum of `joining` over the nodes before, float [N, width].
        """
        place = counts.long().clamp_max(_DEGREES - 1) + torch.arange(self.types, device=x.device) * _DEGREES
        found: Tensor = self.edge(self.here(x) + self.context(context + self.next(kind)) + self.counted(place).sum(1)
                                  + self.near(near) + self.left(left.clamp_max(_AGES - 1)) + joined)
        return found
