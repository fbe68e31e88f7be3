"""A small graph with node and edge types, and its canonical form; data, codecs, families and evaluation share it.

Two graphs are the same when one is the other with its nodes in another order; `canonical` gives both one string.
`pytest tests/core/test_graph.py` exercises it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bottega.core.errors import DataError

LARGEST = 256  # nodes: the work of a model grows with the square
_LEAVES = 20_000  # orders looked at before a canonical form is given up


@dataclass(frozen=True)
class Graph:
    """Nodes and undirected edges with types.

    Attributes:
        nodes: the type of each node.
        edges: (i, j, type), i < j, in ascending order, no pair twice.
    """

    nodes: tuple[str, ...]
    edges: tuple[tuple[int, int, str], ...]

    @staticmethod
    def of(nodes: Sequence[str], edges: Sequence[tuple[int, int, str]], *, where: str = "") -> Graph:
        """Return a graph, its edges put in order.

        Raises:
            DataError: no node or too many, an edge to nowhere, a self loop or an edge given twice.
        """
        if not 0 < len(nodes) <= LARGEST:
            raise DataError(f"a graph of {len(nodes)} nodes cannot be used", where=where,
                            fix=f"give 1 to {LARGEST} nodes")
        seen: dict[tuple[int, int], str] = {}
        for one, other, kind in edges:
            if not (0 <= one < len(nodes) and 0 <= other < len(nodes)):
                raise DataError(f"an edge joins nodes {one} and {other} of {len(nodes)}", where=where,
                                fix=f"number nodes from 0 to {len(nodes) - 1}")
            if one == other:
                raise DataError(f"node {one} is joined to itself", where=where, fix="leave self loops out")
            pair = (min(one, other), max(one, other))
            if pair in seen:
                raise DataError(f"nodes {pair[0]} and {pair[1]} are joined twice", where=where,
                                fix="give an undirected edge once")
            seen[pair] = kind
        return Graph(tuple(nodes), tuple((*pair, kind) for pair, kind in sorted(seen.items())))

    def __len__(self) -> int:
        return len(self.nodes)

    @cached_property
    def neighbours(self) -> list[dict[int, str]]:
        """For each node its neighbours with the type of the edge."""
        found: list[dict[int, str]] = [{} for _ in self.nodes]
        for one, other, kind in self.edges:
            found[one][other] = found[other][one] = kind
        return found

    def permuted(self, order: Sequence[int]) -> Graph:
        """Return the same graph in which node k is this one's `order[k]`."""
        place = {old: new for new, old in enumerate(order)}
        edges = sorted((min(place[i], place[j]), max(place[i], place[j]), kind) for i, j, kind in self.edges)
        return Graph(tuple(self.nodes[old] for old in order), tuple(edges))

    def components(self) -> list[list[int]]:
        """Return the nodes of each connected part."""
        left, parts = set(range(len(self))), []
        while left:
            stack, part = [min(left)], []
            left.discard(stack[0])
            while stack:
                node = stack.pop()
                part.append(node)
                fresh = [other for other in self.neighbours[node] if other in left]
                left.difference_update(fresh)
                stack += fresh
            parts.append(sorted(part))
        return parts


def canonical_order(graph: Graph) -> list[int]:
    """Return the nodes in an order that depends on the graph alone, up to nodes that cannot be told apart.

    Colours are refined by the colours of neighbours (Weisfeiler & Leman 1968); where nodes stay alike each is singled
    out in turn and the order with the smallest certificate wins, as in McKay & Piperno, "Practical graph isomorphism
    II", 2014. Automorphisms found on the way cut off branches that repeat others.

    Raises:
        DataError: the graph is so regular that the search has no end in sight.
    """
    return _Search(graph).run()


