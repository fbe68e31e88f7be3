"""Rows as text and as plain values: CSV, JSON Lines, JSON; `bottega generate … -o rows.csv` and the server write them.

A missing value is an empty field of CSV and null of JSON; a time is written after ISO 8601 in JSON.
"""

from __future__ import annotations

import datetime
import io
import json
import math
from typing import Any

from bottega.core.table import Table


def rows_of(table: Table) -> list[dict[str, Any]]:
    """Return rows as plain values that JSON knows, keys in the order of the columns."""
    return [{name: _plain(value) for name, value in row.items()} for row in table.data.to_pylist()]


def csv_of(table: Table, *, header: bool = True) -> str:
    """Return rows as CSV after RFC 4180, quoted where needed.

    Args:
        table: the rows.
        header: begin with the names of the columns.
    """
    import pyarrow.csv as csv

    out = io.BytesIO()
    csv.write_csv(table.data, out, csv.WriteOptions(include_header=header, quoting_style="needed"))
    return out.getvalue().decode()


def jsonl_of(table: Table) -> str:
    """Return rows as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows_of(table))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)
