"""Columns that another column decides, found in the rows. `pytest tests/codecs/test_table.py`.

A level of education and its number, a class and its name: learning both as if they were two things breaks the link in
some rows. When a link has no exception in the training rows, one side is learned and the other looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from bottega.codecs.table_coding import holders
from bottega.core.table import Table

_MOST = 200  # distinct values of either side
_OWN = 10    # rows that a number needs for a code of its own
_EACH = 5    # rows that a value of the deciding side has on average, at least


def find(table: Table, *, without: set[str], protect: int = 5,
         may: Callable[[str, str], bool] = lambda key, name: True) -> list[tuple[str, str]]:
    """Return (deciding column, decided column) for each link that no row breaks, missing counted as a value.

    The decided ones are looked up in this order; no column that is decided decides another.

    Args:
        table: the training rows.
        without: columns that take no part.
        protect: rows below which a value has no code of its own; such a number decides nothing.
        may: whether the first column may decide the second.
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
            if distinct[name] > distinct[key] or not may(key, name):
                continue
            pairs = len(np.unique(codes[key] * (codes[name].max() + 1) + codes[name]))
            if pairs == distinct[key]:
                decided[name] = key
    return [(key, name) for name, key in decided.items()]


def by_frequency(texts: Sequence[str | None], owner: NDArray[np.int64] | None = None
                 ) -> tuple[list[str], NDArray[np.int32]]:
    """Return the distinct texts, those of most rows (or owners, where rows have them) first, and codes (-1: None)."""
    names = {text: place for place, text in enumerate(sorted({text for text in texts if text is not None}))}
    codes = np.array([-1 if text is None else names[text] for text in texts], np.int32)
    order = np.argsort(-holders(codes, owner, len(names)), kind="stable")
    places = np.empty(len(order) + 1, np.int32)
    places[order], places[-1] = np.arange(len(order)), -1
    levels = list(names)
    return [levels[place] for place in order], places[codes]
