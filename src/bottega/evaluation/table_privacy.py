"""Do synthetic rows sit on training rows? Distances to both halves of the real data; `pytest tests/evaluation`.

Every figure compares training rows with held-out rows, as many of each: what a synthetic table shares with both is
what they have in common, what it shares with training rows alone is what the model remembers. Passing these tests is
no proof of anonymity: they look at whole rows only. `table_attacks` tries what an attacker would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bottega.core.table import Table
from bottega.evaluation.statistics import Figure, Z, auc, difference, rate
from bottega.evaluation.table_distances import Closest, closest, points
from bottega.evaluation.table_repeats import repeated
from bottega.evaluation.table_views import View, row_keys, sample, views

MOST = 10_000  # rows of each table that are compared: the pairs grow with the square, the intervals hardly shrink
_LOWEST = 0.05  # the quantile of the nearest-neighbour ratio that is told: copies of few rows show there


@dataclass(frozen=True, slots=True)
class Privacy:
    """How near synthetic rows are to training rows, beside held-out rows.

    Attributes:
        closer: share of synthetic rows that are nearer to a training row than to a held-out row (equal: half); 0.5 is
            ideal. Also called DCR share.
        copies: share of synthetic rows that equal a training row in all learned columns.
        fresh_copies: the same of held-out rows: what chance explains.
        excess: copies less fresh_copies.
        ratio: 5th percentile of distance to the nearest over distance to the second nearest training row, of synthetic
            rows; far below that of held-out rows: some rows stand alone beside one training row.
        fresh_ratio: the same of held-out rows.
        membership: AUC of telling training from held-out rows by their distance to the nearest synthetic row; 0.5 is
            ideal.
        repeated: column that is not learned (id, text) → share of synthetic values that repeat a training row's; see
            `table_repeats`. Columns without a value are left out.
        fresh_repeated: the same of held-out rows.
    """

    closer: Figure
    copies: Figure
    fresh_copies: Figure
    excess: Figure
    ratio: float
    fresh_ratio: float
    membership: Figure
    repeated: dict[str, Figure]
    fresh_repeated: dict[str, Figure]


def privacy(synthetic: Table, train: Table, holdout: Table, *, seed: int = 0, most: int = MOST,
            everyone: Table | None = None) -> Privacy:
    """Compare the nearness of synthetic rows to training rows with that to held-out rows.

    Args:
        synthetic: rows of a model.
        train: the rows that it was trained on.
        holdout: real rows that it was not trained on, of the same source; duplicates of training rows belong to
            neither.
        seed: draws rows from larger tables.
        most: rows of each that are compared.
        everyone: all training rows, where `train` is a sample: a text that is repeated may be that of any.

    Raises:
        InputError: a table is empty, or their columns do not fit each other.
        DataError: a number is infinite.
    """
    made, known, fresh = views(synthetic, train, holdout)
    copies, fresh_copies = _copies(made, known), _copies(fresh, known)
    rng = np.random.default_rng(seed)
    count = min(known.rows, fresh.rows, most)
    made = made.take(sample(made.rows, most, rng))
    known, fresh = (view.take(sample(view.rows, count, rng)) for view in (known, fresh))
    here, there, elsewhere = points([made, known, fresh], [known, fresh])
    to_train, to_holdout = closest(here, there), closest(here, elsewhere)
    return Privacy(
        closer=_closer(to_train, to_holdout), copies=copies, fresh_copies=fresh_copies,
        excess=difference(copies, fresh_copies), ratio=_ratio(to_train), fresh_ratio=_ratio(closest(elsewhere, there)),
        membership=auc(-to_train.back, -to_holdout.back),
        repeated=repeated(synthetic, everyone or train), fresh_repeated=repeated(holdout, everyone or train))


def _closer(to_train: Closest, to_holdout: Closest) -> Figure:
    """Return the share of rows nearer to a training row than to a held-out row, equal ones as half.

    Many rows share one nearest real row, so they are no independent cases: with few real rows, which of them happened
    to be held out moves the share more than anything else. The interval is the exact one of labels that are dealt to
    the real rows anew: each real row counts with the number of rows that it is nearest to.
    """
    rows, count = len(to_train.first), len(to_train.back)
    own = np.where(to_train.first == to_holdout.first, 0.5, to_train.first < to_holdout.first)
    near = np.concatenate([np.bincount(to_train.index, own, count), np.bincount(to_holdout.index, 1 - own, count)])
    half = Z * math.sqrt(near.var() * len(near) ** 2 / (4 * (len(near) - 1))) / rows
    value = float(own.mean())
    return Figure(value=value, low=max(0.0, value - half), high=min(1.0, value + half), n=rows)


def _copies(rows: View, known: View) -> Figure:
    """Return the share of rows that are among the known rows."""
    one, other = row_keys(rows, known)
    return rate(int(np.isin(one, other).sum()), rows.rows)


def _ratio(found: Closest) -> float:
    """Return the 5th percentile of first / second; two equal distances give 1, also two zeros."""
    comparable = (found.second > 0) & np.isfinite(found.second)
    ratios = np.divide(found.first, found.second, out=np.ones_like(found.first), where=comparable)
    return float(np.quantile(ratios, _LOWEST))
