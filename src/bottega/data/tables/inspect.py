"""What is in a prepared table, for people: `bottega data prepare` and `bottega data inspect` print it."""

from __future__ import annotations

from typing import Any

import numpy as np

from bottega.core.table import Column
from bottega.data.tables.dataset import Codec, TableDataset


def summary(data: TableDataset[Codec]) -> dict[str, Any]:
    """Return counts, and for each column its kind and what its values are."""
    about = data.card["bottega"]
    return {"rows": {split: facts["rows"] for split, facts in about["splits"].items()},
            "left out": about["dropped"], "licences": ", ".join(about["licences"]),
            "columns": {column.name: _told(column) for column in data.codec.schema.columns}}


def samples(data: TableDataset[Codec], n: int, seed: int) -> list[dict[str, Any]]:
    """Return `n` random training rows as plain data."""
    table = data.table("train")
    rows: list[dict[str, Any]] = table.take(np.random.default_rng(seed).permutation(len(table))[:n]).data.to_pylist()
    return rows


def _told(column: Column) -> str:
    gone = f", {column.missing:.1%} missing" if column.missing else ""
    if column.ordered and column.low is not None:
        low, high = (str(np.datetime64(int(end or 0), "s")) if column.kind == "datetime" else f"{end:g}"
                     for end in (column.low, column.high))
        return f"{column.kind}, {low} to {high}{gone}"
    if column.levels:
        shown = ", ".join(column.levels[:6]) + (" …" if len(column.levels) > 6 else "")
        return f"{column.kind}, {len(column.levels)} levels: {shown}{gone}"
    return f"{column.kind}{gone}"
