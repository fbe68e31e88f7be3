"""Rules that a graph may have to keep, by name: `broken(graph, "tree")` says why it is none, or nothing.

Codec, engine and evaluation share them. `pytest tests/core/test_graph_rules.py` runs it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from bottega.core.errors import RecipeError, suggest
from bottega.core.graph import Graph
from bottega.core.molecule import hydrogens, valences

Rule = Callable[[Graph], str]  # the reason why a graph breaks it; empty: it does not

ORDERS = ("1", "2", "3")  # types of an edge that are bonds


def connected(graph: Graph) -> str:
    """Every node can be reached from every other."""
    parts = len(graph.components())
    return f"it is in {parts} parts" if parts > 1 else ""


def tree(graph: Graph) -> str:
    """It is connected and has no cycle."""
    extra = len(graph.edges) - (len(graph) - 1)
    return connected(graph) or (f"{extra} edges close cycles" if extra > 0 else "")


def grid(graph: Graph) -> str:
    """It is a rectangle of at least 2 × 2 nodes, each joined to those beside, above and below it; types do not count.

    Two corners on one side give every node a row and a column (their distances add up to 2 row + width - 1); what
    remains is to compare places and edges, so that the answer is exact.
    """
    if apart := connected(graph):
        return apart
    corners = [node for node, near in enumerate(graph.neighbours) if len(near) == 2]
    if len(corners) != 4:
        return f"{len(corners)} of its nodes are corners (have two neighbours), not 4"
    first = distances(graph, corners[0])
    second = min(corners[1:], key=first.__getitem__)
    width = first[second] + 1
    places = {}
    for node, (one, other) in enumerate(zip(first, distances(graph, second), strict=True)):
        if (one + other - width + 1) % 2:
            return f"node {node} is in no row"
        places[(one + other - width + 1) // 2, (one - other + width - 1) // 2] = node
    height = len(graph) // width
    if places.keys() != {(row, column) for row in range(height) for column in range(width)}:
        return f"its nodes fill no rectangle {width} wide"
    wanted = {frozenset((node, places[beside])) for (row, column), node in places.items()
              for beside in ((row + 1, column), (row, column + 1)) if beside in places}
    wrong = wanted ^ {frozenset(edge[:2]) for edge in graph.edges}
    return f"{len(wrong)} edges are missing or too many for a grid of {height} × {width}" if wrong else ""


def molecule(graph: Graph) -> str:
    """Its nodes are atoms, its edges bonds, no valence is exceeded, and it is in one part."""
    for node, (kind, near) in enumerate(zip(graph.nodes, graph.neighbours, strict=True)):
        if not valences(kind):
            return f"'{kind}' is no atom with a known valence"
        strange = next((bond for bond in near.values() if bond not in ORDERS), None)
        if strange is not None:
            return f"'{strange}' is no bond order"
        used = sum(map(int, near.values()))
        if hydrogens(kind, used) is None:
            return f"node {node}, {kind}, has bonds of order {used} in all"
    return connected(graph)


RULES: dict[str, Rule] = {"connected": connected, "tree": tree, "grid": grid, "molecule": molecule}


def rule(name: str) -> Rule:
    """Return the rule of this name.

    Raises:
        RecipeError: there is none.
    """
    if name not in RULES:
        raise RecipeError(f"'{name}' is no rule of graphs", fix=suggest(name, RULES))
    return RULES[name]


def broken(graph: Graph, name: str) -> str:
    """Return why a graph breaks a rule; empty: it keeps it.

    Raises:
        RecipeError: there is no such rule.
    """
    return rule(name)(graph)


def distances(graph: Graph, start: int) -> list[int]:
    """Return how many edges each node is away from `start`; -1: it cannot be reached."""
    found = [-1] * len(graph)
    found[start] = 0
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for there in graph.neighbours[here]:
            if found[there] < 0:
                found[there] = found[here] + 1
                queue.append(there)
    return found