def canonical(graph: Graph) -> str:
    """Return a string that is equal for two graphs exactly when they are the same but for the order of nodes.

    Raises:
        DataError: as in `canonical_order`.
    """
    ordered = graph.permuted(canonical_order(graph))
    return ",".join(map(_escaped, ordered.nodes)) + "|" + ",".join(
        f"{i}-{j}:{_escaped(kind)}" for i, j, kind in ordered.edges)


def _escaped(kind: str) -> str:
    """Return a type in which nothing can be taken for the end of it."""
    return re.sub(r"[\\,|]", r"\\\g<0>", kind)


class _Search:
    """The tree of ways to single out nodes until all differ."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        kinds = {kind: number for number, kind in enumerate(sorted({kind for _, _, kind in graph.edges}))}
        self.near = [[(other, kinds[kind]) for other, kind in row.items()] for row in graph.neighbours]
        self.best: tuple[tuple[int, ...], ...] | None = None
        self.order: list[int] = []
        self.path: list[int] = []
        self.same: list[list[int]] = []  # automorphisms: node → node
        self.leaves = 0

    def run(self) -> list[int]:
        self._visit(self._refine(_ranks([(kind,) for kind in self.graph.nodes])), [])
        return self.order

    def _refine(self, colours: list[int]) -> list[int]:
        count = len(set(colours))
        while count < len(colours):
            colours = _ranks([(colours[node], tuple(sorted((colours[other], kind) for other, kind in near)))
                              for node, near in enumerate(self.near)])
            if len(set(colours)) == count:
                break
            count = len(set(colours))
        return colours

    def _visit(self, colours: list[int], path: list[int]) -> int:
        """Search below a node of the tree; return the depth to go on at."""
        cells: dict[int, list[int]] = {}
        for node, colour in enumerate(colours):
            cells.setdefault(colour, []).append(node)
        open_cells = [(len(cell), colour) for colour, cell in cells.items() if len(cell) > 1]
        if not open_cells:
            return self._leaf(colours, path)
        cell = cells[min(open_cells)[1]]
        tried: list[int] = []
        for node in cell:
            if tried and self._repeats(node, tried, path):
                continue
            tried.append(node)
            single = [2 * colour + (other != node) for other, colour in enumerate(colours)]
            back = self._visit(self._refine(_ranks([(colour,) for colour in single])), [*path, node])
            if back < len(path):
                return back
        return len(path)

    def _repeats(self, node: int, tried: list[int], path: list[int]) -> bool:
        """Whether a known automorphism that keeps the path takes `node` to one that was tried."""
        usable = [move for move in self.same if all(move[kept] == kept for kept in path)]
        reached, stack = {node}, [node]
        while stack:
            here = stack.pop()
            for move in usable:
                for there in (move[here], move.index(here)):
                    if there not in reached:
                        reached.add(there)
                        stack.append(there)
        return any(other in reached for other in tried)

    def _leaf(self, colours: list[int], path: list[int]) -> int:
        self.leaves += 1
        if self.leaves > _LEAVES:
            raise DataError(f"a graph of {len(self.near)} nodes is too regular to be named",
                            fix="leave it out; graphs this symmetric cannot be compared here")
        place = _ranks([(colour,) for colour in colours])
        order = sorted(range(len(place)), key=place.__getitem__)
        form = tuple(tuple(part for pair in sorted((place[other], kind) for other, kind in self.near[node])
                           for part in pair) for node in order)
        if self.best is None or form < self.best:
            self.best, self.order, self.path = form, order, path
        elif form == self.best:
            move = [0] * len(order)
            for here, there in zip(order, self.order, strict=True):
                move[here] = there
            self.same.append(move)
            return next((depth for depth, (a, b) in enumerate(zip(path, self.path, strict=False)) if a != b),
                        len(path))
        return len(path)


def _ranks(keys: Sequence[tuple[object, ...]]) -> list[int]:
    """Return the rank of each key among the different ones."""
    rank = {key: number for number, key in enumerate(sorted(set(keys)))}
    return [rank[key] for key in keys]
