"""A prepared dataset: a folder of Parquet files that proves its own contents. `bottega data prepare` makes one.

    documents-00000.parquet …   every document, kept or dropped, with its numbers and the reason
    card.json                   Croissant metadata, counts by stage and reason
    lineage.json                where it came from and what it cost
    manifest.json               SHA-256 of every file
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bottega.core.errors import CorruptError, InputError, suggest
from bottega.core.files import MANIFEST, digest_json, read_json, verify_manifest
from bottega.core.lineage import Lineage
from bottega.data.parquet import row_groups
from bottega.data.record import Kind, Split, payload_of, prose

CARD = "card.json"
SPLITS: tuple[Split, ...] = ("train", "validation")


def documents_digest(files: dict[str, dict[str, Any]]) -> str:
    """Return the digest of a dataset's content from a table of its files: only the documents count, no dates."""
    return digest_json({name: entry["sha256"] for name, entry in files.items() if name.startswith("documents-")})


class Dataset:
    """A verified dataset folder.

    Attributes:
        path: the folder.
        card: content of card.json.
        digest: SHA-256 over the documents; equal for equal data, whenever and wherever it was made.
        kind: of its records (see `record.Record`).
    """

    def __init__(self, path: Path, card: dict[str, Any], digest: str) -> None:
        self.path, self.card, self.digest = path, card, digest
        self.kind: Kind = card["bottega"]["kind"]

    @staticmethod
    def open(path: Path) -> Dataset:
        """Check every file against the manifest and read the card.

        Raises:
            InputError: not a dataset folder.
            CorruptError: a file is missing or changed; the message names it.
        """
        if not (path / MANIFEST).is_file() and not (path / CARD).is_file():
            raise InputError(f"{path} is not a prepared dataset", fix="make one with 'bottega data prepare RECIPE'")
        verify_manifest(path)
        card = read_json(path / CARD)
        digest = documents_digest(read_json(path / MANIFEST)["files"])
        if not isinstance(card, dict) or card.get("bottega", {}).get("digest") != digest:
            raise CorruptError(f"{path / CARD} does not describe these documents", where=str(path),
                               fix="delete the folder and prepare the data again")
        return Dataset(path, card, digest)

    @property
    def lineage(self) -> Lineage:
        """The birth certificate."""
        return Lineage.load(self.path)

    def files(self) -> list[Path]:
        """Return the Parquet files in order."""
        return sorted(self.path.glob("documents-*.parquet"))

    def count(self, split: Split) -> int:
        """Return the number of kept rows of a split."""
        return int(self.card["bottega"]["splits"][_known(split)]["rows"])

    def rows(self, split: Split, keep_only: bool = True) -> Iterator[dict[str, Any]]:
        """Yield the rows of a split in their fixed order.

        Args:
            split: `train` or `validation`.
            keep_only: leave out dropped rows.

        Yields:
            `id`, `text`, `source`, `licence`, `meta`, `keep`, `reason` and the payload's own keys
            (`messages`, `chosen`, `rejected`, `answer`, `desirable`, `margin`, `rater`).
        """
        columns = ["id", "kind", "text", "source", "licence", "meta", "keep", "reason"]
        for row in self.scan(columns, split=split, keep=True if keep_only else None):
            kind = row.pop("kind")
            yield {**row, **payload_of(kind, row["text"]), "meta": json.loads(row["meta"])}

    def texts(self, split: Split) -> Iterator[str]:
        """Yield the kept texts of a split; of conversations the words of all turns and answers."""
        for row in self.scan(["kind", "text"], split=split, keep=True):
            yield prose(row["kind"], payload_of(row["kind"], row["text"]))

    def scan(self, columns: list[str], *, split: Split | None = None,
             keep: bool | None = None) -> Iterator[dict[str, Any]]:
        """Yield chosen columns of the rows that match, a row group in memory at a time."""
        wanted = None if split is None else _known(split)
        needed = list(dict.fromkeys([*columns, "split", "keep"]))
        for file in self.files():
            for rows in row_groups(file, needed):
                for row in rows:
                    if (wanted is None or row["split"] == wanted) and (keep is None or row["keep"] is keep):
                        yield {name: row[name] for name in columns}


def _known(split: Split) -> Split:
    if split not in SPLITS:
        raise InputError(f"a dataset has no split '{split}'", fix=suggest(split, SPLITS))
    return split
