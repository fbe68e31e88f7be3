"""What is known about each picture of a set while it is prepared: used or dropped, and on which side of the split.

Exercised by `pytest tests/data/test_pictures.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bottega.data.pictures.record import Stated
from bottega.data.record import Split


@dataclass(slots=True)
class Row:
    """One picture that could be decoded.

    Attributes:
        source, licence, origin: where it came from.
        pixels: SHA-256 of its pixels.
        sha256: hexadecimal SHA-256 of its file.
        label, caption, stated: what the source says about it.
        split: the side it is on.
        reason: why it was dropped.
        place: its number in the spool.
    """

    source: str
    licence: str
    origin: str
    pixels: bytes
    sha256: str
    label: str | None
    caption: str
    stated: Stated | None
    split: Split = "train"
    reason: str | None = None
    place: int = 0

    @property
    def keep(self) -> bool:
        """Whether it is used."""
        return self.reason is None

    @property
    def draw(self) -> float:
        """A number in [0, 1) that depends on the pixels alone: equal pictures are on one side of the split."""
        return int.from_bytes(hashlib.sha256(b"bottega split " + self.pixels).digest()[:6], "big") / 2**48


class Rows:
    """All rows of a set in the order they were read."""

    def __init__(self) -> None:
        self.all: list[Row] = []

    def add(self, row: Row) -> None:
        """Take in a row with the next place in the spool."""
        row.place = len(self.all)
        self.all.append(row)

    @property
    def kept(self) -> list[Row]:
        """Return the rows that are used."""
        return [row for row in self.all if row.keep]

    @cached_property
    def _sides(self) -> dict[Split, list[Row]]:
        kept = self.kept
        return {"train": [row for row in kept if row.split == "train"],
                "validation": [row for row in kept if row.split == "validation"]}

    def of(self, split: Split) -> list[Row]:
        """Return the used rows of a split, once `split` has been called."""
        return self._sides[split]

    def split(self, share: float, exact_duplicates: bool) -> dict[str, int] | None:
        """Put every row on a side, as its source states or else by a hash of its pixels; neither side stays empty.

        A source states a split when it has rows on both sides. Where it has no validation rows its test rows are
        those, else they are left alone. Held-out pictures that training shows too are dropped.

        Args:
            share: of the rows without a stated side that are held out.
            exact_duplicates: drop all but one of the rows with equal pixels and captions.

        Returns:
            How many rows were dropped by reason, or None when there are not two different pictures.
        """
        for source in {row.source for row in self.kept}:
            self._settle([row for row in self.kept if row.source == source], share)
        shown = {row.pixels for row in self.kept if row.split == "train"}
        for row in self.kept:
            if row.split == "validation" and row.pixels in shown:
                row.reason = "also-in-train"
        seen: set[tuple[bytes, str]] = set()
        for row in self.kept if exact_duplicates else ():
            if (row.pixels, row.caption) in seen:
                row.reason = "exact-duplicate"
            seen.add((row.pixels, row.caption))
        kept = sorted(self.kept, key=lambda row: (row.draw, row.pixels))
        if not kept or kept[0].pixels == kept[-1].pixels:
            return None
        edges: dict[Split, bytes] = {"validation": kept[0].pixels, "train": kept[-1].pixels}
        for side, pixels in edges.items():
            if all(row.split != side for row in kept):
                for row in kept:
                    row.split = side if row.pixels == pixels else row.split
        return dict(sorted(Counter(row.reason for row in self.all if row.reason).items()))

    def _settle(self, rows: list[Row], share: float) -> None:
        stated = {row.stated for row in rows}
        held = "validation" if "validation" in stated else "test"
        both = "train" in stated and held in stated
        for row in rows:
            if both and row.stated is not None:
                row.split = "validation" if row.stated == held else "train"
                if row.stated == "test" != held:
                    row.reason = "test-split"
            else:
                row.split = "validation" if row.draw < share else "train"

    def classes(self) -> list[str]:
        """Return the names of the classes of used rows, numbers in their order."""
        return sorted({row.label for row in self.kept if row.label is not None}, key=_natural)

    def class_counts(self, split: Split) -> dict[str, int]:
        """Return the number of pictures of each class of a split."""
        counts = Counter(row.label for row in self.of(split) if row.label is not None)
        return {name: counts[name] for name in sorted(counts, key=_natural)}

    def shorten(self, shortened: Callable[[str], str]) -> int:
        """Cut captions to what can be encoded and return how many were too long."""
        count = 0
        for row in self.kept:
            text = shortened(row.caption)
            count += text != row.caption and bool(text)
            row.caption = text
        return count

    def write(self, path: Path, classes: list[str]) -> None:
        """Write all rows as Parquet: the used ones in the order of the arrays, then the dropped ones."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        numbers = {name: number for number, name in enumerate(classes)}
        rows = [*self.of("train"), *self.of("validation"), *(row for row in self.all if not row.keep)]
        pq.write_table(pa.table({
            "origin": [row.origin for row in rows], "source": [row.source for row in rows],
            "sha256": [row.sha256 for row in rows],
            "label": pa.array([numbers.get(row.label or "", -1) for row in rows], pa.int64()),
            "class": pa.array([row.label for row in rows], pa.string()),
            "caption": [row.caption for row in rows],
            "split": pa.array([row.split if row.keep else None for row in rows], pa.string()),
            "keep": [row.keep for row in rows], "reason": pa.array([row.reason for row in rows], pa.string()),
            "licence": [row.licence for row in rows]}), path, compression="zstd")


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts 9 before 10."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part)
                 for part in re.split(r"(\d+)", name) if part)
