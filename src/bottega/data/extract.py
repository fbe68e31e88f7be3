"""Step 1 of a slice: read, extract and normalise into rows of a Parquet file. Run by `bottega data prepare`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bottega.core.errors import InputError
from bottega.core.files import canonical_json, digest_json
from bottega.data.builtin import BUILTIN
from bottega.data.formats import PART, Unreadable, cut, read_parts
from bottega.data.normalise import normalise
from bottega.data.parquet import GROUP_CHARACTERS, GROUP_ROWS
from bottega.data.record import Record
from bottega.data.rows import Row, read_rows, usable
from bottega.data.signals import format_of
from bottega.data.sources import Slice, load_hub

if TYPE_CHECKING:
    import pyarrow as pa

_CONVERSATION = 1 << 20  # characters of a conversation, which is never divided
_EXAMPLES = 5
_COLUMNS = ("origin", "document", "kind", "format", "text", "licence", "split", "meta")


class Skips:
    """What was left out while reading: counts by reason and a few places of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def __call__(self, reason: str, place: str, detail: str) -> None:
        """Count one file or row."""
        self.counts[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(f"{place}: {detail}")

    def add(self, facts: dict[str, Any]) -> None:
        """Add what a step recorded in `facts()`."""
        self.counts.update(facts["skipped"])
        for reason, places in facts["examples"].items():
            examples = self.examples.setdefault(reason, [])
            examples.extend(places[:_EXAMPLES - len(examples)])

    def facts(self) -> dict[str, Any]:
        """Return JSON-ready counts and examples."""
        return {"skipped": dict(sorted(self.counts.items())), "examples": self.examples}


def schema() -> pa.Schema:
    """Return the columns of an extracted slice."""
    import pyarrow as pa

    return pa.schema([(name, pa.string()) for name in _COLUMNS])


def extract(piece: Slice, *, text_field: str, licence: str, limit: int | None, path: Path) -> dict[str, Any]:
    """Write the rows of one slice and return its facts: `rows`, `characters`, `skipped`, `examples`.

    Raises:
        InputError: a file changed after it was hashed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    skips = Skips()
    rows = characters = 0
    columns: dict[str, list[str | None]] = {name: [] for name in _COLUMNS}
    with pq.ParquetWriter(path, schema(), compression="zstd", compression_level=1) as writer:

        def flush() -> None:
            if columns["text"]:
                writer.write_table(pa.table(columns, schema=schema()))
                for values in columns.values():
                    values.clear()

        held = 0
        for record, document in _records(piece, text_field, licence, skips):
            if limit is not None and rows >= limit:
                break
            values = (record.origin, document, record.kind, format_of(record.kind, record.origin), record.text,
                      record.licence, record.split, canonical_json(record.meta))
            for name, value in zip(_COLUMNS, values, strict=True):
                columns[name].append(value)
            rows, characters, held = rows + 1, characters + len(record.text), held + len(record.text)
            if len(columns["text"]) >= GROUP_ROWS or held >= GROUP_CHARACTERS:
                flush()
                held = 0
        flush()
    _check_unchanged(piece)
    return {"rows": rows, "characters": characters, **skips.facts()}


def _records(piece: Slice, text_field: str, licence: str, skips: Skips) -> Iterator[tuple[Record, str]]:
    """Yield normalised records, each with the origin of the document it is a part of."""
    if piece.kind == "builtin":
        for record in BUILTIN[piece.source]():
            yield from _divided(record, skips)
    elif piece.kind == "hub":
        yield from _hub(piece.source, text_field, licence, skips)
    elif piece.kind == "rows":
        item = piece.inputs[0]
        try:
            rows = read_rows(Path(item.path), text_field, start=piece.start, end=piece.end, line=piece.line)
            yield from _rows(rows, f"file:{item.name}#row=", item.path, licence, skips)
        except Unreadable as fault:
            skips(fault.reason, item.path, fault.detail)
    else:
        for item in piece.inputs:
            origin = f"file:{item.name}"
            exact = format_of("text", origin) == "code"
            try:
                if item.bytes == 0:
                    raise Unreadable("empty", "the file is empty")
                for number, part in enumerate(read_parts(Path(item.path))):
                    name = f"{origin}#part={number}" if number else origin
                    yield Record("text", name, normalise(part, exact=exact), licence), origin
            except Unreadable as fault:
                skips(fault.reason, item.path, fault.detail)


def _divided(record: Record, skips: Skips) -> Iterator[tuple[Record, str]]:
    """Yield a record normalised, a long text in parts; a conversation of excessive length is left out."""
    if record.kind != "text":
        if len(record.text) > _CONVERSATION:
            skips("too-long", record.origin, f"a conversation of {len(record.text)} characters")
        else:
            yield record, _document(record)
        return
    exact = format_of("text", record.origin) == "code"
    for number, part in enumerate(cut(iter([record.text])) if len(record.text) > PART else [record.text]):
        origin = f"{record.origin}{'&' if '#' in record.origin else '#'}part={number}" if number else record.origin
        text = normalise(part, exact=exact)
        yield Record("text", origin, text, record.licence, record.split, record.meta), record.origin


def _document(record: Record) -> str:
    """Return what is on one side of the split as a whole: judged answers to one prompt stay together."""
    if record.kind in ("preference", "rating"):
        return f"prompt:{digest_json(record.payload()['messages'])[:32]}"
    return record.origin


def _rows(rows: Iterator[Row], origin: str, place: str, licence: str, skips: Skips,
          split: Any = None) -> Iterator[tuple[Record, str]]:
    for row in rows:
        if row.fault is not None:
            skips(row.fault.reason, f"{place}:{row.number}", row.fault.detail)
        else:
            yield from _divided(Record(row.kind, f"{origin}{row.number}", row.text, licence, split), skips)


def _hub(source: str, text_field: str, licence: str, skips: Skips) -> Iterator[tuple[Record, str]]:
    for name, part in load_hub(source).items():
        if name in ("train", "validation"):
            rows = usable(enumerate(part, 1), text_field)
            split = "validation" if name == "validation" else None
            yield from _rows(rows, f"{source}/{name}#row=", f"{source}/{name}", licence, skips, split)


def _check_unchanged(piece: Slice) -> None:
    for item in piece.inputs:
        try:
            status = os.stat(item.path)
        except OSError:
            continue  # it went unreadable: that was counted while reading
        if (status.st_size, status.st_mtime_ns) != (item.bytes, item.modified):
            raise InputError(f"{item.path} changed while it was read", fix="run the same command again")
