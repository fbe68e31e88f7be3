"""Columns that another column decides, found in the rows; and fresh ids. `pytest tests/codecs/test_table.py`.

A level of education and its number, a class and its name: learning both as if they were two things breaks the link in
some rows. When a link has no exception in the training rows, one side is learned and the other looked up.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.core.table import Column, Table

_MOST = 200  # distinct values of either side
_OWN = 10    # rows that a number needs for a code of its own
_EACH = 5    # rows that a value of the deciding side has on average, at least
_LETTERS, _DIGITS = "abcdefghijklmnopqrstuvwxyz", "0123456789"


def find(table: Table, *, without: set[str], protect: int = 5) -> list[tuple[str, str]]:
    """Return (deciding column, decided column) for each link that no row breaks, missing counted as a value.

    The decided ones are looked up in this order; no column that is decided decides another.

    Args:
        table: the training rows.
        without: columns that take no part.
        protect: rows below which a value has no code of its own; such a number decides nothing.
    """
    names = [column.name for column in table.schema.learned if column.name not in without]
    codes: dict[str, NDArray[np.int64]] = {}
    for name in names:
        found, levels = table.codes(name)
        if len(levels) + 1 >= 2 and len(levels) <= min(_MOST, max(2, len(table) // _EACH)) and \
                len(np.unique(found)) >= 2:
            codes[name] = found.astype(np.int64) + 1
    distinct = {name: len(np.unique(found)) for name, found in codes.items()}
    coded = {column.name: not column.ordered for column in table.schema.learned}
    # a level is the better key than a number, and more values decide more
    keys = sorted(codes, key=lambda name: (-distinct[name], not coded[name], table.schema.names.index(name)))
    decided: dict[str, str] = {}
    for key in keys:
        fewest = int(np.unique(codes[key], return_counts=True)[1].min())
        if key in decided or (not coded[key] and fewest < max(_OWN, protect)):
            continue
        for name in keys:
            if name == key or name in decided or name in decided.values():
                continue
            if distinct[name] > distinct[key]:
                continue
            pairs = len(np.unique(codes[key] * (codes[name].max() + 1) + codes[name]))
            if pairs == distinct[key]:
                decided[name] = key
    return [(key, name) for name, key in decided.items()]


def by_frequency(texts: list[str | None]) -> tuple[list[str], NDArray[np.int32]]:
    """Return the distinct texts, commonest first, and each text's code into them (-1: None)."""
    counts = Counter(text for text in texts if text is not None)
    levels = sorted(counts, key=lambda text: (-counts[text], text))
    places = {level: place for place, level in enumerate(levels)}
    return levels, np.array([-1 if text is None else places[text] for text in texts], np.int32)


def fresh_ids(column: Column, count: int, rng: np.random.Generator) -> Any:
    """Return `count` different ids that are formed like the column's and are none of them, as an Arrow array.

    Numbers go on after the highest; of texts every letter and digit of an example is drawn anew, and a running number
    is added where the example has too few of them.
    """
    import pyarrow as pa

    if column.arrow.startswith(("int", "uint")):
        start = int(column.high or 0) + 1
        return pa.array(np.arange(start, start + count)).cast(pa.type_for_alias(column.arrow))
    shape = column.pattern or "00000000"
    room = 1.0
    for letter in shape:
        room *= 10 if letter.isdigit() else 26 if letter.isascii() and letter.isalpha() else 1
    shape = shape if room >= 100 * max(count, 1) else f"{shape}-00000000"
    made: dict[str, None] = {}
    while len(made) < count:
        draws = rng.integers(0, 260, (count, len(shape)))
        for row in draws.tolist():
            made["".join(_like(letter, draw) for letter, draw in zip(shape, row, strict=True))] = None
            if len(made) == count:
                break
    return pa.array(list(made), pa.string())


def _like(letter: str, draw: int) -> str:
    if letter.isdigit():
        return _DIGITS[draw % 10]
    if letter.isascii() and letter.isalpha():
        found = _LETTERS[draw % 26]
        return found.upper() if letter.isupper() else found
    return letter
