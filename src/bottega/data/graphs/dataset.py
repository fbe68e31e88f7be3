"""A prepared set of graphs: a folder that proves its own contents.

    nodes-train.npy, edges-train.npy, starts-train.npy …    all graphs of a split, one after another
    graph_codec.json                                        types and rule
    card.json, lineage.json, manifest.json                  what it is, where it came from, SHA-256 of every file

`bottega data prepare recipes/communities-graph.yaml` makes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import CorruptError, InputError
from bottega.core.files import MANIFEST, read_json, verify_manifest
from bottega.core.graph import Graph
from bottega.core.lineage import Lineage
from bottega.data.dataset import CARD
from bottega.data.record import Split
from bottega.data.tables.dataset import content_digest


class Coded(Protocol):
    """A graph in numbers; `codecs.graph.CodedGraph` is one."""

    @property
    def nodes(self) -> NDArray[np.int32]:
        """Types, int32 [n]."""

    @property
    def edges(self) -> NDArray[np.int32]:
        """Two nodes and a type counted from 1, int32 [m, 3]."""


class GraphCodec(Protocol):
    """What is needed of a codec; `codecs.graph.GraphCodec` keeps it."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything it knows."""

    @property
    def rule(self) -> str:
        """The rule that every graph keeps."""

    def describe(self) -> dict[str, Any]:
        """Return the settings."""

    def learn(self, graphs: Sequence[Graph], form: Any) -> Self:
        """Return a codec of the types of some graphs."""

    def broken(self, graph: Graph) -> str:
        """Return why a graph breaks the rule."""

    def foreign(self, graph: Graph) -> str:
        """Return what of a graph the codec does not know."""

    def encode(self, graph: Graph) -> Coded:
        """Return a graph in numbers."""

    def decode(self, nodes: NDArray[Any], edges: NDArray[Any]) -> Graph:
        """Return the graph of types and a matrix."""

    def key(self, graph: Graph) -> str:
        """Return a text that is equal for equal graphs."""

    def save(self, folder: Path) -> None:
        """Write the codec's file."""

    @staticmethod
    def load(folder: Path) -> Any:
        """Read what `save` wrote."""


Codec = TypeVar("Codec", bound=GraphCodec)


class _Stored:
    """One of many graphs that lie in two arrays."""

    def __init__(self, nodes: NDArray[np.int32], edges: NDArray[np.int32]) -> None:
        self.nodes, self.edges = nodes, edges


class CodedGraphs(Sequence[Any]):
    """The graphs of a split in numbers, memory-mapped.

    Args:
        folder: of the dataset.
        split: of it.
    """

    def __init__(self, folder: Path, split: Split) -> None:
        self._nodes, self._edges, self._starts = (
            np.load(folder / f"{name}-{split}.npy", mmap_mode="r", allow_pickle=False)
            for name in ("nodes", "edges", "starts"))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no graph {index} of {len(self)}")
        (node, edge), (last, end) = self._starts[index % len(self)], self._starts[index % len(self) + 1]
        return _Stored(self._nodes[node:last], self._edges[edge:end])


class GraphDataset(Generic[Codec]):
    """A verified folder of graphs.

    Attributes:
        path: the folder.
        card: content of card.json.
        digest: SHA-256 over graphs and codec; equal for equal data, whenever and wherever it was made.
        codec: types and rule.
        kind: always `graphs`.
    """

    kind: Literal["graphs"] = "graphs"

    def __init__(self, path: Path, card: dict[str, Any], digest: str, codec: Codec) -> None:
        self.path, self.card, self.digest, self.codec = path, card, digest, codec

    @staticmethod
    def open(path: Path, codec: type[Codec]) -> GraphDataset[Codec]:
        """Check every file against the manifest and read card and codec.

        Raises:
            InputError: not a folder of prepared graphs.
            CorruptError: a file is missing or changed; the message names it.
        """
        if not (path / MANIFEST).is_file():
            raise InputError(f"{path} is no prepared set of graphs", fix="make one with 'bottega data prepare RECIPE'")
        verify_manifest(path)
        card = read_json(path / CARD)
        digest = content_digest(read_json(path / MANIFEST)["files"])
        about = card.get("bottega") if isinstance(card, dict) else None
        if not isinstance(about, dict) or about.get("kind") != "graphs" or about.get("digest") != digest:
            raise CorruptError(f"{path / CARD} does not describe these graphs", where=str(path),
                               fix="delete the folder and prepare the data again")
        return GraphDataset(path, card, digest, codec.load(path))

    @property
    def lineage(self) -> Lineage:
        """The birth certificate."""
        return Lineage.load(self.path)

    def coded(self, split: Split) -> CodedGraphs:
        """Return the graphs of a split in numbers."""
        return CodedGraphs(self.path, split)

    def graphs(self, split: Split) -> list[Graph]:
        """Return the graphs of a split."""
        found = []
        for coded in self.coded(split):
            matrix = np.zeros((len(coded.nodes), len(coded.nodes)), np.int32)
            matrix[coded.edges[:, 0], coded.edges[:, 1]] = coded.edges[:, 2]
            found.append(self.codec.decode(coded.nodes, matrix))
        return found
