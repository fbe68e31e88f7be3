"""Graphs from files: molecules as SMILES (`.smi`, or `.csv` with a column `smiles`), any graphs as JSON lines.

    {"nodes": ["node", "node"], "edges": [[0, 1, "edge"]]}

`pytest tests/data/test_graph_files.py` runs it. A line that is no graph is counted, told and left out.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from bottega.core.errors import DataError, InputError
from bottega.core.graph import Graph
from bottega.core.progress import say
from bottega.core.smiles import read_smiles
from bottega.data.formats import Unreadable, read_text

SUFFIXES = (".smi", ".smiles", ".csv", ".jsonl")
COLUMN = "smiles"
_TOLD = 5  # bad lines that are told one by one

Kind = Literal["molecules", "graphs"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that is no graph, counted from 1, and why."""

    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class GraphFile:
    """What was read from a file.

    Attributes:
        kind: `molecules` (nodes are atoms as in `bottega.core.molecule`) or `graphs`.
        graphs: in the order of the file.
        lines: line of each graph, from 1.
        faults: lines that were left out.
        dropped: stereo marks and isotopes that the molecules lost.
    """

    kind: Kind
    graphs: list[Graph]
    lines: list[int]
    faults: list[Fault]
    dropped: int


def read_graphs(path: Path, *, limit: int | None = None) -> GraphFile:
    """Read all graphs of a file, or the first `limit` lines of it; blank lines are passed over.

    Raises:
        InputError: there is no such file, or its name has another ending.
        DataError: it is no text, a CSV has no column `smiles`, or no graph is left.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"there is no file of graphs '{path}'", where="data.sources",
                         fix=f"give a file whose name ends in {', '.join(SUFFIXES)}")
    if suffix not in SUFFIXES:
        raise InputError(f"'{path.name}' is no file of graphs", where="data.sources",
                         fix=f"its name should end in {', '.join(SUFFIXES)}")
    try:
        text = "".join(read_text(path)).removeprefix("\ufeff")
    except (Unreadable, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}", where=str(path), fix="save it as UTF-8 text") from None
    rows = _column(text, path) if suffix == ".csv" else _lines(text)
    kind: Kind = "graphs" if suffix == ".jsonl" else "molecules"
    graphs: list[Graph] = []
    lines: list[int] = []
    faults: list[Fault] = []
    dropped = 0
    for line, entry in islice(rows, limit):
        try:
            if kind == "graphs":
                graph = from_plain(_parsed(entry))
            else:
                molecule = read_smiles(entry.split()[0])  # what follows the molecule in a .smi file is its name
                graph, dropped = molecule.graph, dropped + molecule.dropped
        except DataError as error:
            faults.append(Fault(line, error.problem))
            continue
        graphs.append(graph)
        lines.append(line)
    _tell(path, len(graphs), faults, dropped)
    return GraphFile(kind, graphs, lines, faults, dropped)


def from_plain(value: Any) -> Graph:
    """Return the graph of an object `{"nodes": [type, …], "edges": [[i, j, type], …]}`.

    Raises:
        DataError: the object has another shape, or is no graph (see `Graph.of`).
    """
    if not isinstance(value, dict) or not {"nodes", "edges"} <= value.keys():
        raise DataError(f"{_shown(value)} has no 'nodes' and 'edges'",
                        fix='write {"nodes": ["a", "b"], "edges": [[0, 1, "c"]]}')
    nodes, edges = value["nodes"], value["edges"]
    if not isinstance(nodes, list) or not all(map(_is_type, nodes)):
        raise DataError(f"nodes are {_shown(nodes)}, not a list of type names", fix='write "nodes": ["a", "b"]')
    if not isinstance(edges, list):
        raise DataError(f"edges are {_shown(edges)}, not a list", fix='write "edges": [[0, 1, "c"]]')
    for edge in edges:
        if not (isinstance(edge, list) and [type(part) for part in edge] == [int, int, str] and _is_type(edge[2])):
            raise DataError(f"an edge is {_shown(edge)}, not [node, node, type]", fix='write an edge as [0, 1, "c"]')
    return Graph.of(nodes, [(one, other, kind) for one, other, kind in edges])


def to_plain(graph: Graph) -> dict[str, Any]:
    """Return a graph as an object of JSON; `from_plain` reads it back."""
    return {"nodes": list(graph.nodes), "edges": [list(edge) for edge in graph.edges]}


def _is_type(value: Any) -> bool:
    """Whether it is a text that can be written to a file again: halves of a character, as JSON allows, cannot."""
    return isinstance(value, str) and bool(value) and not any("\ud800" <= sign <= "\udfff" for sign in value)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip())


def _column(text: str, path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and value of each filled cell in the column of SMILES."""
    rows = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        if COLUMN not in header:
            raise DataError(f"{path} has no column '{COLUMN}'; it has {', '.join(header[:8]) or 'nothing'}",
                            where=str(path), fix=f"name the column of molecules '{COLUMN}'")
        place = header.index(COLUMN)
        yield from ((rows.line_num, row[place]) for row in rows if len(row) > place and row[place].strip())
    except csv.Error as error:
        raise DataError(f"{path} is no CSV at line {rows.line_num}: {error}", where=str(path),
                        fix="close the quotes of that cell") from None


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"it is not JSON: {error}") from None


def _tell(path: Path, kept: int, faults: list[Fault], dropped: int) -> None:
    if not kept:
        first = f"; line {faults[0].line}: {faults[0].problem}" if faults else ""
        raise DataError(f"{path} holds no graph that can be used, of {len(faults)} lines{first}", where=str(path),
                        fix="correct the lines, or give another file")
    if faults:
        say(f"warning: {len(faults)} of {kept + len(faults)} lines of {path.name} are no graphs and are left out")
        for fault in faults[:_TOLD]:
            say(f"  line {fault.line}: {fault.problem}")
        if len(faults) > _TOLD:
            say(f"  and {len(faults) - _TOLD} more")
    if dropped:
        say(f"{dropped} stereo marks and isotopes of {path.name} are not modelled and were dropped")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
