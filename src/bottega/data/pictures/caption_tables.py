"""Tables of captions beside pictures: CSV, JSONL or Parquet rows of a file's name and what is said of it.

    captions.csv | captions.jsonl | captions.parquet | metadata.csv | metadata.jsonl | metadata.parquet

Rows of `file_name` and `text`, also `label` and `split`. Exercised by `pytest tests/data/test_pictures.py`.
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from bottega.data.pictures.record import ROWS_SUFFIX
from bottega.data.pictures.trees import TABLE_BYTES, Tree, Unread

TABLES = tuple(f"{name}.{kind}" for name in ("captions", "metadata") for kind in ("csv", "jsonl", "parquet"))
FILE_KEYS = ("file_name", "filename", "file", "image", "path")
CAPTION_KEYS = ("text", "caption", "description", "prompt")
LABEL_KEYS = ("label", "class", "category")


def is_table(tree: Tree, name: str) -> bool:
    """Whether a file of a tree is a table of captions; a Parquet file that holds the pictures themselves is none."""
    lower = posixpath.basename(name).lower()
    if lower not in TABLES or not lower.endswith(ROWS_SUFFIX):
        return lower in TABLES
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(pa.BufferReader(tree.read(name, TABLE_BYTES)))
    except (Unread, pa.ArrowException, OSError):  # told by who reads it as rows of pictures
        return False
    return any(field.name in FILE_KEYS and _is_text(field.type) for field in schema)  # a name may stand twice


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def rows(data: bytes, name: str, text_field: str) -> Iterator[tuple[int, Any]]:
    """Yield the numbered rows of a table as mappings; one that cannot be read is text that says why.

    Args:
        data: content of the file.
        name: of the file: its ending says what it is.
        text_field: column of the captions besides the usual ones.
    """
    if name.lower().endswith(ROWS_SUFFIX):
        yield from _parquet(data, text_field)
        return
    text = data.decode("utf-8-sig", "replace").replace("\0", "")
    yield from _lines(text) if name.lower().endswith(".jsonl") else _csv(text)


def _parquet(data: bytes, text_field: str) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            names = class_names(file.schema_arrow)
            wanted = {text_field, *FILE_KEYS, *CAPTION_KEYS, *LABEL_KEYS, "split"} & set(file.schema_arrow.names)
            for batch in file.iter_batches(columns=sorted(wanted)):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {key: names[value] if key in LABEL_KEYS and isinstance(value, int)
                                   and 0 <= value < len(names) else value for key, value in row.items()}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # Parquet's text may be no UTF-8
        yield number + 1, f"not Parquet: {error}"


def _csv(text: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text))
    try:
        yield from ((reader.line_num, row) for row in reader)
    except csv.Error as error:
        yield reader.line_num, f"not CSV: {error}"


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
                yield number, row if isinstance(row, dict) else "not an object with keys"
            except (ValueError, RecursionError) as error:
                yield number, f"not JSON: {error}"


def class_names(schema: Any) -> list[str]:
    """Return the class names that Hugging Face's `datasets` keeps in a Parquet file's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = next(features[key]["names"] for key in LABEL_KEYS if "names" in features.get(key, {}))
        return [str(name) for name in names]
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, StopIteration):  # anybody's JSON
        return []


def first(row: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    """Return the value of the first key that a row has; None where it has none of them."""
    return next((row[key] for key in keys if row.get(key) is not None), None)


def tidy(text: str) -> str:
    """Return a caption in one line."""
    return " ".join(text.split())
