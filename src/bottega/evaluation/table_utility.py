"""What synthetic rows are worth for learning: train on them, test on real ones; `pytest tests/evaluation`.

Train on synthetic, test on real (Esteban et al. 2017), for every column as the target, beside the same trees trained
on real rows. And the other use: real rows and more of a rare class, against real rows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import InputError
from bottega.core.table import Table, join
from bottega.evaluation.statistics import Figure, auc
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


# --- more of a rare class ---------------------------------------------------------------------------------------------

@dataclass(frozen=True, slots=True)
class Augmentation:
    """What synthetic rows of a rare class add to real rows.

    Attributes:
        target, level: the column and its rare class.
        real: mean F1 of the class on the test rows, trained on real rows alone.
        both: the same, trained on real and synthetic rows.
        gain: mean of the differences over repeats, with its bootstrap interval (2.5th to 97.5th percentile).
        support: real training rows of the class.
        added: synthetic rows that were added.
    """

    target: str
    level: str
    real: float
    both: float
    gain: Figure
    support: int
    added: int


def augmentation(train: Table, test: Table, target: str, make: Callable[[str, int, int], Table], *,
                 level: str | None = None, share: float = 0.5, repeats: int = 5, seed: int = 0) -> Augmentation:
    """Measure if synthetic rows of a class help to recognise it, against real rows alone.

    Each repeat trains on a bootstrap draw of the real rows, with and without new synthetic rows, and tests both on
    the same held-out rows.

    Args:
        train: real rows; `make`'s model has seen no others.
        test: held-out real rows.
        target: a coded column.
        make: takes the level, how many rows, and a seed; returns that many rows of the level.
        level: the class; the rarest of the training rows that the test rows have too, if None.
        share: so many rows are added that the class makes up this share of what is not missing.
        repeats: at least 2.
        seed: of draws and rows.

    Raises:
        InputError: the target is not coded or has no such class, the class is no rare one, or numbers are out of range.
        MissingExtraError: scikit-learn is not installed.
    """
    if repeats < 2 or not 0 < share < 1:
        raise InputError(f"{repeats} repeats at a share of {share} say nothing",
                         fix="give 2 or more repeats, and 0 < share < 1")
    if train.schema.column(target).ordered:
        raise InputError(f"column '{target}' is a number: it has no classes", fix="name a category or a boolean")
    known, held = views(train, test)
    rare = _rarest(known, held, target, level)
    name = known.levels[target][rare]
    support = int((known.codes[target] == rare).sum())
    labelled = int((known.codes[target] >= 0).sum())
    added = round((share * labelled - support) / (1 - share))
    if added <= 0:
        raise InputError(f"'{name}' is {support} of {labelled} rows already: that is no rare class of '{target}'",
                         fix="raise the share, or name another class")
    rng = np.random.default_rng(seed)
    alone, joined = [], []
    for repeat in range(repeats):
        drawn = train.take(rng.integers(len(train), size=len(train)))
        more = make(name, added, seed + repeat)
        both = _f1(target, name, test, {"real": drawn, "both": join([drawn, Table(train.schema, more.data)])}, seed)
        alone.append(both["real"])
        joined.append(both["both"])
    gains = np.array(joined) - np.array(alone)
    means = gains[rng.integers(repeats, size=(2000, repeats))].mean(axis=1)
    low, high = (float(edge) for edge in np.quantile(means, (0.025, 0.975)))
    return Augmentation(target, name, float(np.mean(alone)), float(np.mean(joined)),
                        Figure(value=float(gains.mean()), low=low, high=high, n=repeats), support, added)


def _rarest(known: View, held: View, target: str, level: str | None) -> int:
    levels = known.levels[target]
    counts, there = (np.bincount(view.codes[target][view.codes[target] >= 0], minlength=len(levels))
                     for view in (known, held))
    if level is not None and (level not in levels or not counts[levels.index(level)] or not there[levels.index(level)]):
        raise InputError(f"'{target}' has no '{level}' among training and test rows", fix=f"it has {', '.join(levels)}")
    shared = np.flatnonzero((counts > 0) & (there > 0))
    if len(shared) < 2:
        raise InputError(f"'{target}' has fewer than two classes in training and test rows", fix="name another column")
    return levels.index(level) if level is not None else int(shared[np.argmin(counts[shared])])


def _f1(target: str, level: str, test: Table, tables: Mapping[str, Table], seed: int) -> dict[str, float]:
    """Return 2 TP / (2 TP + FP + FN) of a class, its rows told from all others, for each training table."""
    seen = views(test, *tables.values())
    wanted = seen[0].levels[target].index(level)
    known = [view.take(~view.missing(target)) for view in seen]
    coded = features(known, [name for name in known[0].order if name != target])
    truths = [view.codes[target] == wanted for view in known]
    found = {}
    for name, side, truth in zip(tables, coded[1:], truths[1:], strict=True):
        told = np.zeros(len(truths[0]), bool)
        if truth.any() and not truth.all():
            told = classifier(side.coded, 2, seed).fit(side.matrix, truth).predict(coded[0].matrix)
        hits = int((told & truths[0]).sum())
        found[name] = 2 * hits / max(1, int(told.sum()) + int(truths[0].sum()))
    return found
