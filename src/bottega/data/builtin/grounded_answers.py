"""Built-in source `grounded-answers`: an answer that keeps to the rules against one with a wrong fact.

The rejected answer has the same tone and one fault: another amount, the decision of another situation, or the order
number of somebody else.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from bottega.data.builtin.support_desk import LICENCE, PRODUCTS, SITUATIONS, WHEN, Case, Tone, cases
from bottega.data.record import Record, Split

PAIRS: tuple[tuple[Split, int], ...] = (("train", 2_000), ("validation", 200))
_SEED = 2


def corrupted(case: Case, tone: Tone, rng: random.Random) -> str:
    """Return the case's answer with one wrong fact."""
    right = case.answer(tone)
    while True:
        fault = rng.choice(("amount", "decision", "order"))
        if fault == "order":
            return right.replace(str(case.order), str(rng.randrange(1000, 10_000)))
        if fault == "amount":
            other = replace(case, product=rng.choice(tuple(PRODUCTS)))
            wrong = other.answer(tone).replace(other.product, case.product)
        else:
            other = replace(case, situation=rng.choice(SITUATIONS), when=rng.choice(tuple(WHEN)))
            wrong = other.answer(tone).replace(other.situation.sympathy.format(p=case.product),
                                               case.situation.sympathy.format(p=case.product))
        if other.facts != case.facts and wrong != right:
            return wrong


def records() -> Iterator[Record]:
    """Yield pairs on training combinations, then on held-out ones (forced into the validation split)."""
    for split, count in PAIRS:
        rng = random.Random(f"grounded-answers {split}")
        for number, (case, message) in enumerate(cases(split, count, _SEED)):
            tone: Tone = "house" if number % 2 else "curt"
            yield Record.preference(f"builtin:grounded-answers/{split}/{number}",
                                    [{"role": "user", "content": message}], case.answer(tone),
                                    corrupted(case, tone, rng), licence=LICENCE, split=split)
