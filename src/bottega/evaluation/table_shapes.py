"""How alike the columns, and the pairs of columns, of two tables are; `python benchmarks/table_scores_check.py`.

Column shapes and pair trends are the two scores that SDMetrics' QualityReport made common, by its definitions (its
version 0.32, to 1e-3): 1 - Kolmogorov-Smirnov distance of numbers and times, 1 - total variation of categories;
1 - |r - r'| / 2 of Pearson's r for two numbers, 1 - total variation of the contingency tables for all other pairs.
Alone they prove little: independent columns have perfect shapes, copies have perfect everything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bottega.core.table import Table
from bottega.evaluation.table_views import Codes, Values, View, views

BINS = 10  # of a number beside a category: equal widths between smallest and largest value of each table
LINKED_R, LINKED_V = 0.5, 0.3  # a real link: newer versions of QualityReport average only pairs above this
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class ColumnShape:
    """A column of two tables; NaN where nothing can be said.

    Attributes:
        measure: `ks` or `tv`.
        score: 1 - distance of the distributions of what is not missing.
        coverage: share of the real levels, or of the real range, that the synthetic column shows.
        missing_real, missing_synthetic: shares of missing values.
    """

    name: str
    kind: str
    measure: str
    score: float
    coverage: float
    missing_real: float
    missing_synthetic: float


@dataclass(frozen=True, slots=True)
class PairTrend:
    """Two columns of two tables; NaN where nothing can be said.

    Attributes:
        measure: `correlation` or `contingency`.
        score: how alike the links are.
        real, synthetic: strength of the link: Pearson's r, or Cramér's V.
    """

    one: str
    other: str
    measure: str
    score: float
    real: float
    synthetic: float

    @property
    def linked(self) -> bool:
        """Whether the two are clearly linked in the real table."""
        return abs(self.real) > (LINKED_R if self.measure == "correlation" else LINKED_V)


@dataclass(frozen=True, slots=True)
class Shapes:
    """All columns and pairs of two tables, and their means over what is not NaN.

    Attributes:
        shapes: mean of the columns' scores.
        trends: mean of all pairs' scores (earlier versions of QualityReport).
        linked: mean over pairs that are linked in the real table (QualityReport of SDMetrics 0.32); NaN: there is none.
        overall: mean of shapes and trends.
        reported: mean of shapes and linked, which QualityReport prints.
        coverage: mean of the columns' coverage.
        missing: mean difference of the shares of missing values.
    """

    columns: list[ColumnShape]
    pairs: list[PairTrend]
    shapes: float
    trends: float
    linked: float
    overall: float
    reported: float
    coverage: float
    missing: float


def mean(values: Iterable[float]) -> float:
    """Return the mean of what is not NaN; NaN when nothing is left."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else _NAN


def compare(real: Table, synthetic: Table) -> Shapes:
    """Compare columns and pairs of columns of two tables of any sizes.

    Raises:
        InputError: a table is empty, or their columns do not fit each other.
        DataError: a number is infinite.
    """
    one, other = views(real, synthetic)
    kinds = {column.name: column.kind for column in real.schema.learned}
    columns = [_column(name, kinds[name], one, other) for name in one.order]
    pairs = [*_correlations(one, other), *_contingencies(one, other)]
    place = {name: index for index, name in enumerate(one.order)}
    pairs.sort(key=lambda pair: (place[pair.one], place[pair.other]))
    shapes, trends = mean(column.score for column in columns), mean(pair.score for pair in pairs)
    linked = mean(pair.score for pair in pairs if pair.linked)
    return Shapes(columns, pairs, shapes, trends, linked, overall=mean((shapes, trends)),
                  reported=mean((shapes, linked)), coverage=mean(column.coverage for column in columns),
                  missing=mean(abs(column.missing_real - column.missing_synthetic) for column in columns))


def _column(name: str, kind: str, real: View, synthetic: View) -> ColumnShape:
    gone, lost = real.missing(name), synthetic.missing(name)
    if name in real.values:
        one, other = real.values[name][~gone], synthetic.values[name][~lost]
        measure, score, coverage = "ks", ks_complement(one, other), range_coverage(one, other)
    else:
        counts = [np.bincount(view.codes[name][~absent], minlength=len(view.levels[name]))
                  for view, absent in ((real, gone), (synthetic, lost))]
        measure, score = "tv", tv_complement(counts[0], counts[1])
        coverage = float((counts[1][counts[0] > 0] > 0).mean()) if counts[0].any() else _NAN
    return ColumnShape(name, kind, measure, score, coverage, float(gone.mean()), float(lost.mean()))


def ks_complement(real: Values, synthetic: Values) -> float:
    """Return 1 - the largest difference of the two cumulative distributions; NaN if one is empty.

    Args:
        real, synthetic: float64 [n], [m] without NaN; digits after the 14th decimal are rounding, and are ignored.
    """
    if not len(real) or not len(synthetic):
        return _NAN
    one, other = np.sort(_rounded(real)), np.sort(_rounded(synthetic))
    places = np.concatenate([one, other])
    below = np.searchsorted(one, places, "right") / len(one) - np.searchsorted(other, places, "right") / len(other)
    return 1 - float(np.abs(below).max())


