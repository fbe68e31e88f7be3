"""Two models on the same cases: win rates, changes and falls, each with its uncertainty; `bottega compare` uses them.

What belongs together is counted together: verdicts about one prompt are not independent, so a prompt counts once, as
the mean of its verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bottega.evaluation.statistics import Figure, mean, rate

SIDES = ("champion", "challenger")
LEAST_PROMPTS = 6  # of fewer, all could go one way by chance more than once in forty
_DRAWS = 2000
_CERTAIN = 0.05  # a fall is one that chance makes less often than this


class WinRate(TypedDict):
    """How often the challenger was preferred.

    Attributes:
        rate: wins with ties as halves, a prompt counted once; the interval is Wilson's over prompts.
        wins, ties, losses: of the challenger, over verdicts.
        prompts: different prompts; verdicts: on them.
        better: `challenger`, `champion`, or empty where the interval holds one half or the prompts are too few.
    """

    rate: Figure
    wins: int
    ties: int
    losses: int
    verdicts: int
    prompts: int
    better: str


def by_prompt(values: ArrayLike, owners: Sequence[Hashable]) -> NDArray[np.float64]:
    """Return the mean of each owner's values, owners in order of first appearance: [owners]."""
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(owner, len(places)) for owner in owners], dtype=np.int64)
    sums = np.bincount(index, weights=np.asarray(values, np.float64), minlength=len(places))
    means: NDArray[np.float64] = sums / np.bincount(index, minlength=len(places))
    return means


def win_rate(outcomes: Sequence[float], owners: Sequence[Hashable]) -> WinRate:
    """Return the challenger's win rate.

    The mean of a prompt's verdicts lies in 0..1 and varies at most as one coin does, so Wilson's interval (1927) over
    prompts is at least as wide as it must be, and does not collapse where all verdicts agree, as a bootstrap does.

    Args:
        outcomes: 1 where the challenger won, 0 where the champion did, 0.5 for a tie.
        owners: the prompt of each.

    Raises:
        ValueError: there is no outcome.
    """
    if not outcomes:
        raise ValueError("no verdicts")
    means = by_prompt(outcomes, owners)
    found = rate(min(float(means.sum()), len(means)), len(means))
    enough = len(means) >= LEAST_PROMPTS
    better = "challenger" if enough and found["low"] > 0.5 else "champion" if enough and found["high"] < 0.5 else ""
    return WinRate(rate=found, wins=sum(one == 1 for one in outcomes), ties=sum(0 < one < 1 for one in outcomes),
                   losses=sum(one == 0 for one in outcomes), verdicts=len(outcomes), prompts=len(means), better=better)


def paired(values: Sequence[ArrayLike], owners: Sequence[Hashable]) -> dict[str, Figure]:
    """Return both means and the mean change; its interval is a bootstrap over prompts (Efron 1979), seeded.

    Args:
        values: of the champion and of the challenger, case by case.
        owners: the prompt of each case; each prompt counts as the mean of its cases.
    """
    before, after = (by_prompt(side, owners) for side in values)
    change = after - before
    draws = change[np.random.default_rng(0).integers(0, len(change), (_DRAWS, len(change)))].mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return {"champion": mean(before.tolist()), "challenger": mean(after.tolist()),
            "change": Figure(value=float(change.mean()), low=float(low), high=float(high), n=len(change))}


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> dict[str, Any]:
    """Return what changed between two sets of right and wrong answers to the same cases.

    Args:
        before, after: whether each case was right.

    Returns:
        `fixed` (wrong, then right), `broken` (right, then wrong) and `p`: how often chance alone would split so many
        changes at least this unevenly (McNemar's test, exact, two-sided: a binomial of one half).
    """
    fixed = sum(not one and other for one, other in zip(before, after, strict=True))
    broken = sum(one and not other for one, other in zip(before, after, strict=True))
    changed, fewer = fixed + broken, min(fixed, broken)
    tail = sum(math.comb(changed, k) for k in range(fewer + 1)) / 2**changed
    return {"fixed": fixed, "broken": broken, "p": min(1.0, 2 * tail)}


def compared(before: Sequence[float], after: Sequence[float], *, owners: Sequence[Hashable] | None = None,
             lower_is_better: bool = False) -> dict[str, Any]:
    """Return both sides' figures on the same cases, the change, and whether the challenger `fell` beyond chance.

    Of right and wrong answers (all values 0 or 1) the sides get Wilson's intervals and McNemar's test decides; of other
    values the bootstrap's interval of the change does, over at least six owners: of one it has no width at all, and of
    a few all may go one way by chance.

    Args:
        before, after: values of the champion and of the challenger, case by case.
        owners: what each case belongs to; None: to itself.
        lower_is_better: as of a loss.
    """
    found: dict[str, Any] = dict(paired((before, after), owners or range(len(before))))
    change = found["change"]
    if owners is None and set(before) | set(after) <= {0, 1}:
        found |= {side: rate(int(sum(values)), len(values))
                  for side, values in zip(SIDES, (before, after), strict=True)}
        test = mcnemar([one == 1 for one in before], [one == 1 for one in after])
        worse = test["fixed"] > test["broken"] if lower_is_better else test["broken"] > test["fixed"]
        return {**found, **test, "fell": worse and test["p"] < _CERTAIN}
    worse = change["low"] > 0 if lower_is_better else change["high"] < 0
    return {**found, "fell": worse and change["n"] >= LEAST_PROMPTS}
