"""Figures with their uncertainty: every measured rate or mean comes with n and a 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

_Z = 1.959963984540054  # 97.5 % point of the normal distribution


class Figure(TypedDict):
    """A measured value with its 95 % interval over n cases."""

    value: float
    low: float
    high: float
    n: int


def rate(successes: int, n: int) -> Figure:
    """Return a share with Wilson's score interval (Wilson 1927; good also near 0 and 1).

    Raises:
        ValueError: n is not positive or successes is outside 0..n.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is not a share")
    share, square = successes / n, _Z * _Z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = _Z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
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
    half = _Z * math.sqrt(variance / n)
    return Figure(value=centre, low=centre - half, high=centre + half, n=n)


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
