"""Do a few records that stand alone come out? Averages over all rows hide them; `pytest tests/evaluation`.

A model that is right about thousands may still repeat the one patient with two rare diseases, all the more if the
record is in the table many times. So the most isolated records are looked at by themselves: one is given away when a
synthetic row is much nearer to it than any other real row is. Held-out records, as isolated, say how often that
happens by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bottega.core.table import Table
from bottega.evaluation.statistics import Figure, difference, rate
from bottega.evaluation.table_distances import Points, closest, distances, points
from bottega.evaluation.table_views import View, row_keys, sample, views

SHARE, FEWEST, RECORDS = 0.1, 10, 100  # of the records the most isolated tenth, but 10 to 100 of either side
NEAR = 0.2  # of the way to the nearest other real record: nearer than that is no neighbour, but the record itself


@dataclass(frozen=True, slots=True)
class Outliers:
    """How many isolated records have a synthetic row right beside them.

    Attributes:
        given: share of the most isolated training records.
        control: the same of held-out records.
        risk: given less control, with its interval.
        rows: synthetic rows that lie beside one of these training records.
    """

    given: Figure
    control: Figure
    risk: Figure
    rows: int


def outliers(synthetic: Table, train: Table, holdout: Table, *, seed: int = 0, most: int = 10_000) -> Outliers | None:
    """Look for synthetic rows beside the most isolated records.

    Args:
        synthetic: rows of a model.
        train: the rows that it was trained on; a record that is there many times counts once.
        holdout: real rows that it was not trained on, of the same source.
        seed: draws rows from larger tables.
        most: rows of each that are compared.

    Returns:
        None if there are fewer than ten distinct records of a side.

    Raises:
        InputError: a table is empty, or their columns do not fit each other.
        DataError: a number is infinite.
    """
    made, known, fresh = views(synthetic, train, holdout)
    rng = np.random.default_rng(seed)
    count = min(known.rows, fresh.rows, most)
    made = made.take(sample(made.rows, most, rng))
    known, fresh = (_distinct(view.take(sample(view.rows, count, rng))) for view in (known, fresh))
    chosen = min(RECORDS, max(FEWEST, round(SHARE * min(known.rows, fresh.rows))))
    if min(known.rows, fresh.rows) < chosen:
        return None
    here, there, elsewhere = points([made, known, fresh], [known, fresh])
    across = closest(there, elsewhere)
    sides = [_beside(here, side, np.minimum(closest(side, side).second, other), chosen)
             for side, other in ((there, across.first), (elsewhere, across.back))]
    given, control = (rate(int(near.any(axis=1).sum()), chosen) for near in sides)
    return Outliers(given, control, difference(given, control), int(sides[0].any(axis=0).sum()))


def _distinct(view: View) -> View:
    return view.take(np.sort(np.unique(row_keys(view)[0], return_index=True)[1]))


def _beside(made: Points, real: Points, alone: NDArray[np.float64], chosen: int) -> NDArray[np.bool_]:
    """Say which synthetic rows lie beside which of the most isolated records: bool [chosen, N].

    Args:
        made: synthetic rows.
        real: records.
        alone: distance of each record to the nearest other real one.
        chosen: how many records.
    """
    first = np.argsort(-alone, kind="stable")[:chosen]
    scale = made.unit * max(1, len(made.numbers) + len(made.codes))
    return np.asarray(distances(real.take(first), made) / scale <= NEAR * alone[first, None])
