"""Columns under differential privacy: a public domain, noisy counts of one column, and codes made from them.

Cells are what is kept of a column: a level, or a run of grid points (one point where the counts show a spike). Groups
of cells are what pairs are counted over; missing is a cell of its own. `pytest tests/families/test_marginals.py`
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import InputError, suggest
from bottega.core.table import Column, Table

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
FAN = 16  # most children of a node of the tree over an ordered column
_POINTS = 1 << 32  # most grid points of a column
_SPLIT = 4.0  # deviations a node's count must reach to be looked into
_SURE = 3.0  # deviations that the count of missing values must reach to be believed
_FLOOR = 1e-7  # share of a cell that was never seen: keeps every condition possible, adds no row of its own


@dataclass(frozen=True)
class Range:
    """Public domain of an ordered column: low, low + step … high."""

    low: float
    high: float
    step: float

    @property
    def points(self) -> int:
        """Number of grid points."""
        return round((self.high - self.low) / self.step) + 1


Domain = Range | tuple[str, ...]


def domain_of(column: Column, given: Mapping[str, Any]) -> Domain:
    """Return a column's public domain.

    Args:
        column: its kind decides what is expected.
        given: levels as texts of a coded column, a Range or (low, high, step) of an ordered one, by name.

    Raises:
        InputError: there is none, or it does not fit the kind.
    """
    where = f"column '{column.name}'"
    if column.name not in given:
        raise InputError(f"no public domain is given for {where}", where="domain",
                         fix="give the levels of a category, (low, high, step) of a number, from knowledge other than "
                             "these rows: reading them from the rows would break the guarantee")
    domain = given[column.name]
    if column.ordered:
        try:
            found = domain if isinstance(domain, Range) else Range(*map(float, domain))
        except (TypeError, ValueError):
            raise InputError(f"the domain {str(domain)[:100]!r} is no (low, high, step)", where=where,
                             fix="give three numbers, such as (0, 99, 1)") from None
        good = all(map(math.isfinite, (found.low, found.high, found.step))) and found.low <= found.high
        if not good or found.step <= 0 or found.points > _POINTS:
            raise InputError(f"the domain {found} cannot be used", where=where,
                             fix=f"low may not be above high, step must be above zero, with at most {_POINTS} values")
        return found
    levels = () if isinstance(domain, (str, Range)) else tuple(domain)
    if not levels or len(set(levels)) < len(levels) or not all(isinstance(level, str) for level in levels):
        raise InputError(f"the domain {str(domain)[:100]!r} is no list of levels", where=where,
                         fix="list every level once, as text")
    return levels


def places(table: Table, column: Column, domain: Domain) -> Ints:
    """Return int64 [N]: a row's grid point or level; -1 is missing.

    A number outside the range is clipped to it and a level that is not in the domain counts as missing: an error would
    tell that such a row is there.
    """
    if isinstance(domain, Range):
        values = table.values(column.name)
        points = np.round((np.clip(values, domain.low, domain.high) - domain.low) / domain.step)
        return np.asarray(np.where(np.isnan(values), -1, np.nan_to_num(points)).astype(np.int64))
    codes, levels = table.codes(column.name)
    known = {level: index for index, level in enumerate(domain)}
    return np.array([known.get(level, -1) for level in levels] + [-1], np.int64)[codes]


@dataclass(frozen=True)
class Cells:
    """A column's cells, in the order of the domain, missing last.

    Attributes:
        first, length: int64 [n]; grid points or levels of each cell; the missing cell has first -1.
        share: float64 [n]; probability of each cell within its group.
        group: int64 [n]; groups are numbered from 0.
    """

    first: Ints
    length: Ints
    share: Array
    group: Ints

    def find(self, points: Ints) -> Ints:
        """Return the cell of each point."""
        return np.where(points < 0, len(self.first) - 1, np.searchsorted(self.first[:-1], points, "right") - 1)


@dataclass(frozen=True)
class Measured:
    """Noisy counts of one column: cells, counts float64 [n] and their deviations, missing last."""

    first: Ints
    length: Ints
    counts: Array
    sigma: Array


def depth_of(domain: Domain) -> int:
    """Return how many histograms `measure` may ask for."""
    return 1 if not isinstance(domain, Range) else max(1, math.ceil(math.log(domain.points) / math.log(FAN) - 1e-9))


def histogram(found: Ints, first: Ints, length: Ints) -> Ints:
    """Count points in runs that do not overlap [n], then missing ones: int64 [n + 1]. A row changes one count by 1."""
    known = np.sort(found[found >= 0])
    inside = np.searchsorted(known, first + length) - np.searchsorted(known, first)
    return np.append(inside, len(found) - len(known)).astype(np.int64)


def noisy(counts: Ints | Array, sigma: float, random: np.random.Generator) -> Array:
    """Return counts with Gaussian noise, rounded to whole numbers."""
    return np.round(counts + random.normal(0, sigma, counts.shape))


def measure(found: Ints, domain: Domain, sigma: float, random: np.random.Generator,
            charge: Callable[[], None]) -> Measured:
    """Return noisy counts of a column, calling `charge` before each histogram, which has sensitivity 1.

    An ordered column is cut into at most FAN parts, each part whose noisy count is high into parts again, and so on
    (in the manner of PrivTree, Zhang et al. 2016, arXiv 1601.03229, with a histogram a level); counts of a part and of
    its parts are then made to agree by weighted least squares (Hay et al. 2010, arXiv 0904.0942, section 4).
    """
    if not isinstance(domain, Range):
        charge()
        size = np.arange(len(domain) + 1)
        counts = noisy(histogram(found, size[:-1], np.ones(len(domain), np.int64)), sigma, random)
        return Measured(np.where(size < len(domain), size, -1), np.ones_like(size), counts,
                        np.full(len(size), sigma))
    depth = depth_of(domain)
    fan = max(2, math.ceil(domain.points ** (1 / depth) - 1e-9))
    edges = np.append(np.arange(0, domain.points, fan ** (depth - 1)), domain.points)
    starts, lengths = edges[:-1], np.diff(edges)
    levels: list[tuple[Ints, Ints, Array, Ints]] = []  # first, length, noisy count, parent
    parents = np.zeros(len(starts), np.int64)
    missing: list[float] = []
    for level in range(depth):
        charge()
        counts = noisy(histogram(found, starts, lengths), sigma, random)
        missing.append(float(counts[-1]))
        counts = counts[:-1]
        levels.append((starts, lengths, counts, parents))
        split = np.flatnonzero((counts >= _SPLIT * sigma) & (lengths > 1))
        if not len(split) or level == depth - 1:
            break
        width = fan ** (depth - 2 - level)
        pieces = [np.arange(starts[i], starts[i] + lengths[i], width) for i in split]
        parents = np.repeat(split, [len(piece) for piece in pieces])
        ends = np.repeat(starts[split] + lengths[split], [len(piece) for piece in pieces])
        starts = np.concatenate(pieces)
        lengths = np.minimum(width, ends - starts)
    first, length, counts, deviation = _agree(levels, sigma)
    return Measured(np.append(first, -1), np.append(length, 1), np.append(counts, np.mean(missing)),
                    np.append(deviation, sigma / math.sqrt(len(levels))))


def _agree(levels: list[tuple[Ints, Ints, Array, Ints]], sigma: float) -> tuple[Ints, Ints, Array, Array]:
    """Return the leaves in order, with least-squares counts and their deviations from below."""
    estimates: list[Array] = [counts.copy() for _, _, counts, _ in levels]
    variances = [np.full(len(counts), sigma**2) for _, _, counts, _ in levels]
    for level in range(len(levels) - 1, 0, -1):  # from the leaves up: two measurements of a parent become one
        parent, above = levels[level][3], len(estimates[level - 1])
        sums = np.bincount(parent, estimates[level], above)
        spread = np.bincount(parent, variances[level], above)
        has = spread > 0
        own = variances[level - 1][has]
        estimates[level - 1][has] = (estimates[level - 1][has] * spread[has] + sums[has] * own) / (own + spread[has])
        variances[level - 1][has] = own * spread[has] / (own + spread[has])
    split: list[NDArray[np.bool_]] = [np.zeros(len(e), np.bool_) for e in estimates]
    for level in range(1, len(levels)):  # down again: what a parent knows better is shared out
        parent = levels[level][3]
        split[level - 1][parent] = True
        sums, spread = np.bincount(parent, estimates[level]), np.bincount(parent, variances[level])
        estimates[level] += (estimates[level - 1][parent] - sums[parent]) * variances[level] / spread[parent]
    first, length, counts, deviation = (
        np.concatenate([part[~cut] for part, cut in zip(parts, split, strict=True)])
        for parts in ([x[0] for x in levels], [x[1] for x in levels], estimates, [np.sqrt(v) for v in variances]))
    order = np.argsort(first)
    return first[order], length[order], counts[order], deviation[order]


def project(counts: Array, total: float) -> Array:
    """Return the nearest counts (Euclidean) that are not negative and sum to `total` (> 0)."""
    falling = np.sort(counts)[::-1]
    over = (np.cumsum(falling) - total) / np.arange(1, len(counts) + 1)
    found: Array = np.maximum(counts - over[np.flatnonzero(falling > over)[-1]], 0)
    return found


def group(measured: Measured, ordered: bool, total: float, groups: int, least: float) -> Cells:
    """Return cells in groups: what is frequent has a group of its own, the rest is pooled.

    Args:
        measured: noisy counts.
        ordered: neighbours are pooled into about `groups` groups; else everything rare into one.
        total: number of rows.
        groups: of an ordered column, besides those of frequent cells.
        least: count that a group should have.
    """
    heard = measured.counts.copy()
    if heard[-1] < _SURE * measured.sigma[-1]:
        heard[-1] = 0  # most columns miss nothing: noise alone shall not make them
    counts = project(heard, total)
    inner = counts[:-1]
    number = np.zeros(len(counts), np.int64)
    if ordered:
        alone = inner >= max(total / groups, least)
        goal = max(inner[~alone].sum() / groups, least)
        current, mass, last_alone = -1, 0.0, True
        for i, count in enumerate(inner):
            if alone[i] or last_alone or mass >= goal:
                current, mass = current + 1, 0.0
            mass += count
            last_alone = bool(alone[i])
            number[i] = current
        number[:-1] = _join_small(number[:-1], inner, alone, least)
    else:
        frequent = inner >= least
        number[:-1][frequent] = np.arange(frequent.sum())
        number[:-1][~frequent] = frequent.sum()
    number[-1] = number[:-1].max() + 1
    shares = counts / total + _FLOOR
    shares /= np.bincount(number, shares)[number]
    return Cells(measured.first, measured.length, shares, number)


def _join_small(number: Ints, counts: Array, alone: NDArray[np.bool_], least: float) -> Ints:
    """Return group numbers where a group that is too small has joined the one before it, unless that is a spike."""
    mass = np.bincount(number, counts)
    spike = np.bincount(number, alone) > 0
    joins = np.zeros(len(mass), np.bool_)
    for index in range(1, len(mass)):
        joins[index] = mass[index] < least / 2 and not spike[index] and not spike[index - 1]
    return np.asarray((np.cumsum(~joins) - 1)[number])


def restrict(cells: Cells, allowed: Sequence[tuple[int, int]]) -> Cells:
    """Return the parts of cells inside closed runs of points, with what is left of their shares; (-1, -1) is missing.

    The shares of a group then sum to the probability, given the group, that the runs are met.
    """
    parts: list[tuple[int, int, float, int]] = []
    for index in range(len(cells.first)):
        first, length = int(cells.first[index]), int(cells.length[index])
        for low, high in allowed:
            start, end = max(first, low), min(first + length - 1, high)
            if start <= end and (first < 0) == (low < 0):
                parts.append((start, end - start + 1, cells.share[index] * (end - start + 1) / length,
                              int(cells.group[index])))
    if not parts:
        return Cells(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))
    starts, lengths, shares, numbers = zip(*parts, strict=True)
    return Cells(np.array(starts, np.int64), np.array(lengths, np.int64), np.array(shares),
                 np.array(numbers, np.int64))


def runs(column: Column, domain: Domain, wanted: Any) -> list[tuple[int, int]]:
    """Return closed runs of points that a condition allows; (-1, -1) is missing.

    Args:
        column, domain: what the condition is about.
        wanted: a value, a list of values, or a tuple (low, high) of an ordered column; None is missing.

    Raises:
        InputError: nothing in the domain meets it.
    """
    if isinstance(domain, Range) and isinstance(wanted, tuple):
        low, high = (_number(column, value) for value in wanted) if len(wanted) == 2 else (1.0, 0.0)
        first = max(0, math.ceil((max(low, domain.low) - domain.low) / domain.step - 1e-6))
        last = math.floor((min(high, domain.high) - domain.low) / domain.step + 1e-6)
        if first > last:
            raise InputError(f"no value of column '{column.name}' is in {str(wanted)[:100]}", where="conditions",
                             fix=f"give (low, high) inside {domain.low:g} to {domain.high:g}")
        return [(first, last)]
    found = {_point(column, domain, value) for value in (wanted if isinstance(wanted, (list, set)) else [wanted])}
    if not found:
        raise InputError(f"no value is allowed for column '{column.name}'", where="conditions", fix="list at least one")
    return [(point, point) for point in sorted(found)]


def _number(column: Column, value: Any) -> float:
    if isinstance(value, (int, float, np.number)) and math.isfinite(value):
        return float(value)
    raise InputError(f"'{str(value)[:100]}' is no number", where=f"condition on column '{column.name}'",
                     fix="give a number; of a time, seconds since 1970")


def _point(column: Column, domain: Domain, value: Any) -> int:
    if value is None:
        return -1
    if isinstance(domain, Range):
        point = round((_number(column, value) - domain.low) / domain.step)
        if 0 <= point < domain.points:
            return point
        raise InputError(f"{value} is not in the domain of column '{column.name}'", where="conditions",
                         fix=f"give a value from {domain.low:g} to {domain.high:g}")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if text not in domain:
        raise InputError(f"column '{column.name}' has no level '{text[:100]}'", where="conditions",
                         fix=suggest(text, domain))
    return domain.index(text)


def arrow(column: Column, domain: Domain, points: Ints) -> Any:
    """Return points int64 [N] as an Arrow array of the column's type; -1 becomes null."""
    import pyarrow as pa

    gone = points < 0
    if not isinstance(domain, Range):
        texts = pa.array(domain, pa.string()).take(pa.array(np.where(gone, 0, points), mask=gone))
        return texts if column.arrow == "string" else texts.cast(pa.type_for_alias(column.arrow))
    values = domain.low + points * domain.step
    values = np.round(values, decimals(domain)) if domain.step < 1 else values
    if column.kind == "datetime":
        micro = pa.array(np.round(values * 1e6).astype(np.int64), pa.int64(), mask=gone)
        return micro.cast(pa.timestamp("us")).cast(pa.type_for_alias(column.arrow), safe=False)
    return pa.array(values, pa.float64(), mask=gone).cast(pa.type_for_alias(column.arrow), safe=False)


def decimals(domain: Range) -> int:
    """Return the digits after the point that the values of a range need."""
    return next(digits for digits in range(18) if digits == 17 or all(
        abs(round(value, digits) - value) < domain.step * 1e-6 for value in (domain.low, domain.step)))
