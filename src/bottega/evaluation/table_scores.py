"""A score beside its references, and the word that they allow; `pytest tests/evaluation/test_tables.py`.

A word is given only where fresh real rows and the bad reference (independent columns, or copied training rows) are
apart: a score that the bad one passes cannot tell good from bad, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Literal

from bottega.evaluation.statistics import Figure

Better = Literal["higher", "lower"]
Reference = Literal["fresh", "independent", "copy", "shuffled"]
Group = Literal["quality", "sequences", "utility", "privacy"]
CALLED: dict[Reference, str] = {"fresh": "fresh real rows", "independent": "independent columns",
                                "copy": "copied training rows", "shuffled": "shuffled in entities"}
BESIDE: dict[Group, tuple[Reference, ...]] = {  # references of each group, which stand on the page in this order
    "quality": ("fresh", "independent", "copy"), "sequences": ("fresh", "shuffled"),
    "utility": ("fresh", "independent", "copy"), "privacy": ("fresh", "independent", "copy")}
APART = 0.02  # how far the good and the bad reference must be apart: our choice, larger tables would allow less
_AS_GOOD, _NEAR, _BETWEEN = 0.9, 0.6, 0.2  # of the way from the bad reference to fresh real rows


@dataclass(frozen=True, slots=True)
class Score:
    """A score of a synthetic table.

    Attributes:
        name: what is measured.
        group: `quality`, `sequences`, `utility` or `privacy`.
        better: which direction is good.
        value: of the synthetic table, with `low` and `high` where an interval is known.
        references: what fresh real rows, independent columns and copied training rows score; of sequences fresh
            entities, and the same with their rows shuffled within each.
        against: the reference that a good table must be far from.
        verdict: a word, or empty where the references are too near to each other for one.
        passed_by: bad references that score as well as fresh real rows: passing proves nothing against them.
        about: what exactly was measured.
    """

    name: str
    group: Group
    better: Better
    value: float
    low: float | None
    high: float | None
    references: dict[str, float]
    against: Reference
    verdict: str
    passed_by: list[str]
    about: str


def score(name: str, group: Group, better: Better, against: Reference,
          found: Mapping[str, Figure | float], about: str) -> Score | None:
    """Put the value of the synthetic table (`made`) beside those of its references; None where it has none.

    Args:
        name, group, better, against, about: as in `Score`.
        found: `made` and, where they could be measured, the references → figure or plain value; NaN: not measured.
    """
    made = found.get("made", math.nan)
    value, low, high = (made, None, None) if isinstance(made, float) else (made["value"], made["low"], made["high"])
    if math.isnan(value):
        return None
    plain = {key: figure if isinstance(figure, float) else figure["value"] for key, figure in found.items()}
    references: dict[str, float] = {
        key: plain[key] for key in BESIDE[group] if not math.isnan(plain.get(key, math.nan))}
    verdict = _verdict(value, low, high, better, against, references)
    return Score(name, group, better, value, low, high, references, against, verdict,
                 _passed_by(better, references), about)


def way(value: float, bad: float, good: float) -> float:
    """Return how far a value is on the way from a bad reference (0) to a good one (1)."""
    return (value - bad) / (good - bad)


def _verdict(value: float, low: float | None, high: float | None, better: Better, against: Reference,
             references: Mapping[str, float]) -> str:
    if "fresh" not in references or against not in references:
        return ""
    good, bad = references["fresh"], references[against]
    if (good - bad if better == "higher" else bad - good) < APART:
        return ""
    far = way(value, bad, good)
    if far >= _AS_GOOD or (low is not None and high is not None and low <= good <= high and far >= _NEAR):
        return "as fresh real rows"
    if far >= _NEAR and against == "independent":  # a third of the way to copies is nowhere near to none
        return "near fresh real rows"
    if far >= _BETWEEN:
        return f"between fresh real rows and {CALLED[against]}"
    return f"as {CALLED[against]}" if far > -_BETWEEN else f"worse than {CALLED[against]}"


def _passed_by(better: Better, references: Mapping[str, float]) -> list[str]:
    """Return the bad references that come as near to fresh real rows as a table that is called as good."""
    if "fresh" not in references:
        return []
    good = references["fresh"]
    lost = {key: (good - value) if better == "higher" else (value - good)
            for key, value in references.items() if key != "fresh"}
    worst = max([APART, *lost.values()])
    return [key for key, loss in lost.items() if loss < APART or loss <= (1 - _AS_GOOD) * worst]


def plain(value: Any) -> Any:
    """Return dataclasses, mappings, lists and numbers as JSON takes them; NaN as None."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
