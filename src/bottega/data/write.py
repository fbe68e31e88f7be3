"""The last step of a group of slices: text, numbers and decisions joined into one file of the dataset.

Run by `bottega data prepare`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bottega.data.parquet import row_groups
from bottega.data.record import document_id, payload_of, prose
from bottega.data.signals import NUMBER_SIGNALS, measure
from bottega.data.words import hash_words, split_words

if TYPE_CHECKING:
    import pyarrow as pa

END = "held-out"  # last word of the origin of a row that is the held-out end of another
_SPACE = re.compile(r"\n|\s")


def document_schema() -> pa.Schema:
    """Return the columns of a dataset's files."""
    import pyarrow as pa

    strings = ("id", "origin", "document", "source", "kind", "format", "text", "licence", "split")
    return pa.schema([*((name, pa.string()) for name in strings), ("keep", pa.bool_()), ("reason", pa.string()),
                      ("cluster", pa.string()), ("cluster_size", pa.int64()), ("meta", pa.string()),
                      ("language", pa.string()), *((name, pa.float64()) for name in NUMBER_SIGNALS)])


def write_group(texts: list[Path], measures: list[Path], overlaps: list[Path], sources: list[str], decisions: Path,
                path: Path) -> dict[str, Any]:
    """Write one file of documents and return its counts.

    Args:
        texts, measures, overlaps: row-aligned files of the group's slices; `overlaps` may be empty.
        sources: name of each slice's source.
        decisions: Parquet file with split, keep, reason, cluster, cluster_size and cut of each row that is used.
        path: file to write.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = document_schema()
    tally = Tally()
    decided = pq.read_table(decisions)
    position = 0
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=3) as writer:
        for rows in _row_groups(texts, measures, overlaps, sources):
            out: list[dict[str, Any]] = []
            choices = decided.slice(position, len(rows)).to_pylist()  # with a limit fewer than the slices hold
            position += len(rows)
            for row, choice in zip(rows, choices, strict=False):
                cut = choice.pop("cut")
                row |= choice
                for piece in _held_out_end(row, cut) if cut else (row,):
                    tally.add(piece)
                    out.append(piece)
            if out:
                writer.write_table(pa.Table.from_pylist(out, schema=schema))
    return tally.facts()


def _row_groups(texts: list[Path], measures: list[Path], overlaps: list[Path],
                sources: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of all slices with their numbers, a row group at a time; texts and numbers have equal groups."""
    import pyarrow.parquet as pq

    numbers = [name for name in NUMBER_SIGNALS if name != "overlap"]
    for place, (text, measured, source) in enumerate(zip(texts, measures, sources, strict=True)):
        overlap = pq.read_table(overlaps[place])["overlap"].to_pylist() if overlaps else None
        position = 0
        columns = ["origin", "document", "kind", "format", "text", "licence", "meta"]
        for rows, values in zip(row_groups(text, columns), row_groups(measured, ["id", "language", *numbers]),
                                strict=True):
            for row, more in zip(rows, values, strict=True):
                row |= more
                row["id"] = row["id"].hex()
                row["source"] = source
                row["overlap"] = overlap[position] if overlap else 0.0
                position += 1
            yield rows


def _held_out_end(row: dict[str, Any], cut: int) -> Iterator[dict[str, Any]]:
    """Yield a row without its end and the end as a held-out row, divided at white space; or the row as it is."""
    text = row["text"]
    found = text.find("\n", cut, cut + (len(text) - cut) // 2)
    place = found + 1 if found >= 0 else match.end() if (match := _SPACE.search(text, cut)) else len(text)
    if place >= len(text):
        yield row
        return
    origin = f"{row['origin']}{'&' if '#' in row['origin'] else '#'}{END}"
    yield {**row, "text": text[:place], "split": "train", **_numbers(text[:place])}
    yield {**row, "id": document_id(origin), "origin": origin, "text": text[place:], "split": "validation",
           **_numbers(text[place:])}


def _numbers(text: str) -> dict[str, float]:
    words = split_words(text)
    return measure(text, words, hash_words(words))


class Tally:
    """Counts for the card."""

    def __init__(self) -> None:
        self.rows = self.ends = 0
        self.reasons: Counter[str] = Counter()
        self.sources: dict[str, Counter[str]] = {}
        self.languages: Counter[str] = Counter()
        self.licences: Counter[str] = Counter()
        self.kinds: dict[str, str] = {}
        self.splits = {name: {"rows": 0, "characters": 0, "bytes": 0} for name in ("train", "validation")}

    def add(self, row: dict[str, Any]) -> None:
        """Count one row."""
        counts = self.sources.setdefault(row["source"], Counter())
        if row["origin"].endswith(f"#{END}") or row["origin"].endswith(f"&{END}"):
            self.ends += 1
        else:
            self.rows += 1
            counts["rows"] += 1
        self.kinds.setdefault(row["kind"], row["source"])
        if not row["keep"]:
            self.reasons[row["reason"]] += 1
            counts[f"dropped: {row['reason']}"] += 1
            return
        text = prose(row["kind"], payload_of(row["kind"], row["text"]))
        counts["kept"] += 1
        counts["characters"] += len(text)
        self.languages[row["language"] or ("code" if row["format"] == "code" else "none")] += 1
        self.licences[row["licence"]] += 1
        split = self.splits[row["split"]]
        split["rows"] += 1
        split["characters"] += len(text)
        split["bytes"] += len(text.encode("utf-8"))

    def facts(self) -> dict[str, Any]:
        """Return JSON-ready counts."""
        return {"rows": self.rows, "ends": self.ends, "dropped": dict(self.reasons), "languages": dict(self.languages),
                "sources": {name: dict(counts) for name, counts in self.sources.items()},
                "licences": dict(self.licences), "kinds": self.kinds, "splits": self.splits}


def merge(into: dict[str, Any], facts: dict[str, Any]) -> None:
    """Add the counts of one file to those of the files before; of names the first is kept."""
    for key, value in facts.items():
        if isinstance(value, dict):
            merge(into.setdefault(key, {}), value)
        elif isinstance(value, int):
            into[key] = into.get(key, 0) + value
        else:
            into.setdefault(key, value)
