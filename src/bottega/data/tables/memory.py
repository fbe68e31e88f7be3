"""What a row of a sequence needs to know of earlier rows than the one before: found in the training rows.

A model that remembers one row loses a rhythm of two rows, and what an entity is like when its rows are noisy. What the
second row before held, and of a number the mean so far, of a level the first one, is added where it tells of a column
what the row before, the place and the entity do not, by a least-squares fit with and without it. Only where it helps:
every column more is one more to learn. `pytest tests/data/test_table_memory.py` exercises it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bottega.core.table import Table
from bottega.core.table_sequences import Layout, Past

_FEWEST = 200     # rows with two before them, under which nothing is found
_MOST = 20_000    # rows that are looked at
_LEVELS = 8       # of a column, the commonest: the others count as one
_GAIN = 0.01      # share of what is left unexplained that must be told
_ERRORS = 4.0     # standard errors that it must be beyond chance
_NUMBERS: list[Past] = ["second previous", "mean previous"]
_CODED: list[Past] = ["second previous", "first"]
Floats = NDArray[np.float64]


def remembering(layout: Layout, train: Table) -> Layout:
    """Return a layout with the memory that the training rows ask for.

    Args:
        layout: without memory.
        train: flat rows of whole entities.
    """
    if not len(train):
        return layout
    every = layout.model_copy(update={"memory": {
        column.name: [which for which in (_NUMBERS if column.ordered else _CODED)
                      if layout.past(which, column.name) not in layout.flat.names]  # a taken name stays
        for column in layout.wide_schema.columns if column.name in layout.of_row}})
    wide, owner, _ = every.wide(train)
    first = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])[owner]
    rows = np.flatnonzero(np.arange(len(owner)) - first >= 2)
    if len(rows) < _FEWEST:
        return layout
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).astype(np.int64))]
    entity = np.hstack([np.ones((len(rows), 1)), np.log1p(rows - first[rows])[:, None],
                        *(_features(wide, name)[rows] for name in layout.of_entity)])
    memory = dict[str, list[Past]]()
    for name in layout.of_row:
        told, chosen = _features(wide, name), list[Past]()
        now, known = told[rows], told[rows - 1]
        base = np.hstack([entity, known])
        for which in every.memory[name]:
            more = _features(wide, every.past(which, name))[rows]
            if not wide.schema.column(name).ordered:  # of levels the two together may tell what neither does
                more = np.hstack([more, (known[:, :, None] * more[:, None, :]).reshape(len(rows), -1)])
            if _tells(now, base, more):
                chosen.append(which)
                base = np.hstack([base, more])
        if chosen:
            memory[name] = chosen
    return layout.model_copy(update={"memory": memory})


def _features(table: Table, name: str) -> Floats:
    """Return a column as numbers, float64 [N, F]: normal score and whether it is known, or one for each level."""
    column = table.schema.column(name)
    if not column.ordered:
        codes = table.codes(name)[0]
        common = np.argsort(-np.bincount(codes[codes >= 0], minlength=1), kind="stable")[:_LEVELS]
        same: Floats = (codes[:, None] == common).astype(np.float64)
        return same
    values = table.values(name)
    known = ~np.isnan(values)
    scores = np.zeros(len(values))
    levels, place, count = np.unique(values[known], return_inverse=True, return_counts=True)
    if len(levels):
        scores[known] = _normal((np.cumsum(count) - count / 2) / known.sum())[place.reshape(-1)]
    return np.stack([scores, known.astype(np.float64)], 1)


def _normal(share: Floats) -> Floats:
    """Return the normal scores of shares in (0, 1)."""
    import torch

    found: Floats = torch.special.ndtri(torch.from_numpy(share)).numpy()
    return found


def _tells(now: Floats, base: Floats, more: Floats) -> bool:
    """Return whether a least-squares fit of `now` on `base` is clearly better with `more`, by the F statistic."""
    whole = np.hstack([base, more])
    ranks, left = [], []
    for given in (base, whole):
        fit, _, rank, _ = np.linalg.lstsq(given, now, rcond=1e-9)
        ranks.append(int(rank))
        left.append(float(np.square(now - given @ fit).sum()))
    added, free, every = ranks[1] - ranks[0], len(now) - ranks[1], int((now.std(0) > 0).sum())
    if added <= 0 or free <= 0 or left[0] <= 1e-9 * len(now):
        return False
    ratio = (left[0] - left[1]) / added / max(left[1] / free, 1e-12)
    return (left[0] - left[1]) / left[0] >= _GAIN and ratio >= 1 + _ERRORS * np.sqrt(2 / (added * max(every, 1)))
