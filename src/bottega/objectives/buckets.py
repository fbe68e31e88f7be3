"""Rows of like length batched together, so that little of a batch is padding; `objective.pack=false` uses it.

A bucket holds the rows that fit its width and not a smaller one. What does not fill a batch of a bucket moves up into
the next, so that at most the last batch is short. Every epoch has an order of its own, of rows within a bucket and of
batches, and both are pure functions of (seed, step). `pytest tests/objectives/test_buckets.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bottega.data.order import Permutation

_ROUND = 8  # widths are multiples of this: processors like them


class Buckets:
    """Batches of row numbers.

    Args:
        lengths: tokens of each row, none above `context`.
        context: the greatest width.
        tokens: of a batch, padding included; at least one row.
        count: of different widths at most (compiled code is kept for each).

    Attributes:
        padding: share of a whole epoch that is padding.
    """

    def __init__(self, lengths: Sequence[int], context: int, tokens: int, count: int) -> None:
        sizes = np.asarray(lengths, dtype=np.int64)
        widths = sorted({min(context, -(-context * part // (count * _ROUND)) * _ROUND) for part in range(1, count + 1)})
        self._groups: list[tuple[int, NDArray[np.int64]]] = []  # width, row numbers
        self._batches: list[tuple[int, int, int]] = []  # group, first and last row of it
        waiting = np.zeros(0, dtype=np.int64)
        below = 0
        for width in widths:
            rows = np.concatenate((waiting, np.flatnonzero((sizes > below) & (sizes <= width))))
            below, a_batch = width, max(1, tokens // width)
            whole = len(rows) if width == widths[-1] else len(rows) // a_batch * a_batch
            waiting = rows[whole:]
            if whole:
                self._batches += [(len(self._groups), first, min(first + a_batch, whole))
                                  for first in range(0, whole, a_batch)]
                self._groups.append((width, rows[:whole]))
        self.padding = 1 - float(sizes.sum()) / max(1, sum(width * len(rows) for width, rows in self._groups))

    @property
    def widths(self) -> list[int]:
        """Width of each bucket that holds rows."""
        return [width for width, _ in self._groups]

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._batches)

    def batch(self, seed: int, step: int) -> tuple[int, list[int]]:
        """Return the width and the row numbers of a step's batch."""
        epoch, place = divmod(step, len(self._batches))
        group, first, last = self._batches[Permutation(len(self._batches), seed, epoch)[place]]
        width, rows = self._groups[group]
        order = Permutation(len(rows), seed, epoch * len(self._groups) + group)
        return width, rows[order.take(np.arange(first, last))].tolist()
