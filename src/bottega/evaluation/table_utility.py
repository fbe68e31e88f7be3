"""What synthetic rows are worth for learning: train on them, test on real ones; `pytest tests/evaluation`.

Train on synthetic, test on real (Esteban et al. 2017), for every column as the target, beside the same trees trained
on real rows. The other use, more rows of a rare class beside real ones, is `table_augmentation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import InputError
from bottega.core.table import Table
from bottega.evaluation.statistics import auc
from bottega.evaluation.table_learners import Features, classifier, features, regressor
from bottega.evaluation.table_views import View, sample, views

MOST = 10_000  # rows of each table
CLASSES = 10  # of a target; rarer ones count as one class
_FEWEST = 10  # test rows of a class, below which its AUC is left out: it would be chance


@dataclass(frozen=True, slots=True)
class Target:
    """How well a column is told from all others on held-out rows, by what the trees were trained on.

    Attributes:
        measure: `auc` of two classes, `macro auc` of more (mean of one class against the rest), `r2` of numbers.
        chance: what knows nothing scores: 0.5, or 0 of r2.
        scores: name of the training table → score. A table in which the target is constant scores chance.
        n: test rows.
    """

    name: str
    measure: Literal["auc", "macro auc", "r2"]
    chance: float
    scores: dict[str, float]
    n: int


def utility(tables: Mapping[str, Table], test: Table, *, targets: Sequence[str] | None = None, seed: int = 0,
            most: int = MOST) -> list[Target]:
    """Train on each table, test on the same held-out rows, for each column as target.

    Args:
        tables: name → rows to train on, such as `synthetic` and `real`.
        test: held-out real rows.
        targets: columns to predict; all learned ones if None.
        seed: draws rows from larger tables, and orders them.
        most: rows of each table.

    Returns:
        A target each, without those of which nothing can be said: constant or missing in the test rows.

    Raises:
        InputError: no table, an unknown target, a table without rows, or columns that do not fit each other.
        DataError: a number is infinite.
        MissingExtraError: scikit-learn is not installed.
    """
    if not tables:
        raise InputError("there is no table to train on", fix="give at least one")
    seen = views(test, *tables.values())
    rng = np.random.default_rng(seed)
    seen = [view.take(sample(view.rows, most, rng)) for view in seen]
    chosen = [test.schema.column(name).name for name in targets] if targets is not None else seen[0].order
    found = (_target(name, dict(zip(tables, seen[1:], strict=True)), seen[0], seed) for name in chosen)
    return [target for target in found if target is not None]


def _target(name: str, tables: Mapping[str, View], test: View, seed: int) -> Target | None:
    others = [other for other in test.order if other != name]
    if name not in test.order or not others:
        return None
    known = [view.take(~view.missing(name)) for view in (test, *tables.values())]
    if known[0].rows < 2:
        return None
    full = [view for view in known if view.rows]
    encoded = iter(features(full, others))
    coded = [next(encoded) if view.rows else None for view in known]
    here = coded[0]
    if here is None:
        return None
    if name in test.values:
        truth = known[0].values[name]
        if truth.min() == truth.max():
            return None
        scores = {label: _regressed(side, view.values[name], here, truth, seed)
                  for label, side, view in zip(tables, coded[1:], known[1:], strict=True)}
        return Target(name, "r2", 0.0, scores, known[0].rows)
    classes = _classes(name, known)
    kinds = [kind for kind in range(CLASSES) if (classes[0] == kind).sum() >= _FEWEST]
    if len(kinds) < 2:
        return None
    scores = {label: _classified(side, labels, here, classes[0], kinds, seed)
              for label, side, labels in zip(tables, coded[1:], classes[1:], strict=True)}
    measure: Literal["auc", "macro auc"] = "auc" if len(kinds) == 2 else "macro auc"
    return Target(name, measure, 0.5, scores, known[0].rows)


def _classes(name: str, known: Sequence[View]) -> list[NDArray[np.int64]]:
    """Return the classes of each table: its most frequent levels in the test rows, the rest as the last class."""
    counts = np.bincount(known[0].codes[name], minlength=len(known[0].levels[name]))
    order = np.argsort(-counts, kind="stable")
    places = np.empty(len(counts), np.int64)
    places[order] = np.minimum(np.arange(len(counts)), CLASSES - 1)
    return [places[view.codes[name]] for view in known]


def _regressed(side: Features | None, labels: NDArray[np.float64], test: Features, truth: NDArray[np.float64],
               seed: int) -> float:
    """Return 1 - squared error over that of the test mean."""
    if side is None or labels.min() == labels.max():
        return 0.0
    middle, width = float(labels.mean()), float(labels.std())  # times are large: centred, no digit is lost
    guess = regressor(side.coded, seed).fit(side.matrix, (labels - middle) / width).predict(test.matrix)
    error = np.square(guess * width + middle - truth).sum()
    return float(1 - error / np.square(truth - truth.mean()).sum())


def _classified(side: Features | None, labels: NDArray[np.int64], test: Features, truth: NDArray[np.int64],
                kinds: Sequence[int], seed: int) -> float:
    """Return the AUC of two classes, or the mean AUC of each class of the test rows against the rest."""
    if side is None or labels.min() == labels.max():
        return 0.5
    model = classifier(side.coded, len(np.unique(labels)), seed).fit(side.matrix, labels)
    guess, own = model.predict_proba(test.matrix), list(model.classes_)
    asked = kinds[1:] if len(kinds) == 2 else kinds  # of two classes one AUC is the other's
    areas = []
    for kind in asked:
        chance = guess[:, own.index(kind)] if kind in own else np.zeros(len(truth))
        areas.append(auc(chance[truth == kind], chance[truth != kind])["value"])
    return float(np.mean(areas))
