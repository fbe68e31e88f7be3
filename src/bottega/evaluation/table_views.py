"""Several tables seen alike, so that one number means the same value in each; `pytest tests/evaluation`.

What compares tables (shapes, distances, classifiers, attacks) reads them through `views`: ordered columns as float64,
coded ones as numbers of levels that all the tables share. Columns that no model learns (ids, free text) are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import DataError, InputError
from bottega.core.table import Table

Values = NDArray[np.float64]
Codes = NDArray[np.int32]
Rows = NDArray[np.integer[Any]] | NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class View:
    """The learned columns of a table.

    Attributes:
        values: ordered columns, float64 [N]; NaN is missing.
        codes: coded columns, int32 [N] into `levels`; -1 is missing.
        levels: texts of the codes, the same list in all tables that were viewed together.
        order: names of all columns, as in the schema.
        rows: N.
    """

    values: dict[str, Values]
    codes: dict[str, Codes]
    levels: dict[str, list[str]]
    order: list[str]
    rows: int

    def take(self, rows: Rows) -> View:
        """Return the given rows (indices, or a mask), in that order."""
        values = {name: column[rows] for name, column in self.values.items()}
        codes = {name: column[rows] for name, column in self.codes.items()}
        count = int(rows.sum()) if rows.dtype == np.bool_ else len(rows)
        return View(values, codes, self.levels, self.order, count)

    def missing(self, name: str) -> NDArray[np.bool_]:
        """Return where a column is missing: bool [N]."""
        return np.isnan(self.values[name]) if name in self.values else self.codes[name] < 0


def views(*tables: Table) -> list[View]:
    """View tables alike; the first one's schema says which columns are learned and how.

    Raises:
        InputError: a table has no rows, no column is learned, or a column is a number in one table and a category
            in another.
        DataError: a number is infinite.
    """
    columns = tables[0].schema.learned
    if not columns:
        raise InputError("no column of the table is learned", fix="give it a number, a time, a category or a boolean")
    for table in tables:
        _check(table, tables[0])
    levels: dict[str, list[str]] = {}
    codes: dict[str, list[Codes]] = {}
    for column in columns:
        if not column.ordered:
            levels[column.name], codes[column.name] = _shared([table.codes(column.name) for table in tables])
    order = [column.name for column in columns]
    return [View({column.name: _finite(table, column.name) for column in columns if column.ordered},
                 {name: each[index] for name, each in codes.items()}, levels, order, len(table))
            for index, table in enumerate(tables)]


def _check(table: Table, first: Table) -> None:
    if len(table) == 0:
        raise InputError("a table without rows cannot be compared", fix="give tables that have rows")
    for column in first.schema.learned:
        other = table.schema.column(column.name)
        if other.ordered != column.ordered:
            raise InputError(f"column '{column.name}' is {column.kind} in one table and {other.kind} in another",
                             fix="read all tables under one schema")


def _finite(table: Table, name: str) -> Values:
    values = table.values(name)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise DataError(f"column '{name}' has {len(infinite)} infinite numbers, the first in row {infinite[0]}",
                        fix="make them missing, or leave these rows out")
    return values


def _shared(columns: Sequence[tuple[Codes, list[str]]]) -> tuple[list[str], list[Codes]]:
    """Renumber codes of several tables over the union of their levels."""
    union = {level: index for index, level in enumerate(dict.fromkeys(
        level for _, levels in columns for level in levels))}
    places = [np.array([*(union[level] for level in levels), -1], np.int32) for _, levels in columns]
    return list(union), [place[codes] for place, (codes, _) in zip(places, columns, strict=True)]


def row_keys(*tables: View) -> list[NDArray[np.int64]]:
    """Return an int64 [N] a table: equal for rows that are equal in all learned columns, missing values included."""
    ends = np.cumsum([table.rows for table in tables])[:-1]
    keys = np.zeros(sum(table.rows for table in tables), np.int64)
    for name in tables[0].order:
        parts = [table.values.get(name, table.codes.get(name)) for table in tables]
        own = np.unique(np.concatenate([part for part in parts if part is not None]), return_inverse=True)[1]
        keys = np.unique(keys * (int(own.max()) + 1) + own, return_inverse=True)[1].astype(np.int64)
    return np.split(keys, ends)


def sample(rows: int, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return all row numbers in order, or `most` drawn without replacement, in order."""
    return np.arange(rows) if rows <= most else np.sort(rng.permutation(rows)[:most])
