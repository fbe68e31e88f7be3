"""Molecules as graphs: SMILES in and out, by the rules of OpenSMILES. `pytest tests/core/test_smiles.py` runs it.

A node's type is an element with its charge (`C`, `N+`), an edge's is `1`, `2` or `3`; hydrogens follow from valences.
Aromatic rings are given fixed double bonds when they are read; `delocalised` finds again which bonds could be swapped,
so that all ways to write a ring have one name. Stereo marks and isotopes are read and dropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bottega.core.errors import DataError
from bottega.core.graph import LARGEST, Graph, canonical, canonical_order

_OUTER = {"H": 1, "B": 3, "C": 4, "Si": 4, "N": 5, "P": 5, "As": 5, "O": 6, "S": 6, "Se": 6, "F": 7, "Cl": 7, "Br": 7,
          "I": 7}  # electrons in the outer shell
_LARGE = frozenset(("P", "S", "As", "Se"))  # may use more bonds than the octet rule gives
_ORGANIC = re.compile(r"Cl|Br|[BCNOPSFI]|[bcnops]")
_BRACKET = re.compile(r"\[(\d+)?([A-Z][a-z]?|se|as|[bcnops])(@{1,2}(?:[A-Z]{2}\d+)?)?(H\d*)?([+-]+\d*)?(?::\d+)?\]")
_RING = re.compile(r"%(\d\d)|(\d)")
_BONDS = {"-": 1, "=": 2, "#": 3, ":": 0, "/": 1, "\\": 1}
_LABEL = re.compile(r"([A-Z][a-z]?)(?:([+-])(\d*))?")
_PLAIN = frozenset(("B", "C", "N", "O", "P", "S", "F", "Cl", "Br", "I"))
_LOWER = frozenset(("B", "C", "N", "O", "P", "S"))


class SmilesError(DataError):
    """A string that is no molecule; `position` counts characters from 0."""

    def __init__(self, problem: str, text: str, position: int, fix: str = "correct the SMILES") -> None:
        self.position = position
        super().__init__(f"{problem} at character {position + 1} of '{text[:120]}'", fix=fix)


@dataclass(frozen=True)
class Molecule:
    """A molecule that was read: its graph, and how many stereo marks and isotopes were dropped."""

    graph: Graph
    dropped: int


@dataclass(slots=True)
class _Atom:
    element: str
    charge: int
    aromatic: bool
    hydrogens: int | None  # None: as many as the valence asks for
    position: int
    bonds: dict[int, int] = field(default_factory=dict)  # atom → order, 0 for aromatic


def valences(kind: str) -> tuple[int, ...]:
    """Return the sums of bond orders, hydrogens included, that an atom type such as `N+` may have; () if unknown.

    A charged atom bonds like the neutral one with as many electrons (the octet rule).
    """
    match = _LABEL.fullmatch(kind)
    if match is None or match[1] not in _OUTER:
        return ()
    charge = int(match[3] or 1) * (1 if match[2] == "+" else -1) if match[2] else 0
    outer = _OUTER[match[1]] - charge
    if match[1] == "H":
        return (1,) if charge == 0 else (0,)
    base = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 3, 6: 2, 7: 1, 8: 0}.get(outer)
    if base is None:
        return ()
    return tuple(range(base, 7, 2)) if match[1] in _LARGE and outer in (5, 6) else (base,)


def hydrogens(kind: str, bonds: int) -> int | None:
    """Return how many hydrogens an atom type with this sum of bond orders carries; None: it has too many bonds."""
    return next((valence - bonds for valence in valences(kind) if valence >= bonds), None)


def _label(element: str, charge: int) -> str:
    size = "" if abs(charge) == 1 else str(abs(charge))
    return element + (("+" if charge > 0 else "-") + size if charge else "")


def read_smiles(text: str) -> Molecule:
    """Read one SMILES.

    Raises:
        SmilesError: not a SMILES, an open ring or branch, an atom with impossible bonds, or rings that no double bonds
            fit; the position is named.
    """
    atoms, dropped = _parse(text)
    atoms, pinned = _without_hydrogens(atoms, text)
    _fix_double_bonds(atoms, text)
    _part_charges(atoms)
    nodes, edges = [], []
    for number, atom in enumerate(atoms):
        kind, used = _label(atom.element, atom.charge), sum(atom.bonds.values())
        implied = hydrogens(kind, used)
        if implied is None:
            raise SmilesError(f"{kind} has bonds of order {used} in all, which its valence does not allow,", text,
                              atom.position)
        if atom.hydrogens is not None and implied != atom.hydrogens:
            raise SmilesError(f"{kind} with {atom.hydrogens} hydrogens has an open valence (it wants {implied})", text,
                              atom.position, "radicals and unusual valences are not modelled: leave it out")
        nodes.append(kind)
        edges += [(number, other, str(order)) for other, order in atom.bonds.items() if number < other]
    return Molecule(Graph.of(nodes, edges, where=text[:120]), dropped + pinned)


def _parse(text: str) -> tuple[list[_Atom], int]:
    """Return atoms with their bonds, and how many marks were dropped."""
    atoms: list[_Atom] = []
    stack: list[tuple[int, int]] = []
    rings: dict[int, tuple[int, int | None, int]] = {}
    last, bond, place, dropped = -1, None, 0, 0
    while place < len(text):
        sign, start = text[place], place
        ring, atom = _RING.match(text, place), None
        if sign == "[":
            match = _BRACKET.match(text, place)
            if match is None:
                raise SmilesError("a bracket that is no atom", text, place)
            atom, marks = _bracket(match, text, place)
            dropped, place = dropped + marks, match.end()
        elif organic := _ORGANIC.match(text, place):
            name = organic[0]
            atom = _Atom(name.capitalize(), 0, name.islower(), None, start)
            place = organic.end()
        elif sign in _BONDS:
            if bond is not None or last < 0:
                raise SmilesError("a bond that joins nothing", text, place)
            bond, dropped, place = sign, dropped + (sign in "/\\"), place + 1
        elif ring is not None:
            if last < 0:
                raise SmilesError("a ring number before any atom", text, place)
            number, place = int(ring[1] or ring[2]), ring.end()
            order = None if bond is None else _BONDS[bond]
            bond = None
            if number in rings:
                other, before, _ = rings.pop(number)
                if order is not None and before is not None and order != before:
                    raise SmilesError(f"ring {number} is closed by another bond than it was opened with", text, start)
                _join(atoms, other, last, order if order is not None else before, text, start)
            else:
                rings[number] = (last, order, start)
        elif sign == "(":
            if last < 0 or bond is not None:
                raise SmilesError("a branch from nothing", text, place)
            stack.append((last, place))
            place += 1
        elif sign == ")":
            if not stack or bond is not None:
                raise SmilesError("a branch is closed that was not opened" if not stack else "a bond without an atom",
                                  text, place)
            last = stack.pop()[0]
            place += 1
        elif sign == ".":
            if bond is not None or last < 0:
                raise SmilesError("a dot that parts nothing", text, place)
            last, place = -1, place + 1
        else:
            raise SmilesError(f"'{sign}' has no meaning here,", text, place)
        if atom is not None:
            atoms.append(atom)
            if len(atoms) > 2 * LARGEST:
                raise SmilesError(f"more than {2 * LARGEST} atoms", text, start, "leave the molecule out")
            if last >= 0:
                _join(atoms, last, len(atoms) - 1, None if bond is None else _BONDS[bond], text, start)
            last, bond = len(atoms) - 1, None
    if not atoms:
        raise SmilesError("no atom", text, 0)
    if bond is not None:
        raise SmilesError("a bond without an atom", text, len(text) - 1)
    if rings:
        number, (_, _, start) = next(iter(rings.items()))
        raise SmilesError(f"ring {number} is opened and never closed", text, start)
    if stack:
        raise SmilesError("a branch is opened and never closed", text, stack[-1][1])
    return atoms, dropped


def _bracket(match: re.Match[str], text: str, place: int) -> tuple[_Atom, int]:
    isotope, name, stereo, hydrogen, charge = match.groups()
    element = name.capitalize()
    if element not in _OUTER:
        raise SmilesError(f"the element {element} is not known", text, place,
                          f"known: {', '.join(_OUTER)}; leave the molecule out")
    size = 0
    if charge:
        digits = charge.lstrip("+-")
        size = (int(digits) if digits else len(charge)) * (1 if charge[0] == "+" else -1)
    count = int(hydrogen[1:] or 1) if hydrogen else 0
    return _Atom(element, size, name.islower(), count, place), (isotope is not None) + (stereo is not None)


def _join(atoms: list[_Atom], one: int, other: int, order: int | None, text: str, place: int) -> None:
    if one == other or other in atoms[one].bonds:
        raise SmilesError("two atoms are joined twice" if one != other else "an atom is joined to itself", text, place)
    if order is None:
        order = 0 if atoms[one].aromatic and atoms[other].aromatic else 1
    if order == 0 and not (atoms[one].aromatic and atoms[other].aromatic):
        raise SmilesError("an aromatic bond between atoms that are not", text, place)
    atoms[one].bonds[other] = atoms[other].bonds[one] = order


def _without_hydrogens(atoms: list[_Atom], text: str) -> tuple[list[_Atom], int]:
    """Fold hydrogens that are written as atoms into their neighbours."""
    gone: set[int] = set()
    for number, atom in enumerate(atoms):
        if atom.element != "H":
            continue
        near = [other for other, order in atom.bonds.items() if order == 1 and atoms[other].element != "H"]
        if len(near) != 1 or len(atom.bonds) != 1 or atom.charge or atom.hydrogens:
            raise SmilesError("hydrogen stands alone", text, atom.position, "leave the molecule out")
        owner = atoms[near[0]]
        del owner.bonds[number]
        if owner.hydrogens is not None:
            owner.hydrogens += 1
        gone.add(number)
    if not gone:
        return atoms, 0
    place = {old: new for new, old in enumerate(number for number in range(len(atoms)) if number not in gone)}
    kept = [atom for number, atom in enumerate(atoms) if number not in gone]
    for atom in kept:
        atom.bonds = {place[other]: order for other, order in atom.bonds.items()}
    return kept, 0


def _fix_double_bonds(atoms: list[_Atom], text: str) -> None:
    """Give every aromatic bond an order of 1 or 2 so that each atom that has room for a double bond gets one."""
    ring = {number for number, atom in enumerate(atoms) if 0 in atom.bonds.values()}
    lonely = next((atom for number, atom in enumerate(atoms) if atom.aromatic and number not in ring), None)
    if lonely is not None:
        raise SmilesError("an aromatic atom outside a ring", text, lonely.position)
    if not ring:
        return
    bridges = _bridges(atoms)
    wants = set()
    for number in ring:
        atom = atoms[number]
        used = sum(max(order, 1) for order in atom.bonds.values()) + (atom.hydrogens or 0)
        allowed = valences(_label(atom.element, atom.charge))
        if any(valence > used for valence in allowed[:1]):
            wants.add(number)
    options = {number: [other for other, order in atoms[number].bonds.items() if order == 0 and other in wants
                        and (min(number, other), max(number, other)) not in bridges] for number in wants}
    chosen = _matching(options)
    if chosen is None:
        first = min(wants, key=lambda number: atoms[number].position)
        raise SmilesError("no double bonds fit the aromatic ring", text, atoms[first].position,
                          "write the hydrogen of a nitrogen in a ring as [nH]")
    for number in ring:
        for other, order in atoms[number].bonds.items():
            if order == 0:
                atoms[number].bonds[other] = 2 if chosen.get(number) == other else 1


def _part_charges(atoms: list[_Atom]) -> None:
    """Write a nitrogen with five bonds, as old files have it for nitro groups, as N+ with O-."""
    for atom in atoms:
        if atom.element == "N" and atom.charge == 0 and sum(atom.bonds.values()) == 5:
            for number, order in atom.bonds.items():
                oxygen = atoms[number]
                if order == 2 and oxygen.element == "O" and len(oxygen.bonds) == 1 and oxygen.charge == 0:
                    atom.charge, oxygen.charge = 1, -1
                    me = next(iter(oxygen.bonds))
                    atom.bonds[number] = oxygen.bonds[me] = 1
                    break


def _bridges(atoms: list[_Atom]) -> set[tuple[int, int]]:
    """Return the bonds that are in no ring: those without which their ends are apart."""
    found = set()
    for one, atom in enumerate(atoms):
        for other, order in atom.bonds.items():
            if order or other < one:
                continue
            seen, stack = {one}, [one]
            while stack and other not in seen:
                here = stack.pop()
                for there in atoms[here].bonds:
                    if there not in seen and {here, there} != {one, other}:
                        seen.add(there)
                        stack.append(there)
            if other not in seen:
                found.add((one, other))
    return found


def _matching(options: dict[int, list[int]]) -> dict[int, int] | None:
    """Pair all keys with one of their options each, or return None; the one with least choice goes first."""
    taken: dict[int, int] = {}

    def pair() -> bool:
        free = [(sum(other not in taken for other in options[node]), node) for node in options if node not in taken]
        if not free:
            return True
        choices, node = min(free)
        for other in options[node] if choices else ():
            if other not in taken:
                taken[node], taken[other] = other, node
                if pair():
                    return True
                del taken[node], taken[other]
        return False

    return taken if pair() else None


def delocalised(graph: Graph) -> set[tuple[int, int]]:
    """Return the bonds (i < j) on a ring of single and double bonds in turn: swapping them gives the same molecule."""
    partner = {}
    for one, other, kind in graph.edges:
        if kind == "2":
            partner[one] = None if one in partner else other
            partner[other] = None if other in partner else one
    found: set[tuple[int, int]] = set()
    for start, end in partner.items():
        if end is not None and (min(start, end), max(start, end)) not in found:
            path = _alternating(graph, partner, [start, end], start)
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


class _Writer:
    """Writes one component by a walk in the order of ranks."""

    def __init__(self, graph: Graph, form: Graph, rank: dict[int, int]) -> None:
        self.graph, self.rank = graph, rank
        loose = {node for i, j, kind in form.edges if kind == "a" for node in (i, j)}
        small = all(self._split(graph.nodes[node])[0] in _LOWER for node in loose)
        self.lower = loose if small else set()
        self.form = form if small else graph
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
