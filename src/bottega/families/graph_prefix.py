"""The beginnings of graphs: what is known when the next node and its edges are decided.

A graph in some order of its nodes is decided node by node. Before node t stand the nodes 0 … t - 1 with the edges among
them: a prefix. A batch of graphs becomes all of their prefixes, packed into one list of (prefix, node) pairs called
places, so that no work goes into padding. `pytest tests/families/test_graph_family.py` runs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

FAR = 8      # edges between two nodes from which on they count as unconnected
WALKS = 7    # lengths 2 … 8 of random walks that come back: they tell rings apart
FEATURES = WALKS + 1  # besides one degree for each type of edge


@dataclass(slots=True)
class Prefixes:
    """P prefixes of at most n nodes with N places in all.

    Attributes:
        graph: int64 [P], the graph of the batch that a prefix belongs to.
        count: int64 [P], its nodes.
        low: int64 [P], the first node that the next one may be joined to, as its order is breadth first.
        owner, node: int64 [N], prefix and node of each place, in ascending order.
        kinds: int64 [N], type of the node.
        features: float32 [N, edge types + FEATURES], what is known of the surroundings.
        ends: int64 [2, E], places that an edge leads from and to (each edge both ways), and `bonds` int64 [E], its type
            counted from 0.
        near: int64 [P, n, n], edges on the shortest way between two nodes, `FAR` where there is none so short.
    """

    graph: Tensor
    count: Tensor
    low: Tensor
    owner: Tensor
    node: Tensor
    kinds: Tensor
    features: Tensor
    ends: Tensor
    bonds: Tensor
    near: Tensor


def prefixes(nodes: Tensor, edges: Tensor, graph: Tensor, count: Tensor, types: int) -> Prefixes:
    """Return what is known of some prefixes.

    Args:
        nodes: int64 [B, n], types of nodes in breadth-first order; what lies behind a prefix is not looked at.
        edges: int64 [B, n, n], symmetric, 0 for none, else the type of the edge counted from 1.
        graph, count: int64 [P], which graphs are meant, and how many of their nodes.
        types: of edges.
    """
    size, device = nodes.size(1), nodes.device
    inside = torch.arange(size, device=device) < count[:, None]
    known = edges[graph] * (inside[:, :, None] & inside[:, None, :])
    owner, node = inside.nonzero(as_tuple=True)
    start = count.cumsum(0) - count
    tail, one, other = known.nonzero(as_tuple=True)
    degrees = torch.stack([(known == kind + 1).sum(2) for kind in range(types)], 2).float()
    near, returns = _surroundings(known > 0)
    alone = (degrees.sum(2) == 0).float()[..., None]
    features = torch.cat([degrees / 4, returns, alone], 2)[owner, node]
    return Prefixes(graph, count, _low(edges, graph, count), owner, node, nodes[graph[owner], node], features,
                    torch.stack([start[tail] + one, start[tail] + other]), known[tail, one, other] - 1, near)


def _low(edges: Tensor, graph: Tensor, count: Tensor) -> Tensor:
    """Return the first node that the next may be joined to, int64 [P].

    Nodes are visited in the order of the node they were found from, so that the first neighbour of a node never
    stands before that of the node before it.
    """
    last = (count - 1).clamp_min(0)
    before = torch.arange(edges.size(1), device=edges.device) < last[:, None]
    joined = (edges[graph, last] > 0) & before
    return torch.where(joined.any(1), joined.int().argmax(1), last)


def _surroundings(joined: Tensor) -> tuple[Tensor, Tensor]:
    """Return distances int64 [P, n, n] and the chances of random walks to be back, float32 [P, n, WALKS]."""
    links = joined.float()
    step = links / links.sum(2, keepdim=True).clamp_min(1)
    size = joined.size(1)
    walk, back = step, []
    near = torch.where(torch.eye(size, dtype=torch.bool, device=joined.device), 0, FAR).expand(joined.shape).clone()
    near[joined] = 1
    for length in range(2, WALKS + 2):
        walk = walk @ step
        back.append(walk.diagonal(dim1=1, dim2=2))
        if length < FAR:
            near = torch.where((walk > 0) & (near > length), length, near)
    return near, torch.stack(back, 2)


def before(targets: Tensor, near: Tensor, types: int) -> tuple[Tensor, Tensor]:
    """Return what is known of the edges of the next node when that to node j is decided: those to the nodes before j.

    Args:
        targets: int64 [P, n], its edges, 0 for none.
        near: int64 [P, n, n], distances in the prefix.
        types: of edges.

    Returns:
        How many of each type there are, float32 [P, n, types]; and how far j is from the nearest node joined so far,
        int64 [P, n], `FAR + 1` where there is none.
    """
    hot = functional.one_hot(targets, types + 1)[..., 1:].float()
    counts = hot.cumsum(1) - hot
    size = targets.size(1)
    earlier = torch.ones(size, size, dtype=torch.bool, device=targets.device).triu(1)  # [i, j]: i before j
    meant = (targets > 0)[:, :, None] & earlier
    return counts, torch.where(meant, near, FAR + 1).amin(1)
