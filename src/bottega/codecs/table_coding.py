"""One column of a table as codes and back: spikes keep a code of their own, the rest is cut into groups of rows.

A code of an ordered column owns an interval of the standard normal axis as wide as its share of the rows, so that a
Gaussian copula can work on it; a value is also a position inside its group. Nothing that fewer than `protect` rows
share is kept: rare levels are pooled and never made, and the outermost values are replaced by what the ones before
them tell. `pytest tests/codecs/test_table.py` exercises it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bottega.codecs.table_decimals import rounded, unit
from bottega.core.table import Column
from bottega.core.validate import Strict

_GRID = 16  # points that tell how values lie inside a group
_SPIKES = 0.5  # times `codes`: most values of a column with a code of their own
_LISTED = 4    # times `codes`: the same of a column that is a list of values
_COVERED = 0.99  # of the rows hold a value that repeats: then it is one
_OWN = 10   # rows that share a value are enough for a code of its own
Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


class Coding(Strict):
    """How one column becomes codes 0..size-1. Missing is the last code where the column has missing values.

    Attributes:
        column: what it codes.
        share: of the training rows for each code.
        grids: of ordered columns, for each code that is not missing: a sorted list of values; one for a spike, more
            for a group, evenly spaced in rows.
        rare: of coded columns: whether the code after the levels pools rare ones. It is never made.
        missing: whether the last code is missing.
    """

    column: Column
    share: list[float] = Field(min_length=1)
    grids: list[list[float]] = []
    rare: bool = False
    missing: bool = False

    @property
    def size(self) -> int:
        """Number of codes."""
        return len(self.share)

    @property
    def shown(self) -> int:
        """Codes that stand for values: neither rare nor missing."""
        return self.size - self.rare - self.missing

    @property
    def reach(self) -> tuple[float, float]:
        """Smallest and largest value that an ordered column with values can be made with.

        Codes are in the order of their means, and a group can reach beyond the next code.
        """
        return min(grid[0] for grid in self.grids), max(grid[-1] for grid in self.grids)

    @property
    def spikes(self) -> list[bool]:
        """Whether each code is a single number."""
        return [len(grid) == 1 for grid in self.grids] + [False] * (self.size - len(self.grids))

    @property
    def forbidden(self) -> list[int]:
        """Codes that are never made."""
        return [self.shown] if self.rare else []


@dataclass(frozen=True)
class Fitted:
    """A coding with its arrays, ready to work."""

    coding: Coding

    @cached_property
    def bounds(self) -> tuple[Floats, Floats]:
        """Shares of rows below and up to each code that has an interval: float64 [shown] each, in (0, 1)."""
        share = np.asarray(self.coding.share[:self.coding.shown])
        edges = np.concatenate([[0.0], np.cumsum(share / max(share.sum(), 1e-12))])
        return edges[:-1], edges[1:]

    @cached_property
    def _runs(self) -> list[tuple[Floats, Floats, Codes]]:
        """First and last value and code of each spike, and of each group, sorted by value: a group can hold spikes."""
        found = []
        for single in (True, False):
            spans = sorted((grid[0], grid[-1], code) for code, grid in enumerate(self.coding.grids)
                           if (len(grid) == 1) == single)
            low, high, code = zip(*spans, strict=True) if spans else ((), (), ())
            found.append((np.array(low, np.float64), np.array(high, np.float64), np.array(code, np.int32)))
        return found

    def encode_values(self, values: Floats) -> tuple[Codes, Floats]:
        """Return codes int32 [N] and positions inside them float64 [N] in (0, 1), of values with NaN for missing.

        A value between or outside of what was seen takes the nearest code, and one that is a spike and lies in a group
        is the spike. Missing in a column that had none takes code 0.
        """
        codes = np.full(len(values), self.coding.size - 1 if self.coding.missing else 0, np.int32)
        places = np.full(len(values), 0.5)
        known = ~np.isnan(values)
        if not self.coding.grids:
            return codes, places
        found = values[known]
        nearest, best = codes[known], np.full(len(found), np.inf)
        for low, high, code in self._runs:
            last = np.searchsorted(low, found, "right") - 1
            for run in (last, last + 1) if len(low) else ():
                run = np.clip(run, 0, len(low) - 1)
                off = np.maximum(np.maximum(low[run] - found, found - high[run]), 0.0)
                nearest, best = np.where(off < best, code[run], nearest), np.minimum(off, best)
        codes[known] = nearest
        inside, half = places[known], unit(self.coding.column) / 2
        for code in np.unique(nearest):  # a group's own grid says where in it a value lies
            grid = np.asarray(self.coding.grids[code])
            if len(grid) > 1:
                mine, along = nearest == code, np.linspace(0.0, 1.0, len(grid))
                value = found[mine]  # the middle of the places that become it: of a value that repeats there are many
                last = np.interp(value + half, grid, along)
                first = 1 - np.interp(half - value, -grid[::-1], along)
                inside[mine] = (first + last) / 2
        places[known] = np.clip(inside, 1e-3, 1 - 1e-3)
        return codes, places

    def decode_values(self, codes: Codes, places: Floats) -> Floats:
        """Return values float64 [N], NaN for missing, in the decimals of the column."""
        low = self._padded
        last = low.shape[1] - 1
        at = places * last
        left = np.minimum(at.astype(np.int64), last - 1) if last else np.zeros(len(codes), np.int64)
        row = np.minimum(codes, len(low) - 1)
        made = low[row, left]
        if last:
            made = made + (at - left) * (low[row, left + 1] - made)
        made = rounded(made, self.coding.column)
        made[codes >= self.coding.shown] = np.nan
        return made

    @cached_property
    def _padded(self) -> Floats:
        """Grids of one length: float64 [shown, points]."""
        grids = self.coding.grids or [[np.nan]]
        points = max(map(len, grids))
        return np.stack([np.interp(np.linspace(0, 1, points), np.linspace(0, 1, len(grid)), grid) for grid in grids])

    def encode_levels(self, codes: Codes) -> Codes:
        """Return codes int32 [N] of a column read as codes into its levels (-1: missing, above: never seen)."""
        coding = self.coding
        kept = coding.shown
        unknown = kept if coding.rare else int(np.argmax(coding.share))
        missing = coding.size - 1 if coding.missing else unknown
        found: Codes = np.where(codes < 0, missing, np.where(codes < kept, codes, unknown)).astype(np.int32)
        return found

    def decode_levels(self, codes: Codes) -> Any:
        """Return the levels of codes as an Arrow array of strings, null for missing."""
        import pyarrow as pa

        names = [*self.coding.column.levels[:self.coding.shown], *[None] * (self.coding.rare + self.coding.missing)]
        return pa.array(names, pa.string()).take(pa.array(codes))


def holders(codes: NDArray[np.integer[Any]], owner: NDArray[np.int64] | None, size: int) -> NDArray[np.int64]:
    """Return how many rows hold each code 0..size-1, int64 [size]; where rows have owners, how many owners do.

    Args:
        codes: integers [N]; negative ones count for nothing.
        owner: int64 [N] from 0, or None.
        size: number of codes.
    """
    there = codes >= 0
    held = codes[there].astype(np.int64)
    if owner is not None:
        held = np.unique(held * (int(owner.max(initial=0)) + 1) + owner[there]) // (int(owner.max(initial=0)) + 1)
    return np.bincount(held, minlength=size).astype(np.int64)


def fit_values(column: Column, values: Floats, *, codes: int, protect: int,
               owner: NDArray[np.int64] | None = None, listed: bool = False) -> Coding:
    """Cut an ordered column into spikes and groups.

    Args:
        column: what is cut.
        values: float64 [N] of the training rows, NaN for missing; finite otherwise.
        codes: groups to aim at; fewer for few rows.
        protect: smallest number of rows that anything is kept of; of owners, where rows have them.
        owner: int64 [N]: whose row each is; None where each is its own.
        listed: it is a list of values, such as numbers of shops. So is one of which nearly all rows repeat.
    """
    order = np.argsort(values, kind="stable")[:int((~np.isnan(values)).sum())]
    known, mine = values[order], None if owner is None else owner[order]
    gone = len(values) - len(known)
    if not len(known):
        return Coding(column=column, share=[1.0], missing=True)
    if len(known) > 4 * protect > 4:  # the outermost values are one person's
        low, high = (protect, protect) if mine is None else (_outermost(mine, protect), _outermost(mine[::-1], protect))
        known = _softened(known, high) if len(known) > 4 * high else known
        known = np.sort(-_softened(np.sort(-known), low) if len(known) > 4 * low else known)
    single, place, count = np.unique(known, return_inverse=True, return_counts=True)
    people = holders(place.reshape(-1), mine, len(single))
    mass = max(len(known) / max(1, min(codes, len(known) // 4)), protect + 1.0)
    own = max(protect, min(_OWN, int(mass)))
    listed = listed or count[people >= own].sum() >= _COVERED * len(known)
    most = max(1, int((_LISTED if listed else _SPIKES) * codes))
    if int((people >= own).sum()) > most:  # nearly everything repeats: only what stands out is a spike
        own = int(np.partition(people, -most)[-most]) + 1
    label = _groups(count, people >= own, mass=mass)
    label = _merged(label, count, place.reshape(-1), mine, max(protect, 2))
    order = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(label[order]) > 0])
    persons = holders(label[place.reshape(-1)], mine, int(label.max()) + 1)
    grids, share = [], []
    for members in np.split(order, starts[1:]):
        rows = np.repeat(single[members], count[members])
        at_end = members[0] == 0 or members[-1] == len(single) - 1  # long tails need more points
        most = _GRID * 4 if at_end else _GRID
        told = max(2, int(persons[label[members[0]]]) // max(protect, 1))
        points = min(most, told) if len(members) > 1 else 1
        grid = np.quantile(rows, np.linspace(0, 1, points)) if points > 1 else rows[:1]
        grids.append([float(value) for value in grid])
        share.append(len(rows) / len(values))
    by_value = sorted(range(len(grids)), key=lambda index: (float(np.mean(grids[index])), grids[index][0]))
    return Coding(column=column, grids=[grids[index] for index in by_value],
                  share=[share[index] for index in by_value] + ([gone / len(values)] if gone else []),
                  missing=bool(gone))


def _softened(known: Floats, protect: int) -> Floats:
    """Return sorted values with the highest `protect` of them replaced by what the ones below tell.

    The tail goes on exponentially from there (of positive values their logarithms: Hill 1975), its scale by maximum
    likelihood from the values before, as if the highest were censored; the places are the expected order statistics. A
    tail that would end above the true highest is tried shorter, and cut off last: nothing is made beyond what was seen.
    """
    tail = known[-4 * protect:]
    base, seen, top = tail[0], tail[1:-protect], float(known[-1])
    way, back = (np.log, np.exp) if base > 0 else (np.positive, np.positive)
    excess = way(seen) - way(base)
    if not excess[-1]:  # all alike: a logarithm and back would make a second value of it
        return np.concatenate([known[:-protect], np.full(protect, seen[-1])])
    scale = float((excess.sum() + protect * excess[-1]) / len(seen))
    step = np.arange(1, protect + 1)
    for shape in (np.cumsum(1 / (protect + 1 - step)), step / (protect + 1)):
        found = back(way(seen[-1]) + scale * shape)
        if found[-1] <= top:
            break
    else:
        found = np.full(protect, seen[-1])
    return np.concatenate([known[:-protect], found])


def _outermost(owner: NDArray[np.int64], protect: int) -> int:
    """Return how many of the first rows, of values from one end, belong to `protect` owners."""
    _, first = np.unique(owner, return_index=True)
    return int(np.sort(first)[min(protect, len(first)) - 1]) + 1


def _groups(count: NDArray[np.int64], spike: NDArray[np.bool_], *, mass: float) -> NDArray[np.int64]:
    """Return a number for each distinct value: equal numbers are one code. Numbers rise with the value."""
    stretch = np.cumsum(spike) * 2 + 1  # odd: between spikes
    stretch[spike] -= 1                 # even: a spike
    rows = np.where(spike, 0, count)
    before = np.cumsum(rows) - rows
    starts = np.flatnonzero(np.r_[True, np.diff(stretch) != 0])
    total = np.add.reduceat(rows, starts)
    sizes = np.diff(np.r_[starts, len(count)])
    within = before - np.repeat(before[starts], sizes)
    parts = np.maximum(1, np.rint(total / mass))
    part = np.minimum(np.floor((within + rows / 2) / np.maximum(np.repeat(total, sizes), 1) * np.repeat(parts, sizes)),
                      np.repeat(parts, sizes) - 1)
    _, label = np.unique(np.stack([stretch, part.astype(np.int64)]), axis=1, return_inverse=True)
    found: NDArray[np.int64] = label.reshape(-1).astype(np.int64)
    return found


def _merged(label: NDArray[np.int64], count: NDArray[np.int64], value: NDArray[np.int64],
            owner: NDArray[np.int64] | None, least: int) -> NDArray[np.int64]:
    """Join groups of fewer than `least` holders to the nearest group of several values, or to the nearest code.

    Args:
        label, count: of each distinct value: its group, its rows.
        value: of each row, which distinct one it is; owner: see `holders`.
        least: holders that a group needs.
    """
    label = label.copy()
    while True:
        names, place = np.unique(label, return_inverse=True)
        held = np.bincount(place, weights=count) if owner is None else holders(place[value], owner, len(names))
        small = np.flatnonzero(held < least)
        if not len(small) or len(names) == 1:
            return label
        one = small[0]
        broad = np.flatnonzero((np.bincount(place) > 1) & (np.arange(len(names)) != one))
        others = broad if len(broad) else np.flatnonzero(np.arange(len(names)) != one)
        label[label == names[one]] = names[others[np.argmin(np.abs(others - one))]]


def fit_levels(column: Column, codes: Codes, *, protect: int, owner: NDArray[np.int64] | None = None) -> Coding:
    """Code a column of levels; levels of fewer than `protect` rows are pooled.

    Args:
        column: its levels are in order of frequency.
        codes: int32 [N] of the training rows, -1 for missing.
        protect: smallest number of rows that a level is kept of; of owners, where rows have them.
        owner: int64 [N]: whose row each is; None where each is its own.
    """
    counts = holders(codes, None, len(column.levels))
    # levels are sorted by who holds them, so the kept ones come first
    kept = int((holders(codes, owner, len(column.levels)) >= protect).sum())
    rare, gone = int(counts[kept:].sum()), int((codes < 0).sum())
    share = [*(counts[:kept] / len(codes)), *([rare / len(codes)] if rare else []),
             *([gone / len(codes)] if gone else [])]
    # names of rare levels are dropped with them: a model must not carry what one row alone holds
    slim = column.model_copy(update={"levels": column.levels[:kept]})
    return Coding(column=slim, share=[float(value) for value in share] or [1.0], rare=bool(rare),
                  missing=bool(gone) or not share)
