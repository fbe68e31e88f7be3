"""What a graph of a molecule means: valences, the bonds that may be swapped, one name a molecule, and its SMILES.

A node's type is an element with its charge (`C`, `N+`), an edge's is `1`, `2` or `3`; hydrogens follow from valences.
`delocalised` finds which single and double bonds could be swapped, so that all ways to write a ring have one name.
`pytest tests/core/test_smiles.py` runs it.
"""

from __future__ import annotations

import re

from bottega.core.errors import DataError
from bottega.core.graph import Graph, canonical, canonical_order

OUTER = {"H": 1, "B": 3, "C": 4, "Si": 4, "N": 5, "P": 5, "As": 5, "O": 6, "S": 6, "Se": 6, "F": 7, "Cl": 7, "Br": 7,
          "I": 7}  # electrons in the outer shell
_LARGE = frozenset(("P", "S", "As", "Se"))  # may use more bonds than the octet rule gives
_LABEL = re.compile(r"([A-Z][a-z]?)(?:([+-])(\d*))?")
_PLAIN = frozenset(("B", "C", "N", "O", "P", "S", "F", "Cl", "Br", "I"))
_LOWER = frozenset(("B", "C", "N", "O", "P", "S"))


def valences(kind: str) -> tuple[int, ...]:
    """Return the sums of bond orders, hydrogens included, that an atom type such as `N+` may have; () if unknown.

    A charged atom bonds like the neutral one with as many electrons (the octet rule).
    """
    match = _LABEL.fullmatch(kind)
    if match is None or match[1] not in OUTER:
        return ()
    charge = int(match[3] or 1) * (1 if match[2] == "+" else -1) if match[2] else 0
    outer = OUTER[match[1]] - charge
    if match[1] == "H":
        return (1,) if charge == 0 else (0,)
    base = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 3, 6: 2, 7: 1, 8: 0}.get(outer)
    if base is None:
        return ()
    return tuple(range(base, 7, 2)) if match[1] in _LARGE and outer in (5, 6) else (base,)


def hydrogens(kind: str, bonds: int) -> int | None:
    """Return how many hydrogens an atom type with this sum of bond orders carries; None: it has too many bonds."""
    return next((valence - bonds for valence in valences(kind) if valence >= bonds), None)


def label(element: str, charge: int) -> str:
    """Return the node type of an element with a charge."""
    size = "" if abs(charge) == 1 else str(abs(charge))
    return element + (("+" if charge > 0 else "-") + size if charge else "")


def delocalised(graph: Graph) -> set[tuple[int, int]]:
    """Return the bonds (i < j) on a ring of single and double bonds in turn: swapping them gives the same molecule."""
    partner = {}
    for one, other, kind in graph.edges:
        if kind == "2":
            partner[one] = None if one in partner else other
            partner[other] = None if other in partner else one
    found: set[tuple[int, int]] = set()
    for one, other, kind in graph.edges:
        # every single bond is asked for, as one ring may hide another that is closed by other single bonds
        start, end = partner.get(one), partner.get(other)
        if kind == "1" and start is not None and end is not None and (one, other) not in found:
            # both ways round: an atom with two double bonds lets a ring pass in one of them only
            path = (_alternating(graph, partner, [start, one, other, end], start)
                    or _alternating(graph, partner, [end, other, one, start], end))
            for here, there in zip(path, path[1:] + path[:1], strict=True):
                found.add((min(here, there), max(here, there)))
    return found


def _alternating(graph: Graph, partner: dict[int, int | None], path: list[int], start: int) -> list[int]:
    """Return a ring that begins with `path` (a double bond) and goes on by single and double bonds in turn, or []."""
    for there, kind in graph.neighbours[path[-1]].items():
        if kind != "1":
            continue
        if there == start and len(path) > 2:
            return path
        beyond = partner.get(there)
        if beyond is not None and there not in path and beyond not in path:
            ring = _alternating(graph, partner, [*path, there, beyond], start)
            if ring:
                return ring
    return []


def named(graph: Graph) -> Graph:
    """Return the graph with edge type `a` for delocalised bonds: the same for all ways to place double bonds."""
    loose = delocalised(graph)
    return Graph(graph.nodes, tuple((i, j, "a" if (i, j) in loose else kind) for i, j, kind in graph.edges))


def molecule_key(graph: Graph) -> str:
    """Return a string that is equal for equal molecules, stereo aside.

    Raises:
        DataError: as in `bottega.core.graph.canonical`.
    """
    return canonical(named(graph))


