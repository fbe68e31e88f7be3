"""Distances between rows of mixed columns, exact and in blocks; `pytest tests/evaluation/test_table_privacy.py`.

The distance of two rows is the mean over columns of |a - b| / range for numbers and times, of 0 or 1 for categories;
missing against missing is 0, missing against a value 1. It is summed in integers, millionths of a range: no sum
depends on its order, a tie is a tie, and a column can be taken out of a sum again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.evaluation.table_views import View

Whole = NDArray[np.int32]
_BLOCK = 32  # rows compared with all others at once: a block of 10,000 columns stays in the processor's cache
_BEYOND = 1.0  # ranges that a value counts at most beyond the real ones: one absurd number is not all of a distance


@dataclass(frozen=True, slots=True)
class Points:
    """Rows as whole numbers.

    Attributes:
        numbers: column → int32 [1 or 2, N]; distances add up over these coordinates. Two where values are missing:
            (x/2, (1 - x)/2), and (-1/4, -1/4) for missing, which is 1 away from every x of the range and 0 from itself.
        codes: column → [N] in the smallest type.
        unit: what stands for a distance of 1.
        rows: N.
    """

    numbers: dict[str, Whole]
    codes: dict[str, NDArray[np.integer[Any]]]
    unit: int
    rows: int

    def take(self, rows: NDArray[np.integer[Any]] | slice) -> Points:
        """Return the given rows."""
        numbers = {name: column[:, rows] for name, column in self.numbers.items()}
        codes = {name: column[rows] for name, column in self.codes.items()}
        count = len(range(*rows.indices(self.rows))) if isinstance(rows, slice) else len(rows)
        return Points(numbers, codes, self.unit, count)

    def only(self, columns: Sequence[str]) -> Points:
        """Return the given columns."""
        return Points({name: column for name, column in self.numbers.items() if name in columns},
                      {name: column for name, column in self.codes.items() if name in columns}, self.unit, self.rows)


def points(tables: Sequence[View], real: Sequence[View]) -> list[Points]:
    """Return the rows of tables as points of one space.

    Args:
        tables: viewed together with `real`.
        real: tables whose joint ranges scale the numbers. All real rows, training and held out: a scale from one of
            them would put it nearer.
    """
    width = len(tables[0].order)
    unit = 1 << min(20, (2 ** 31 // (int(2 * (1 + 2 * _BEYOND)) * width)).bit_length() - 1)
    numbers: list[dict[str, Whole]] = [{} for _ in tables]
    for name in tables[0].values:
        known = np.concatenate([view.values[name][~np.isnan(view.values[name])] for view in real])
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
        gaps = any(bool(view.missing(name).any()) for view in (*tables, *real))
        for place, view in zip(numbers, tables, strict=True):
            place[name] = _coordinates(view.values[name], low, high, unit, gaps)
    codes = [{name: column.astype(np.min_scalar_type(-len(view.levels[name]) - 1))
              for name, column in view.codes.items()} for view in tables]
    return [Points(number, code, unit, view.rows) for number, code, view in zip(numbers, codes, tables, strict=True)]


def _coordinates(values: NDArray[np.float64], low: float, high: float, unit: int, gaps: bool) -> Whole:
    gone = np.isnan(values)
    with np.errstate(over="ignore", invalid="ignore"):
        if high > low:
            scaled = np.clip((values - low) / (high - low), -_BEYOND, 1 + _BEYOND)
        else:
            scaled = np.sign(values - low)  # a constant: anything else is one range away
    half = np.rint(np.where(gone, 0.0, scaled) * (unit // 2)).astype(np.int32)
    if not gaps:
        return np.asarray(2 * half, np.int32)[None]
    return np.where(gone, -unit // 4, np.stack([half, unit // 2 - half])).astype(np.int32)


def distances(one: Points, other: Points) -> Whole:
    """Return the summed distance of each pair, over all columns, in units: int32 [n, m]; small n only."""
    total = np.zeros((one.rows, other.rows), np.int32)
    work = np.empty_like(total)
    for name, column in one.numbers.items():
        for mine, theirs in zip(column, other.numbers[name], strict=True):
            np.subtract(mine[:, None], theirs, out=work)
            total += np.abs(work, out=work)
    if one.codes:
        differing = np.zeros(total.shape, np.uint8 if len(one.codes) < 256 else np.uint16)
        for name, codes in one.codes.items():
            differing += codes[:, None] != other.codes[name]
        np.multiply(differing, np.int32(one.unit), out=work, casting="unsafe")
        total += work
    return total


@dataclass(frozen=True, slots=True)
class Closest:
    """Who is nearest.

    Attributes:
        first, second: float64 [n], mean distance of a row to its nearest and second nearest other row; second is
            infinite when there is only one.
        index: int64 [n], which one is nearest (the first of equals).
        back: float64 [m], mean distance of each other row to the nearest of the n.
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    index: NDArray[np.int64]
    back: NDArray[np.float64]


def closest(one: Points, other: Points) -> Closest:
    """Compare all rows of `one` with all rows of `other`, a block at a time."""
    highest = np.iinfo(np.int32).max
    first, second = np.empty(one.rows, np.int32), np.full(one.rows, highest, np.int32)
    index, back = np.empty(one.rows, np.int64), np.full(other.rows, highest, np.int32)
    for start in range(0, one.rows, _BLOCK):
        block = distances(one.take(slice(start, start + _BLOCK)), other)
        rows, here = np.arange(len(block)), slice(start, start + len(block))
        np.minimum(back, block.min(axis=0), out=back)
        index[here] = block.argmin(axis=1)
        first[here] = block[rows, index[here]]
        if other.rows > 1:
            block[rows, index[here]] = highest
            second[here] = block.min(axis=1)
    scale = one.unit * max(1, len(one.numbers) + len(one.codes))
    far = np.where(second == highest, np.inf, second / scale)
    return Closest(first / scale, far, index, back / scale)


def neighbours(one: Points, other: Points, k: int) -> NDArray[np.int64]:
    """Return the numbers of the k rows of `other` nearest to each row of `one`: int64 [n, min(k, m)], in no order."""
    k = min(k, other.rows)
    found = np.empty((one.rows, k), np.int64)
    for start in range(0, one.rows, _BLOCK):
        block = distances(one.take(slice(start, start + _BLOCK)), other)
        found[start:start + len(block)] = np.argpartition(block, k - 1, axis=1)[:, :k]
    return found
