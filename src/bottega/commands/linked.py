"""Rows as files: `bottega generate visits -o made.csv`, and two linked tables with `-o folder`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bottega.core.table import Table
    from bottega.core.table_sequences import Layout

SUFFIXES = (".parquet", ".csv", ".jsonl")


def text_of(table: Table, suffix: str) -> str:
    """Return rows as CSV with a header (`.csv`) or as JSON Lines (`.jsonl`)."""
    from bottega.core.table_text import csv_of, jsonl_of

    return jsonl_of(table) if suffix == ".jsonl" else csv_of(table)


def write_linked(folder: Path, rows: Table, layout: Layout, content: bytes) -> None:
    """Write two linked tables under the names of the files they were learned from; Parquet says how it was made.

    Args:
        folder: made where it is not there.
        rows: their left join.
        layout: that splits it.
        content: the rows as the Parquet file that is recorded.

    Raises:
        ResourceError: the disk is full.
    """
    from bottega.core.files import write_atomic
    from bottega.tables import parquet_of
    from bottega.workshop.table_lane import facts_of, told

    folder.mkdir(parents=True, exist_ok=True)
    for part, (name, table) in enumerate(zip(layout.files, layout.split(rows), strict=True)):
        path = folder / name
        if path.suffix.lower() not in SUFFIXES:
            path = path.with_suffix(".csv")
        write_atomic(path, parquet_of(told(table, {**(facts_of(content) or {}), "part": part}))
                     if path.suffix.lower() == ".parquet" else text_of(table, path.suffix.lower()))
