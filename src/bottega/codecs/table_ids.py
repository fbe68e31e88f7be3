"""Ids that are made afresh and given out once. `pytest tests/codecs/test_table.py` exercises it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bottega.core.table import Column, arrow_type

_LETTERS, _DIGITS = "abcdefghijklmnopqrstuvwxyz", "0123456789"


@dataclass
class FreshIds:
    """Ids for all chunks of one request: none is given out twice.

    Attributes:
        given: column → ids given out so far.
    """

    given: dict[str, dict[str, None]] = field(default_factory=dict)
    _next: dict[str, int] = field(default_factory=dict)

    def take(self, column: Column, count: int, rng: np.random.Generator) -> Any:
        """Return `count` ids as an Arrow array, formed like the column's and none of them.

        Numbers go on after the highest; of texts every letter and digit of an example is drawn anew, and a running
        number is added where the example has too few of them.
        """
        import pyarrow as pa

        if column.arrow.startswith(("int", "uint")):
            start = self._next.get(column.name, int(column.high or 0) + 1)
            self._next[column.name] = start + count
            return pa.array(np.arange(start, start + count)).cast(arrow_type(column))
        shape, given = column.pattern or "00000000", self.given.setdefault(column.name, {})
        room = 1.0
        for letter in shape:
            room *= 10 if letter.isdigit() else 26 if letter.isascii() and letter.isalpha() else 1
        shape = shape if room >= 100 * max(count + len(given), 1) else f"{shape}-00000000"
        made: list[str] = []
        while len(made) < count:
            draws = rng.integers(0, 260, (count, len(shape)))
            for row in draws.tolist():
                text = "".join(_like(letter, draw) for letter, draw in zip(shape, row, strict=True))
                if text not in given:
                    given[text] = None
                    made.append(text)
                if len(made) == count:
                    break
        return pa.array(made, pa.string()).cast(arrow_type(column))


def _like(letter: str, draw: int) -> str:
    if letter.isdigit():
        return _DIGITS[draw % 10]
    if letter.isascii() and letter.isalpha():
        found = _LETTERS[draw % 26]
        return found.upper() if letter.isupper() else found
    return letter