def _rounded(values: Values) -> Values:
    with np.errstate(over="ignore"):
        rounded = np.round(values, 14)
    return np.where(np.isfinite(rounded), rounded, values)


def tv_complement(real: NDArray[np.integer], synthetic: NDArray[np.integer]) -> float:
    """Return 1 - half the summed differences of the shares; NaN if nothing was counted on one side.

    Args:
        real, synthetic: counts of the same levels (any shape).
    """
    if not real.any() or not synthetic.any():
        return _NAN
    return 1 - float(np.abs(real / real.sum() - synthetic / synthetic.sum()).sum()) / 2


def range_coverage(real: Values, synthetic: Values) -> float:
    """Return the share of the real range between the synthetic extremes; NaN for a constant or empty column."""
    if not len(real) or not len(synthetic) or real.min() == real.max():
        return _NAN
    width = real.max() - real.min()
    short = max((synthetic.min() - real.min()) / width, 0) + max((real.max() - synthetic.max()) / width, 0)
    return float(max(1 - short, 0))


def correlations(columns: Values) -> Values:
    """Return Pearson's r of each pair over the rows where both are known; NaN for constants or fewer than two rows.

    Args:
        columns: float64 [N, P]; NaN is missing.

    Returns:
        float64 [P, P].
    """
    known = ~np.isnan(columns)
    filled = np.where(known, columns, 0.0)
    filled = filled / np.maximum(np.abs(filled).max(axis=0, initial=0.0), np.finfo(float).tiny)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, filled - filled.sum(axis=0) / count, 0.0)
    spread = np.sqrt(np.square(filled).sum(axis=0) / count)
    filled /= np.where(spread > 1e-15, spread, 1.0)
    mask = known.astype(np.float64)
    both, sums, squares = mask.T @ mask, filled.T @ mask, np.square(filled).T @ mask
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = filled.T @ filled - sums * sums.T / both
        variance = squares - np.square(sums) / both
        variance[(variance <= 1e-12 * np.maximum(squares, 1e-3)) | (both < 2)] = np.nan
        found = covariance / np.sqrt(variance * variance.T)
    return np.clip(found, -1, 1)


def _correlations(real: View, synthetic: View) -> list[PairTrend]:
    names = list(real.values)
    if len(names) < 2:
        return []
    one, other = (correlations(np.column_stack([view.values[name] for name in names])) for view in (real, synthetic))
    return [PairTrend(names[i], names[j], "correlation", 1 - abs(float(one[i, j] - other[i, j])) / 2,
                      float(one[i, j]), float(other[i, j])) for i, j in combinations(range(len(names)), 2)]


def binned(values: Values) -> Codes:
    """Return the number of the bin of each value: int32 [N].

    Ten bins of equal width over the values' own range; the largest value and missing ones share an eleventh, as in
    SDMetrics.
    """
    known = values[~np.isnan(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return (np.digitize(values, np.linspace(low, high, BINS + 1)) - 1).astype(np.int32)


def _contingencies(real: View, synthetic: View) -> list[PairTrend]:
    coded = [{**{name: np.where(codes < 0, len(view.levels[name]), codes) for name, codes in view.codes.items()},
              **{name: binned(values) for name, values in view.values.items()}} for view in (real, synthetic)]
    sizes = {name: len(real.levels[name]) + 1 if name in real.codes else BINS + 2 for name in real.order}
    found = []
    for one, other in combinations(real.order, 2):
        if one in real.values and other in real.values:
            continue
        joint = [side[one].astype(np.int64) * sizes[other] + side[other] for side in coded]
        cells = sizes[one] * sizes[other]
        if cells > 4 * (real.rows + synthetic.rows):  # a table with more cells than rows: number those that occur
            numbered = np.unique(np.concatenate(joint), return_inverse=True)[1]
            joint, cells = np.split(numbered, [real.rows]), int(numbered.max()) + 1
        counts = [np.bincount(side, minlength=cells) for side in joint]
        strength = [_cramer(side[one], side[other], together, count)
                    for side, together, count in zip(coded, joint, counts, strict=True)]
        found.append(PairTrend(one, other, "contingency", tv_complement(counts[0], counts[1]),
                               strength[0], strength[1]))
    return found


def _cramer(one: Codes, other: Codes, together: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """Return Cramér's V of two columns, √(χ² / n / (min(levels) - 1)) without correction; NaN if one is constant."""
    rows, columns = np.bincount(one), np.bincount(other)
    levels = min(int((rows > 0).sum()), int((columns > 0).sum()))
    if levels < 2:
        return _NAN
    # χ² / n = Σ o² / (r c) - 1 over the cells: summed over rows of the table, each adds o / (r c)
    share = float((counts[together] / (rows[one].astype(np.float64) * columns[other])).sum())
    return math.sqrt(max(0.0, share - 1) / (levels - 1))
