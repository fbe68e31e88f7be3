"""Figures with their uncertainty: every measured rate or mean comes with n and a 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike

Z = 1.959963984540054  # 97.5 % point of the normal distribution


class Figure(TypedDict):
    """A measured value with its 95 % interval over n cases."""

    value: float
    low: float
    high: float
    n: int


def rate(successes: float, n: int) -> Figure:
    """Return a share with Wilson's score interval (Wilson 1927; good also near 0 and 1).

    Args:
        successes: how many; a tie may count as half.
        n: of how many.

    Raises:
        ValueError: n is not positive or successes is outside 0..n.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is not a share")
    share, square = successes / n, Z * Z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = Z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == n else min(1.0, middle + half)
    return Figure(value=share, low=low, high=high, n=n)


def mean(values: Sequence[float]) -> Figure:
    """Return a mean with the normal interval of its standard error (one value: no width is known, so none is shown).

    Raises:
        ValueError: no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values")
    centre = math.fsum(values) / n
    variance = math.fsum((value - centre) ** 2 for value in values) / (n - 1) if n > 1 else 0.0
    half = Z * math.sqrt(variance / n)
    return Figure(value=centre, low=centre - half, high=centre + half, n=n)


def difference(one: Figure, other: Figure) -> Figure:
    """Return one share less another of independent cases (Newcombe 1998, method 10: both half-widths joined)."""
    value = one["value"] - other["value"]
    return Figure(value=value, low=value - math.hypot(one["value"] - one["low"], other["high"] - other["value"]),
                  high=value + math.hypot(one["high"] - one["value"], other["value"] - other["low"]),
                  n=min(one["n"], other["n"]))


def auc(positive: ArrayLike, negative: ArrayLike) -> Figure:
    """Return the chance that a positive case scores above a negative one, ties counted as half.

    It is the area under the ROC curve; the interval is Hanley and McNeil's (1982, equation 1).

    Args:
        positive, negative: scores [n], [m] without NaN.

    Raises:
        ValueError: one side is empty.
    """
    above, below = np.asarray(positive, np.float64), np.sort(np.asarray(negative, np.float64))
    n, m = len(above), len(below)
    if not n or not m:
        raise ValueError("an area under the curve needs cases of both kinds")
    wins = np.searchsorted(below, above, "left").sum() + np.searchsorted(below, above, "right").sum()
    area = float(wins) / (2 * n * m)
    spread = area * (1 - area) + (n - 1) * (area / (2 - area) - area ** 2)
    spread += (m - 1) * (2 * area ** 2 / (1 + area) - area ** 2)
    half = Z * math.sqrt(max(0.0, spread) / (n * m))
    return Figure(value=area, low=max(0.0, area - half), high=min(1.0, area + half), n=min(n, m))


def token_f1(answer: str, truth: str) -> float:
    """Return the harmonic mean of precision and recall over words, as in SQuAD (Rajpurkar et al. 2016, section 6.1).

    Words are runs of letters, digits and underscores, in lower case; repeats count.
    """
    import re
    from collections import Counter

    said, wanted = (Counter(re.findall(r"\w+", text.lower())) for text in (answer, truth))
    common = sum((said & wanted).values())
    if not common:
        return 1.0 if not said and not wanted else 0.0
    precision, recall = common / said.total(), common / wanted.total()
    return 2 * precision * recall / (precision + recall)
