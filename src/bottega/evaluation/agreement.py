"""How far people agree who judged the same things: the share of equal pairs, and Krippendorff's alpha.

`bottega compare --round ID` tells both.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from itertools import combinations
from typing import Any


def agreement(judgements: Iterable[tuple[Hashable, Hashable, Hashable]]) -> dict[str, Any]:
    """Return how far raters agree.

    Args:
        judgements: (item, rater, value), one a rater and item.

    Returns:
        `raters`; `shared`: items that more than one judged; `equal`: share of pairs of judgements about one item that
        are equal, None without such; `alpha`: Krippendorff's alpha for names (Krippendorff 2011, "Computing
        Krippendorff's alpha-reliability", 1 is agreement, 0 is chance), None where it is not defined.
    """
    units: dict[Hashable, list[Hashable]] = defaultdict(list)
    raters = set()
    for item, rater, value in judgements:
        units[item].append(value)
        raters.add(rater)
    shared = [values for values in units.values() if len(values) > 1]
    pairs = [one == other for values in shared for one, other in combinations(values, 2)]
    found: dict[str, Any] = {"raters": len(raters), "shared": len(shared),
                             "equal": sum(pairs) / len(pairs) if pairs else None, "alpha": None}
    totals = Counter(value for values in shared for value in values)
    n = totals.total()
    by_chance = sum(totals[one] * totals[other] for one in totals for other in totals if one != other)
    if by_chance:
        observed = sum((len(values) ** 2 - sum(count ** 2 for count in Counter(values).values())) / (len(values) - 1)
                       for values in shared)
        found["alpha"] = 1 - (n - 1) * observed / by_chance
    return found
