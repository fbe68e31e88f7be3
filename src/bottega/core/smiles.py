"""SMILES to graphs of molecules, by the rules of OpenSMILES. `pytest tests/core/test_smiles.py` runs it.

Aromatic rings are given fixed double bonds; stereo marks and isotopes are dropped and counted. What nodes and edges
mean, and the way back to SMILES, stand in molecule.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bottega.core.errors import DataError
from bottega.core.graph import LARGEST, Graph
from bottega.core.molecule import OUTER, hydrogens, label, valences

_ORGANIC = re.compile(r"Cl|Br|[BCNOPSFI]|[bcnops]")
_BRACKET = re.compile(r"\[(\d+)?([A-Z][a-z]?|se|as|[bcnops])(@{1,2}(?:[A-Z]{2}\d+)?)?(H\d*)?([+-]+\d*)?(?::\d+)?\]")
_RING = re.compile(r"%(\d\d)|(\d)")
_BONDS = {"-": 1, "=": 2, "#": 3, ":": 0, "/": 1, "\\": 1}


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
        kind, used = label(atom.element, atom.charge), sum(atom.bonds.values())
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
    if element not in OUTER:
        raise SmilesError(f"the element {element} is not known", text, place,
                          f"known: {', '.join(OUTER)}; leave the molecule out")
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
        allowed = valences(label(atom.element, atom.charge))
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
