"""The last step of a group of slices: text, numbers and decisions joined into one file of the dataset.

Run by `bottega data prepare`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bottega.data.record import document_id, payload_of, prose
from bottega.data.signals import NUMBER_SIGNALS, measure
from bottega.data.words import hash_words, split_words

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 512
END = "held-out"  # last word of the origin of a row that is the held-out end of another
_DECIDED = ("split", "keep", "reason", "cluster", "cluster_size", "cut")
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
        decisions: Parquet file with the columns of `_DECIDED`, a row for each row of the slices that is used.
        path: file to write.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = document_schema()
    tally = Tally()
    decided = pq.read_table(decisions).to_batches(max_chunksize=_BATCH)
    rows = _rows(texts, measures, overlaps, sources)
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=3) as writer:
        for batch in decided:
            out: list[dict[str, Any]] = []
            for choice in batch.to_pylist():
                row = next(rows)
                cut = choice.pop("cut")
                row |= choice
                for piece in _held_out_end(row, cut) if cut else (row,):
                    tally.add(piece)
                    out.append(piece)
            writer.write_table(pa.Table.from_pylist(out, schema=schema))
    return tally.facts()


def _rows(texts: list[Path], measures: list[Path], overlaps: list[Path],
          sources: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of all slices, each with its numbers."""
    import pyarrow.parquet as pq

    for place, (text, measured, source) in enumerate(zip(texts, measures, sources, strict=True)):
        numbers = [name for name in NUMBER_SIGNALS if name != "overlap"]
        second = _stream(measured, ["id", "language", *numbers])
        third = _stream(overlaps[place], ["overlap"]) if overlaps else None
        for batch in pq.ParquetFile(text).iter_batches(batch_size=_BATCH):
            for row in batch.to_pylist():
                row |= next(second)
                row["id"] = row["id"].hex()
                row["source"] = source
                row["overlap"] = next(third)["overlap"] if third else 0.0
                yield row


def _stream(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(batch_size=_BATCH, columns=columns):
        yield from batch.to_pylist()


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
