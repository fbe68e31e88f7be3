"""Graphs to numbers and back, with the rule that every graph keeps. `bottega train` saves one with the model.

The types of nodes and edges are numbered in the order of their names. A rule (`core.graph_rules`) is checked on every
graph that is read and on every graph that is made; most of it is kept by construction, through the limits that the
sampler asks before each decision.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bottega.core import graph_rules
from bottega.core.errors import CorruptError, DataError
from bottega.core.files import digest_json, read_json, write_json
from bottega.core.graph import LARGEST, Graph, canonical
from bottega.core.molecule import molecule_key, valences, write_smiles
from bottega.core.validate import Strict, validate

FILE = "graph_codec.json"

_BREAKS = re.compile("[\x85\u2028\u2029]")  # end a line for readers of Unicode; JSON leaves them as they are

Form = Literal["molecules", "graphs"]


class GraphSpec(Strict):
    """How graphs are read.

    Attributes:
        rule: that every graph keeps: `connected`, `tree`, `grid`, `molecule`, `none`; None is `molecule` for molecules
            and `none` for others.
        largest: nodes; graphs that have more are left out.
    """

    rule: Literal["none", "connected", "tree", "grid", "molecule"] | None = None
    largest: int = Field(default=64, ge=1, le=LARGEST)


class _Saved(Strict):
    """The content of graph_codec.json."""

    format: Literal[1] = 1
    kind: Literal["graph"] = "graph"
    spec: GraphSpec
    form: Form
    kinds: list[str]
    types: list[str]
    largest: int
    graphs: int


@dataclass(frozen=True)
class CodedGraph:
    """A graph in numbers: `nodes` int32 [n], types; `edges` int32 [m, 3], two nodes and the type counted from 1."""

    nodes: NDArray[np.int32]
    edges: NDArray[np.int32]


@dataclass(frozen=True)
class GraphLimits:
    """What can be asked before each decision; see `generation.graph_sampler.Limits`.

    Attributes:
        connected, one: every node but the first has an edge to one before it; to exactly one.
        capacity: largest sum of `order` over the edges of a node, by its type; None: no limit.
        order: of each type of edge.
    """

    connected: bool = False
    one: bool = False
    capacity: list[int] | None = None
    order: list[int] | None = None


@dataclass(frozen=True)
class GraphCodec:
    """The types of a set of graphs.

    Attributes:
        spec: what was asked for.
        form: `molecules` are shown as SMILES, other `graphs` as JSON.
        kinds: types of nodes; `types` of edges.
        largest: nodes of the largest graph.
        graphs: it was learned from.
    """

    kind: ClassVar[str] = "graph"
    spec: GraphSpec
    form: Form = "graphs"
    kinds: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    largest: int = 1
    graphs: int = 0

    @staticmethod
    def of(settings: dict[str, Any]) -> GraphCodec:
        """Return a codec that knows the settings only; `learn` adds the types.

        Raises:
            RecipeError: an unknown setting or a bad value.
        """
        return GraphCodec(validate(GraphSpec, settings, where="codec"))

    @property
    def rule(self) -> str:
        """The rule that every graph keeps, or `none`."""
        return self.spec.rule or ("molecule" if self.form == "molecules" else "none")

    def learn(self, graphs: Sequence[Graph], form: Form) -> GraphCodec:
        """Return a codec of the types of some graphs, those to validate on among them.

        A set without edges gets one type of edge all the same, of molecules the single bond.
        """
        codec = replace(self, form=form)
        types = sorted({kind for graph in graphs for *_, kind in graph.edges})
        types = types or ["1" if codec.rule == "molecule" or form == "molecules" else "edge"]
        return replace(codec, kinds=tuple(sorted({kind for graph in graphs for kind in graph.nodes})),
                       types=tuple(types), largest=max(len(graph) for graph in graphs), graphs=len(graphs))

    def broken(self, graph: Graph) -> str:
        """Return why a graph breaks the rule, or is too large; empty when it keeps it."""
        if len(graph) > self.spec.largest:
            return f"it has {len(graph)} nodes, more than {self.spec.largest} (codec.largest)"
        return "" if self.rule == "none" else graph_rules.broken(graph, self.rule)

    def foreign(self, graph: Graph) -> str:
        """Return what of a graph a learned codec does not know, a type or its size; empty when it knows all."""
        if len(graph) > self.largest:
            return f"it has {len(graph)} nodes, the model knows {self.largest} at most"
        odd = [kind for kind in graph.nodes if kind not in self.kinds]  # an edge's type is none of a node
        odd += [kind for *_, kind in graph.edges if kind not in self.types]
        return f"the model knows no type '{odd[0]}'" if odd else ""

    def limits(self) -> GraphLimits:
        """Return the part of the rule that is kept by construction."""
        if self.rule == "molecule":
            return GraphLimits(connected=True, capacity=[max(valences(kind), default=0) for kind in self.kinds],
                               order=[int(kind) for kind in self.types])
        return GraphLimits(connected=self.rule != "none", one=self.rule == "tree")

    def encode(self, graph: Graph) -> CodedGraph:
        """Return a graph in numbers.

        Raises:
            DataError: a type that the codec does not know.
        """
        try:
            nodes = [self._numbers[0][kind] for kind in graph.nodes]
            edges = [(one, other, self._numbers[1][kind] + 1) for one, other, kind in graph.edges]
        except KeyError as error:
            raise DataError(f"the model knows no type {error}", fix=f"use {', '.join(self.kinds + self.types)}") \
                from None
        return CodedGraph(np.array(nodes, np.int32), np.array(edges, np.int32).reshape(-1, 3))

    def decode(self, nodes: NDArray[Any], edges: NDArray[Any]) -> Graph:
        """Return the graph of types int [n] and a symmetric matrix int [n, n] (0 none, else the type from 1)."""
        pairs = np.argwhere(np.triu(edges, 1))
        return Graph.of([self.kinds[kind] for kind in nodes],
                        [(int(one), int(other), self.types[edges[one, other] - 1]) for one, other in pairs])

    def text(self, graph: Graph) -> str:
        """Return a graph in one line: the SMILES of a molecule, else JSON."""
        if self.form == "molecules":
            return write_smiles(graph)
        text = json.dumps({"nodes": list(graph.nodes), "edges": [list(edge) for edge in graph.edges]},
                          ensure_ascii=False)
        return _BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)

    def key(self, graph: Graph) -> str:
        """Return a text that is equal for equal graphs.

        Raises:
            DataError: as in `bottega.core.graph.canonical`.
        """
        return molecule_key(graph) if self.form == "molecules" else canonical(graph)

    @cached_property
    def _numbers(self) -> tuple[dict[str, int], dict[str, int]]:
        return ({kind: number for number, kind in enumerate(self.kinds)},
                {kind: number for number, kind in enumerate(self.types)})

    @property
    def _saved(self) -> _Saved:
        return _Saved(spec=self.spec, form=self.form, kinds=list(self.kinds), types=list(self.types),
                      largest=self.largest, graphs=self.graphs)

    @property
    def digest(self) -> str:
        """SHA-256 of everything it knows."""
        return digest_json(self._saved.model_dump(mode="json"))

    def describe(self) -> dict[str, Any]:
        """Return the settings, ready for JSON."""
        return self.spec.model_dump(mode="json")

    def save(self, folder: Path) -> None:
        """Write graph_codec.json."""
        write_json(folder / FILE, self._saved.model_dump(mode="json"))

    @staticmethod
    def load(folder: Path) -> GraphCodec:
        """Read what `save` wrote.

        Raises:
            CorruptError: not such a file.
        """
        found = validate(_Saved, read_json(folder / FILE), where=str(folder / FILE), error=CorruptError)
        return GraphCodec(found.spec, found.form, tuple(found.kinds), tuple(found.types), found.largest, found.graphs)
