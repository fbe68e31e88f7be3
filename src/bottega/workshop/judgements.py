"""What raters said about answers, one by one, and what it says about the raters; `bottega feedback stats` shows it.

A judgement keeps what a training set loses: ties, disagreements, who said it, and which answer was shown first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from bottega.core.files import canonical_json
from bottega.evaluation import agreement
from bottega.evaluation.statistics import Figure, rate

UNKNOWN_RATER = "unknown"


@dataclass(frozen=True)
class Judgement:
    """One rater's word about one or two answers.

    Attributes:
        item: what was judged, unique in its source; the same for all raters of it.
        rater: who said it.
        messages: turns before the answers.
        answers: the two answers in the order they were shown, or one.
        label: of two answers 1 (the first is better), -1 (the second) or 0 (a tie); of one 1 (good) or -1.
        shown: whether the order of the answers is the order they were shown in.
        margin: by how much the better one is better, where it was said.
        critiques: faults with `start`, `end` (characters of the first answer), `aspect` and `text`.
    """

    item: str
    rater: str
    messages: list[dict[str, Any]]
    answers: tuple[str, ...]
    label: int
    shown: bool = True
    margin: float | None = None
    critiques: list[dict[str, Any]] = field(default_factory=list)

    @property
    def prompt(self) -> str:
        """The turns before, as canonical JSON."""
        return canonical_json(self.messages)

    def plain(self) -> dict[str, Any]:
        """Return it ready for JSON; `of` reads it."""
        return {"item": self.item, "rater": self.rater, "messages": self.messages, "answers": list(self.answers),
                "label": self.label, "shown": self.shown,
                **({"margin": self.margin} if self.margin is not None else {}),
                **({"critiques": self.critiques} if self.critiques else {})}

    @staticmethod
    def of(data: dict[str, Any]) -> Judgement:
        """Rebuild a judgement from `plain()`."""
        return Judgement(**{**data, "answers": tuple(data["answers"])})


def report(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Return what the judgements say about the raters, ready for JSON; figures are None where nothing can be said.

    Returns:
        `judgements`, `items`, `prompts`, `raters`, `ties`, `disagreements` (items on which raters prefer different
        answers), `critiques`; `agreement` of raters: `alpha` (nominal) and `alpha_ordinal` (a tie between the two
        sides) with intervals over items, `fleiss` where all items have as many raters, `same` (mean over items of the
        share of pairs of ratings that are equal) and `kappa` of each two raters with n; `leaning` of all and
        `by_rater`; `cycles`: of three answers to one prompt that a rater compared, how often A over B over C over A.
    """
    items: dict[str, dict[str, Judgement]] = {}
    for each in judgements:
        items.setdefault(each.item, {})[each.rater] = each
    raters = sorted({each.rater for each in judgements})
    labels = [[said[rater].label if rater in said else None for rater in raters] for said in items.values()]
    pairs = [each for each in judgements if len(each.answers) == 2]
    return {
        "judgements": len(judgements), "items": len(items), "prompts": len({each.prompt for each in judgements}),
        "raters": len(raters), "ties": sum(each.label == 0 for each in pairs),
        "disagreements": sum({1, -1} <= set(row) for row in labels),
        "critiques": sum(len(each.critiques) for each in judgements),
        "agreement": _agreement(raters, labels), "leaning": _leaning(pairs),
        "by_rater": {rater: {"judgements": sum(each.rater == rater for each in judgements),
                             **_leaning([each for each in pairs if each.rater == rater])}
                     for rater in raters} if len(raters) <= 50 else {},
        "cycles": _cycles(pairs)}


def _agreement(raters: list[str], labels: list[list[int | None]]) -> dict[str, Any] | None:
    both = [row for row in labels if sum(value is not None for value in row) > 1]
    if not both:
        return None
    equal = [float(np.mean([a == b for a, b in combinations([v for v in row if v is not None], 2)])) for row in both]
    kappas = []
    for one, other in combinations(range(len(raters)), 2) if len(raters) <= 12 else ():
        rated = [(row[one], row[other]) for row in both if row[one] is not None and row[other] is not None]
        if rated:
            kappas.append({"raters": [raters[one], raters[other]],
                           **_defined(agreement.with_interval(_kappa, rated, draws=200))})
    return {"items": len(both), "same": _defined(agreement.with_interval(np.mean, equal, draws=200)),
            "alpha": _defined(agreement.krippendorff_figure(both)),
            "alpha_ordinal": _defined(agreement.krippendorff_figure(both, "ordinal")),
            "fleiss": _fleiss(both), "kappa": kappas}


def _kappa(rated: Sequence[tuple[Any, Any]]) -> float:
    return agreement.cohen_kappa([one for one, _ in rated], [other for _, other in rated])


def _fleiss(labels: list[list[int | None]]) -> float | None:
    try:
        return _number(agreement.fleiss_kappa(labels))
    except ValueError:
        return None


def _number(value: float) -> float | None:
    return value if value == value else None  # JSON has no NaN


def _defined(figure: Figure) -> dict[str, Any]:
    return {name: _number(value) if isinstance(value, float) else value for name, value in figure.items()}


def _leaning(pairs: Sequence[Judgement]) -> dict[str, Any]:
    chosen: Callable[[Judgement], tuple[str, str, int]] = \
        lambda each: (each.answers[0], each.answers[1], 0 if each.label > 0 else 1)  # noqa: E731
    decided = [each for each in pairs if each.label]
    found = agreement.leaning([chosen(each) for each in decided])
    shown = agreement.leaning([chosen(each) for each in decided if each.shown])
    return {"longer": found["longer"], "first": shown["first"]}


def _cycles(pairs: Sequence[Judgement]) -> Figure | None:
    """Return the share of triples of answers, all three pairs decided by one rater, that go round in a circle."""
    better: dict[tuple[str, str], dict[tuple[str, str], bool]] = {}
    for each in pairs:
        if each.label:
            one, other = each.answers
            said = better.setdefault((each.rater, each.prompt), {})
            said[one, other], said[other, one] = each.label > 0, each.label < 0
    tally: Counter[bool] = Counter()
    for said in better.values():
        for a, b, c in combinations(sorted({answer for pair in said for answer in pair}), 3):
            if all(pair in said for pair in ((a, b), (b, c), (c, a))):
                tally[said[a, b] == said[b, c] == said[c, a]] += 1
    return rate(tally[True], tally.total()) if tally.total() else None
