"""Rows of JSONL, JSON, CSV and Parquet files to records; `bottega data prepare` reads through here.

What a row is follows from its keys (see `forms`).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bottega.core.errors import DataError
from bottega.core.files import canonical_json
from bottega.data.formats import WHOLE_FILE, Unreadable, encoding_of
from bottega.data.forms import recognise
from bottega.data.normalise import normalise
from bottega.data.record import Kind, check_payload

ROW_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".json.gz", ".csv", ".tsv", ".parquet", ".json")
LINE_LIMIT = 16 << 20  # bytes of one JSONL or CSV line; a longer one is skipped as too-long


@dataclass(frozen=True, slots=True)
class Row:
    """One row, or why it cannot be used. `number` counts lines from 1 (of Parquet and JSON lists: rows)."""

    number: int
    kind: Kind = "text"
    text: str = ""
    fault: Unreadable | None = None


def is_row_file(name: str) -> bool:
    """Tell whether a file holds rows, by its name."""
    return name.lower().endswith(ROW_SUFFIXES)


def read_rows(path: Path, text_field: str, *, start: int = 0, end: int | None = None, line: int = 1) -> Iterator[Row]:
    """Yield the rows of one file; a bad row is yielded with its fault and reading goes on.

    Args:
        path: the file.
        text_field: column that holds the text.
        start: byte of an uncompressed JSONL file to begin at (a line start); `end`: byte to stop before.
        line: number of the line at `start`.

    Raises:
        Unreadable: the file as a whole cannot be read.
    """
    return usable(objects(path, start=start, end=end, line=line), text_field)


def objects(path: Path, *, start: int = 0, end: int | None = None, line: int = 1) -> Iterator[tuple[int, Any]]:
    """Yield the numbered rows of a file as they are, or an `Unreadable` in a row's place; arguments as `read_rows`.

    Raises:
        Unreadable: the file as a whole cannot be read.
    """
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            yield from _parquet(path)
        elif name.endswith((".csv", ".tsv")):
            yield from _csv(path, "\t" if name.endswith(".tsv") else ",")
        elif name.endswith(".json"):
            yield from _json_list(path)
        elif name.endswith(".gz"):
            with gzip.open(path, "rb") as packed:
                yield from _lines(packed, None, 1)
        else:
            with path.open("rb") as file:
                file.seek(start)
                yield from _lines(file, None if end is None else end - start, line)
    except (EOFError, zlib.error) as error:
        raise Unreadable("unreadable", f"the compressed file is broken: {error}") from error
    except OSError as error:
        raise Unreadable("unreadable", error.strerror or str(error)) from error


def usable(rows: Iterator[tuple[int, Any]], text_field: str) -> Iterator[Row]:
    """Yield what each numbered object is good for: a record's kind and text, or the fault it has."""
    for number, data in rows:
        try:
            if isinstance(data, Unreadable):
                raise data
            yield Row(number, *_record(data, text_field))
        except Unreadable as fault:
            yield Row(number, fault=fault)


def _record(data: Any, text_field: str) -> tuple[Kind, str]:
    """Return kind and normalised text (canonical JSON of all but texts) of one row."""
    kind, payload = recognise(data, text_field)
    if kind == "text":
        return kind, payload["text"]
    try:
        return kind, canonical_json(_clean(check_payload(kind, payload, where="")))
    except DataError as error:
        raise Unreadable("malformed", error.problem) from error


def _clean(value: Any) -> Any:
    """Return a payload with every string in normal form."""
    if isinstance(value, str):
        return normalise(value, exact=True)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {key: _clean(item) for key, item in value.items()}


def _raw_lines(file: IO[bytes] | gzip.GzipFile, size: int | None) -> Iterator[bytes | Unreadable]:
    """Yield lines of at most `LINE_LIMIT` bytes; the rest of a longer one is passed over in blocks."""
    read = 0
    while (size is None or read < size) and (raw := file.readline(LINE_LIMIT + 1)):
        read += len(raw)
        if len(raw) > LINE_LIMIT:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(1 << 20)
                read += len(raw)
            yield Unreadable("too-long", f"the line is longer than {LINE_LIMIT >> 20} MB")
        else:
            yield raw


def _lines(file: IO[bytes] | gzip.GzipFile, size: int | None, number: int) -> Iterator[tuple[int, Any]]:
    for raw in _raw_lines(file, size):
        if isinstance(raw, Unreadable):
            yield number, raw
        elif stripped := raw.removeprefix(b"\xef\xbb\xbf").strip():
            try:
                yield number, json.loads(stripped.decode("utf-8", "replace"))
            except (ValueError, RecursionError) as error:
                yield number, Unreadable("malformed", f"not JSON: {error}")
        number += 1


def _json_list(path: Path) -> Iterator[tuple[int, Any]]:
    if path.stat().st_size > WHOLE_FILE:
        raise Unreadable("too-large", f"over {WHOLE_FILE >> 20} MB: write it as JSONL, one object a line")
    data = path.read_bytes()
    try:
        value = json.loads(data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace"))
    except (ValueError, RecursionError) as error:
        if b"\n{" in data:  # one object a line under the name .json
            yield from _lines(io.BytesIO(data), None, 1)
            return
        raise Unreadable("malformed", f"not JSON: {error}") from error
    yield from enumerate(value if isinstance(value, list) else [value], 1)


def _csv(path: Path, delimiter: str) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(LINE_LIMIT)
    with path.open("rb") as file:
        encoding = encoding_of(file.read(1 << 20))
        if encoding.startswith("utf-16") or encoding.startswith("utf-32"):
            raise Unreadable("unreadable", f"{encoding} tables are not read: save it as UTF-8")
        file.seek(0)
        reader = csv.DictReader(_csv_lines(file, encoding), delimiter=delimiter)
        try:
            if not reader.fieldnames:
                return
            for row in reader:
                row.pop(None, None)
                yield reader.line_num, row
        except csv.Error as error:
            yield reader.line_num, Unreadable("malformed", f"not CSV: {error}")


def _csv_lines(file: IO[bytes], encoding: str) -> Iterator[str]:
    for raw in _raw_lines(file, None):
        if isinstance(raw, Unreadable):
            raise raw
        yield raw.decode(encoding, "replace").replace("\0", "")


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = 0
        for batch in pq.ParquetFile(path).iter_batches(batch_size=256):
            for number, row in enumerate(batch.to_pylist(), number + 1):  # noqa: B020
                yield number, row
    except (pa.ArrowInvalid, pa.ArrowException) as error:
        raise Unreadable("unreadable", f"Parquet: {error}") from error
