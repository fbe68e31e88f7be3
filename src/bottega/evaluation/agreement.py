"""Do raters agree, and what sways them? `bottega feedback stats FILE` prints these.

Nominal and ordinal agreement with missing ratings, and two leanings that have nothing to do with quality: towards the
longer answer and towards the one shown first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import combinations
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from bottega.evaluation.statistics import Figure, rate

Level = Literal["nominal", "ordinal", "interval"]
Array = NDArray[np.float64]
_DRAWS = 1000


class Lean(TypedDict):
    """How often a choice fell on one side, of those that could have; 0.5 is no leaning."""

    longer: Figure | None
    first: Figure | None


def _pairs(one: Sequence[Any], other: Sequence[Any]) -> list[tuple[Any, Any]]:
    if len(one) != len(other):
        raise ValueError(f"{len(one)} ratings of one rater and {len(other)} of the other")
    return [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]


def cohen_kappa(one: Sequence[Hashable | None], other: Sequence[Hashable | None],
                weights: Literal["linear", "quadratic"] | None = None) -> float:
    """Return Cohen's kappa of two raters: agreement beyond chance over the most there could be beyond chance.

    Cohen 1960, equation 1; weighted Cohen 1968. Items that one of them did not rate (None) are left out. NaN when both
    always say the same one thing, as chance alone then explains all.

    Args:
        one, other: ratings of the same items.
        weights: how the distance of two ratings counts; None: any difference is whole. Weighted ones need ratings
            that can be ordered, and counts the steps between them.

    Raises:
        ValueError: the lengths differ, or there is no item that both rated.
    """
    both = _pairs(one, other)
    if not both:
        raise ValueError("there is no item that both rated")
    labels: list[Any] = list({label for pair in both for label in pair})
    labels.sort(key=None if weights else str)
    place = {label: index for index, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels)))
    for a, b in both:
        table[place[a], place[b]] += 1
    steps = np.abs(np.subtract.outer(np.arange(len(labels)), np.arange(len(labels)))).astype(float)
    cost = steps if weights == "linear" else steps ** 2 if weights == "quadratic" else (steps > 0).astype(float)
    chance = np.outer(table.sum(1), table.sum(0)) / table.sum()
    expected = float((cost * chance).sum())
    return 1 - float((cost * table).sum()) / expected if expected else float("nan")


def fleiss_kappa(ratings: Sequence[Sequence[Hashable | None]]) -> float:
    """Return Fleiss' kappa of items that equally many raters rated, whoever they were (Fleiss 1971, equation 7).

    Args:
        ratings: one row an item.

    Raises:
        ValueError: the items have different numbers of ratings, or fewer than two.
    """
    rows = [[label for label in row if label is not None] for row in ratings]
    counts = {len(row) for row in rows}
    if len(counts) != 1 or min(counts) < 2:
        raise ValueError(f"every item needs the same number of ratings, at least two; they have {sorted(counts)}")
    raters = counts.pop()
    labels = sorted({label for row in rows for label in row}, key=str)
    table = np.array([[row.count(label) for label in labels] for row in rows], dtype=float)
    within = ((table ** 2).sum(1) - raters) / (raters * (raters - 1))
    chance = float(((table.sum(0) / table.sum()) ** 2).sum())
    return (float(within.mean()) - chance) / (1 - chance) if chance < 1 else float("nan")


def krippendorff_alpha(ratings: Sequence[Sequence[Any]], level: Level = "nominal") -> float:
    """Return Krippendorff's alpha: 1 less observed over expected disagreement, for any number of raters and gaps.

    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability". Items with fewer than two ratings say nothing. NaN
    when all ratings are the same, as no variation could have been agreed on.

    Args:
        ratings: one row an item, None where a rater gave none.
        level: how far apart two ratings are: `nominal` all the same, `ordinal` by the ratings between them, `interval`
            by the square of their difference.

    Raises:
        ValueError: no item has two ratings.
    """
    matrices, values = _coincidences(ratings)
    return _alpha(matrices.sum(0), values, level)


def krippendorff_figure(ratings: Sequence[Sequence[Any]], level: Level = "nominal", *, seed: int = 0) -> Figure:
    """Return `krippendorff_alpha` with the 2.5 and 97.5 percentiles of it over resampled items; arguments as there."""
    matrices, values = _coincidences(ratings)
    rng, n = np.random.default_rng(seed), len(matrices)
    drawn = [_alpha(np.tensordot(rng.multinomial(n, np.full(n, 1 / n)), matrices, 1), values, level)
             for _ in range(_DRAWS)]
    found = [value for value in drawn if not np.isnan(value)]
    value = _alpha(matrices.sum(0), values, level)
    low, high = np.quantile(found, (0.025, 0.975)) if found else (value, value)
    return Figure(value=value, low=float(low), high=float(high), n=n)


def _coincidences(ratings: Sequence[Sequence[Any]]) -> tuple[Array, list[Any]]:
    """Return pairs of ratings within each item [items, labels, labels], weighing as much as its ratings; and labels."""
    rows = [found for row in ratings if len(found := [value for value in row if value is not None]) > 1]
    if not rows:
        raise ValueError("no item has two ratings")
    values: list[Any] = list({value for row in rows for value in row})
    values.sort(key=None if all(isinstance(value, int | float) for value in values) else str)
    place = {value: index for index, value in enumerate(values)}
    matrices = np.zeros((len(rows), len(values), len(values)))
    for number, row in enumerate(rows):
        count = np.bincount([place[value] for value in row], minlength=len(values)).astype(float)
        matrices[number] = (np.outer(count, count) - np.diag(count)) / (len(row) - 1)
    return matrices, values


def _distance(total: Array, values: list[Any], level: Level) -> Array:
    if level == "nominal":
        return 1 - np.eye(len(values))
    if level == "interval":
        return np.asarray(np.subtract.outer(np.array(values, float), np.array(values, float)) ** 2)
    upto = np.cumsum(total) - total / 2  # half of the ratings of a label, and all below it
    return np.asarray(np.subtract.outer(upto, upto) ** 2)


def _alpha(coincidence: Array, values: list[Any], level: Level) -> float:
    total = coincidence.sum(0)
    distance = _distance(total, values, level)
    expected = float((np.outer(total, total) * distance).sum()) / max(1.0, float(total.sum()) - 1)
    return 1 - float((coincidence * distance).sum()) / expected if expected else float("nan")


def agreement(judgements: Iterable[tuple[Hashable, Hashable, Hashable]]) -> dict[str, Any]:
    """Return how far raters agree who judged what they liked; `bottega compare --round ID` tells it.

    Args:
        judgements: (item, rater, value), one a rater and item.

    Returns:
        `raters`; `shared`: items that more than one judged; `equal`: share of pairs of judgements about one item that
        are equal, None without such; `alpha`: Krippendorff's nominal alpha, None where it is not defined.
    """
    units: dict[Hashable, list[Hashable]] = defaultdict(list)
    raters = set()
    for item, rater, value in judgements:
        units[item].append(value)
        raters.add(rater)
    shared = [values for values in units.values() if len(values) > 1]
    pairs = [one == other for values in shared for one, other in combinations(values, 2)]
    alpha = krippendorff_alpha(shared) if shared else float("nan")
    return {"raters": len(raters), "shared": len(shared), "equal": sum(pairs) / len(pairs) if pairs else None,
            "alpha": None if np.isnan(alpha) else alpha}


def with_interval(statistic: Callable[[list[Any]], float], items: Sequence[Any], *, draws: int = _DRAWS,
                  seed: int = 0) -> Figure:
    """Return a statistic of items with the 2.5 and 97.5 percentiles of it over resampled items (Efron 1979).

    Args:
        statistic: of a list of items; draws for which it is not defined (an error or NaN) do not count.
        items: what is resampled, one by one.
        draws: how often.
        seed: of the draws.

    Raises:
        ValueError: the statistic is not defined for the items themselves.
    """
    value = statistic(list(items))
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws if len(items) > 1 else 0):
        try:
            drawn = statistic([items[place] for place in rng.integers(0, len(items), len(items))])
        except ValueError:
            continue
        if not np.isnan(drawn):
            found.append(drawn)
    low, high = np.quantile(found, (0.025, 0.975)) if found else (value, value)
    return Figure(value=value, low=float(low), high=float(high), n=len(items))


def leaning(choices: Sequence[tuple[str, str, int]]) -> Lean:
    """Return how often the longer answer, and the one shown first, was chosen; None where no choice can tell.

    Args:
        choices: the answers in the order they were shown, and the chosen one, 0 or 1; ties are not among them.
    """
    longer = [(len(one) > len(other)) == (chosen == 0) for one, other, chosen in choices if len(one) != len(other)]
    return Lean(longer=rate(sum(longer), len(longer)) if longer else None,
                first=rate(sum(chosen == 0 for *_, chosen in choices), len(choices)) if choices else None)
