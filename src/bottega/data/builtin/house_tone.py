"""Built-in source `house-tone`: two right answers to a customer, the one in the house tone is the better one.

Both hold the same facts and the same ticket; only the manner differs, so that what is learnt is manner alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from bottega.data.builtin.support_desk import LICENCE, cases
from bottega.data.record import Record, Split

PAIRS: tuple[tuple[Split, int], ...] = (("train", 4_000), ("validation", 300))
_SEED = 1  # other customers than those of support-desk


def records() -> Iterator[Record]:
    """Yield pairs on training combinations, then on held-out ones (forced into the validation split)."""
    for split, count in PAIRS:
        for number, (case, message) in enumerate(cases(split, count, _SEED)):
            yield Record.preference(f"builtin:house-tone/{split}/{number}", [{"role": "user", "content": message}],
                                    case.answer("house"), case.answer("curt"), licence=LICENCE, split=split)