def write_smiles(graph: Graph) -> str:
    """Return the SMILES of a molecule's graph, the same for equal molecules; it need not be valid.

    Raises:
        DataError: as in `bottega.core.graph.canonical`, or a node that is no atom or an edge that is no bond.
    """
    for kind in graph.nodes:
        if not valences(kind):
            raise DataError(f"'{kind}' is no atom with a known valence", fix="this graph is no molecule")
    strange = next((kind for _, _, kind in graph.edges if kind not in ("1", "2", "3")), None)
    if strange is not None:
        raise DataError(f"'{strange}' is no bond order", fix="bonds are 1, 2 or 3")
    form = named(graph)
    rank = {node: place for place, node in enumerate(canonical_order(form))}
    return ".".join(_Writer(graph, form, rank).component(part) for part in
                    sorted(graph.components(), key=lambda part: min(rank[node] for node in part)))


def _settled(graph: Graph, form: Graph, rank: dict[int, int]) -> Graph:
    """Return the molecule with the double bonds of its delocalised rings where ranks want them: one of all ways."""
    loose = {(i, j) for i, j, kind in form.edges if kind == "a"}
    left = dict.fromkeys(range(len(graph)), 0)  # double bonds that a node still wants
    for i, j, kind in graph.edges:
        if (i, j) in loose and kind == "2":
            left[i], left[j] = left[i] + 1, left[j] + 1
    chosen: set[tuple[int, int]] = set()

    def place() -> bool:
        node = min((node for node, wants in left.items() if wants), key=rank.__getitem__, default=None)
        if node is None:
            return True
        for other in sorted(graph.neighbours[node], key=rank.__getitem__):
            pair = (min(node, other), max(node, other))
            if pair in loose and pair not in chosen and left[other]:
                chosen.add(pair)
                left[node], left[other] = left[node] - 1, left[other] - 1
                if place():
                    return True
                chosen.remove(pair)
                left[node], left[other] = left[node] + 1, left[other] + 1
        return False

    place()
    return Graph(graph.nodes, tuple((i, j, ("1", "2")[(i, j) in chosen] if (i, j) in loose else kind)
                                    for i, j, kind in graph.edges))


class _Writer:
    """Writes one component by a walk in the order of ranks."""

    def __init__(self, graph: Graph, form: Graph, rank: dict[int, int]) -> None:
        self.rank = rank
        loose = {node for i, j, kind in form.edges if kind == "a" for node in (i, j)}
        # who reads lower case finds the double bonds by the smallest valence: a larger one has to be spelt out
        small = all(self._split(graph.nodes[node])[0] in _LOWER and
                    sum(map(int, graph.neighbours[node].values())) <= valences(graph.nodes[node])[0] for node in loose)
        self.lower = loose if small else set()
        self.form = form if small else _settled(graph, form, rank)
        self.graph = graph if small else self.form
        self.rings: dict[int, list[tuple[int, int]]] = {}
        self.children: dict[int, list[int]] = {}

    @staticmethod
    def _split(kind: str) -> tuple[str, str]:
        match = _LABEL.fullmatch(kind)
        assert match is not None
        return match[1], kind[len(match[1]):]

    def component(self, part: list[int]) -> str:
        start = min(part, key=self.rank.__getitem__)
        self._walk(start)
        return self._text(start)

    def _walk(self, start: int) -> None:
        """Find the tree of the walk and the bonds that close rings."""
        seen, number = {start}, 0
        done: set[tuple[int, int]] = set()
        stack = [(start, iter(sorted(self.graph.neighbours[start], key=self.rank.__getitem__)))]
        while stack:
            node, rest = stack[-1]
            other = next(rest, None)
            if other is None:
                stack.pop()
                continue
            pair = (min(node, other), max(node, other))
            if pair in done:
                continue
            done.add(pair)
            if other in seen:
                number += 1
                for end in pair:
                    self.rings.setdefault(end, []).append((number, other if end == node else node))
            else:
                seen.add(other)
                self.children.setdefault(node, []).append(other)
                stack.append((other, iter(sorted(self.graph.neighbours[other], key=self.rank.__getitem__))))

    def _text(self, node: int, came: str = "") -> str:
        closings = "".join((self._bond(node, other) if self.rank[node] < self.rank[other] else "")
                           + (str(number) if number < 10 else f"%{number}")
                           for number, other in self.rings.get(node, []))
        children = self.children.get(node, [])
        branches = "".join(f"({self._text(child, self._bond(node, child))})" for child in children[:-1])
        tail = self._text(children[-1], self._bond(node, children[-1])) if children else ""
        return came + self._atom(node) + closings + branches + tail

    def _bond(self, one: int, other: int) -> str:
        kind = self.form.neighbours[one][other]
        between = one in self.lower and other in self.lower
        return {"a": "", "1": "-" if between else "", "2": "=", "3": "#"}[kind]

    def _atom(self, node: int) -> str:
        element, charge = self._split(self.graph.nodes[node])
        name = element.lower() if node in self.lower else element
        if not charge and element in _PLAIN:
            return name
        used = sum(int(kind) for kind in self.graph.neighbours[node].values())
        count = hydrogens(self.graph.nodes[node], used) or 0
        return f"[{name}{'H' + (str(count) if count > 1 else '') if count else ''}{charge}]"
