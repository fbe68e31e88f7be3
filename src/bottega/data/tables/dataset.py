"""A prepared table: a folder that proves its own contents.

    rows-train.parquet, rows-validation.parquet     the rows as they were read, in types
    codes-train.npy, places-train.npy …             the same rows as a model sees them: int32 and float32 [N, D]
    table_codec.json                                schema, rules, codes
    card.json, lineage.json, manifest.json          what it is, where it came from, SHA-256 of every file

`bottega data prepare recipes/patients-table.yaml` makes one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import CorruptError, InputError
from bottega.core.files import MANIFEST, digest_json, read_json, verify_manifest
from bottega.core.lineage import LINEAGE, Lineage
from bottega.core.table import Schema, Table
from bottega.core.table_sequences import Layout
from bottega.data.dataset import CARD
from bottega.data.record import Split


class TableCodec(Protocol):
    """What is needed of a codec; `codecs.table.TableCodec` keeps it."""

    @property
    def spec(self) -> Any:
        """What was asked for."""

    @property
    def schema(self) -> Schema:
        """The table's columns."""

    @property
    def rules(self) -> list[Any]:
        """The declared rules."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything it knows."""

    def describe(self) -> dict[str, Any]:
        """Return the settings."""

    def declare(self, schema: Schema) -> list[Any]:
        """Return the declared rules, checked against a schema."""

    def learn(self, table: Table, layout: Layout | None = None, owner: NDArray[np.int64] | None = None) -> Self:
        """Return a codec of a table's columns and values; of steps with their layout and their entities."""

    def encode(self, table: Table) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return codes and places."""

    def save(self, folder: Path) -> None:
        """Write the codec's file."""

    @staticmethod
    def load(folder: Path) -> Any:
        """Read what `save` wrote."""


Codec = TypeVar("Codec", bound=TableCodec)


def content_digest(files: dict[str, dict[str, Any]]) -> str:
    """Return the digest of a table's content from a list of its files: rows and codec, no dates."""
    return digest_json({name: entry["sha256"] for name, entry in files.items() if name not in (CARD, LINEAGE)})


class TableDataset(Generic[Codec]):
    """A verified folder of a table.

    Attributes:
        path: the folder.
        card: content of card.json.
        digest: SHA-256 over rows and codec; equal for equal data, whenever and wherever it was made.
        codec: schema and codes.
        kind: always `table`.
    """

    kind: Literal["table"] = "table"

    def __init__(self, path: Path, card: dict[str, Any], digest: str, codec: Codec) -> None:
        self.path, self.card, self.digest, self.codec = path, card, digest, codec

    @staticmethod
    def open(path: Path, codec: type[Codec]) -> TableDataset[Codec]:
        """Check every file against the manifest and read card and codec.

        Raises:
            InputError: not a folder of a prepared table.
            CorruptError: a file is missing or changed; the message names it.
        """
        if not (path / MANIFEST).is_file():
            raise InputError(f"{path} is not a prepared table", fix="make one with 'bottega data prepare RECIPE'")
        verify_manifest(path)
        card, files = read_json(path / CARD), read_json(path / MANIFEST)["files"]
        digest = content_digest(files)
        about = card.get("bottega") if isinstance(card, dict) else None
        if not isinstance(about, dict) or about.get("kind") != "table" or about.get("digest") != digest:
            raise CorruptError(f"{path / CARD} does not describe this table", where=str(path),
                               fix="delete the folder and prepare the data again")
        return TableDataset(path, card, digest, codec.load(path))

    @property
    def notices(self) -> list[str]:
        """What a person should know of how the table was read, a line each."""
        return list(self.card["bottega"].get("notices", []))

    @property
    def lineage(self) -> Lineage:
        """The birth certificate."""
        return Lineage.load(self.path)

    def table(self, split: Split) -> Table:
        """Return the rows of a split as they were read."""
        import pyarrow.parquet as pq

        return Table(self.codec.schema, pq.read_table(self.path / f"rows-{split}.parquet"))

    def codes(self, split: Split) -> NDArray[np.int32]:
        """Return the codes of a split, int32 [N, D], memory-mapped and read-only."""
        found: NDArray[np.int32] = np.load(self.path / f"codes-{split}.npy", mmap_mode="r", allow_pickle=False)
        return found

    def places(self, split: Split) -> NDArray[np.float32]:
        """Return the places inside the codes, float32 [N, D], memory-mapped and read-only."""
        found: NDArray[np.float32] = np.load(self.path / f"places-{split}.npy", mmap_mode="r", allow_pickle=False)
        return found
