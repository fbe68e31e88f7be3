"""How the rows of an entity follow each other, in made and in real ones.

Four questions: how many rows an entity has, and what changes from a row to the next, over two rows, and from the first
to the last. All real entities are cut into two halves at random: made ones are compared with the first half, and so is
the second (what a perfect model would give), and the second with the rows shuffled within each entity (the right rows
in no order). As many entities of each are: few look unlike any others. Copies of real ones pass: privacy is not asked.
`pytest tests/evaluation/test_table_sequences.py` exercises it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bottega.core.table import Schema, Table, join
from bottega.core.table_sequences import Layout
from bottega.evaluation.statistics import Figure
from bottega.evaluation.table_scores import Score, score
from bottega.evaluation.table_shapes import ks_complement, mean, tv_complement
from bottega.evaluation.table_views import View, views

_LEVELS = 10        # of a column, the commonest: the others count as one
_MOST = 10_000      # entities of either half that are looked at
_TURNS = 5          # draws of made entities, and shuffles, that a score is the mean of
LENGTHS = "rows of an entity"
REACHES = {"change to the next row": "of a number the difference, of a level both together",
           "change over two rows": "of a number the difference to two rows before, of a level all three together",
           "change from first to last": "of entities with three rows or more"}
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Change:
    """How alike the changes of one column are to those of real entities; NaN where nothing can be said.

    Attributes:
        name: column of a row; times as they are told, as differences.
        reach: a key of `REACHES`.
        made, fresh, shuffled: 1 - distance of the distributions from those of one half of the real entities: of the
            made ones, of the other half, and of this one with its rows shuffled.
    """

    name: str
    reach: str
    made: float
    fresh: float
    shuffled: float


class _Entities(NamedTuple):
    """Rows of entities, each entity's together and in order.

    Attributes:
        view: of what varies, N rows.
        owner: entity of each row, int64 [N], counted from 0.
        sizes: rows of each entity, 0 for one whose only row stands for none: float64 [E].
    """

    view: View
    owner: Rows
    sizes: NDArray[np.float64]

    def take(self, chosen: Rows) -> _Entities:
        """Return some entities."""
        rows = np.isin(self.owner, chosen)
        owner = np.unique(self.owner[rows], return_inverse=True)[1].reshape(-1)
        return _Entities(self.view.take(rows), owner, self.sizes[np.sort(chosen)])

    def shuffled(self, rng: np.random.Generator) -> _Entities:
        """Return the same entities, the rows of each in any order."""
        return self._replace(view=self.view.take(np.lexsort((rng.random(len(self.owner)), self.owner))))

    def places(self, reach: str) -> list[Rows]:
        """Return the rows that a change is between, the earliest first: int64 [changes] each."""
        first = np.flatnonzero(np.r_[True, self.owner[1:] != self.owner[:-1]])
        counts = np.diff(np.r_[first, len(self.owner)])
        if reach == "change from first to last":
            return [first[counts >= 3], (first + counts - 1)[counts >= 3]]
        back = 1 if reach == "change to the next row" else 2
        last = np.flatnonzero(np.arange(len(self.owner)) - first[self.owner] >= back)
        return [last - step for step in range(back, -1, -1)]


def judge_sequences(made: Table, train: Table, holdout: Table, layout: Layout, *, seed: int
                    ) -> tuple[list[Score], list[Change]]:
    """Return how alike the entities of a model are to real ones, and the same for each column.

    Args:
        made, train, holdout: steps of whole entities, as `Layout.wide` returns them; two or more real entities.
        layout: of them.
        seed: of what is drawn and shuffled.

    Raises:
        InputError: a table is empty.
    """
    rng = np.random.default_rng(seed)
    every, found = _entities([join([train, holdout]), made], layout)
    here = rng.permutation(len(every.sizes))[:2 * _MOST]
    real, rest = every.take(here[:len(here) // 2]), here[len(here) // 2:]
    order = rng.permutation(len(found.sizes))
    count = min(len(rest), len(order))
    turns, fresh = min(_TURNS, len(order) // count), every.take(rest[:count])
    judged = {"made": [found.take(order[turn * count:(turn + 1) * count]) for turn in range(turns)], "fresh": [fresh],
              "shuffled": [fresh.shuffled(rng) for _ in range(_TURNS)]}
    sizes: dict[str, Figure | float] = {key: mean(ks_complement(real.sizes, one.sizes) for one in parts)
                                        for key, parts in judged.items()}
    scores = [score(LENGTHS, "sequences", "higher", "shuffled", sizes, "1 - distance of the distributions; shuffling "
                    "changes nothing here")]
    changes = list[Change]()
    for reach, about in REACHES.items():
        told = {key: [_alike(real, one, reach) for one in parts] for key, parts in judged.items()}
        names = real.view.order
        of = {key: {name: mean(one[name] for one in parts) for name in names} for key, parts in told.items()}
        changes += [Change(name, reach, of["made"][name], of["fresh"][name], of["shuffled"][name]) for name in names]
        means: dict[str, Figure | float] = {key: mean(columns.values()) for key, columns in of.items()}
        scores.append(score(reach, "sequences", "higher", "shuffled", means,
                            f"mean over columns of 1 - distance of the distributions of changes: {about}"))
    return [one for one in scores if one is not None], changes


def _entities(tables: list[Table], layout: Layout) -> list[_Entities]:
    """Return steps as entities; what varies is seen alike in all tables."""
    schema = Schema(columns=[tables[0].schema.column(name) for name in layout.of_row])
    seen = views(*(Table(schema, table.data) for table in tables)) if schema.columns else [
        View({}, {}, {}, [], len(table)) for table in tables]
    found = []
    for table, view in zip(tables, seen, strict=True):
        starts = table.data[layout.place].to_numpy() == 0
        found.append(_Entities(view, np.cumsum(starts) - 1, table.values(layout.count)[starts]))
    return found


def _alike(real: _Entities, other: _Entities, reach: str) -> dict[str, float]:
    """Return column → how alike the changes are."""
    one, two = real.places(reach), other.places(reach)
    found: dict[str, float] = {}
    for name in real.view.order:
        if name in real.view.values:
            found[name] = ks_complement(_moved(real.view.values[name], one), _moved(other.view.values[name], two))
            continue
        known = np.bincount(real.view.codes[name] + 1, minlength=len(real.view.levels[name]) + 1)
        common = np.full(len(known), _LEVELS + 1)  # missing counts as a level of its own, 0
        common[1 + np.argsort(-known[1:], kind="stable")[:_LEVELS]] = np.arange(min(_LEVELS, len(known) - 1)) + 1
        common[0] = 0
        found[name] = tv_complement(*(_joint(common[side.view.codes[name] + 1], places)
                                      for side, places in ((real, one), (other, two))))
    return found


def _moved(values: NDArray[np.float64], places: list[Rows]) -> NDArray[np.float64]:
    gone: NDArray[np.float64] = values[places[-1]] - values[places[0]]
    return gone[~np.isnan(gone)]


def _joint(codes: NDArray[np.int64], places: list[Rows]) -> Rows:
    """Return how often each combination of levels follows each other."""
    cell, size = np.zeros(len(places[0]), np.int64), _LEVELS + 2
    for rows in places:
        cell = cell * size + codes[rows]
    return np.bincount(cell, minlength=size ** len(places))


def by_column(changes: list[Change]) -> dict[str, Mapping[str, Change]]:
    """Return column → reach → change, in the order of the columns."""
    found: dict[str, dict[str, Change]] = {}
    for change in changes:
        found.setdefault(change.name, {})[change.reach] = change
    return dict(found)
