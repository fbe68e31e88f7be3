"""More rows of a rare class to learn from: how many, which, and what they bring; `pytest tests/evaluation`.

Two choices matter more than the generator. A class that is filled up to half of the rows makes trees cry wolf: halfway
between its own share and half is enough. And a row of the class that looks like the others teaches nothing but doubt:
of more rows than are needed, those are taken that trees of the real rows most believe. The figures are those of
`benchmarks/table_augmentation.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import InputError
from bottega.core.table import Table, join
from bottega.evaluation.statistics import Figure
from bottega.evaluation.table_learners import classifier, features
from bottega.evaluation.table_views import View, views

DRAWN = 4  # rows that are drawn for one that is kept: two serve as well in most tables, where links are strict four


@dataclass(frozen=True, slots=True)
class Rare:
    """A rare class of a table.

    Attributes:
        target, level: the column and its class.
        support: rows of the class.
        labelled: rows whose target is not missing.
    """

    target: str
    level: str
    support: int
    labelled: int

    def missing(self, share: float | None = None) -> int:
        """Return how many rows of the class bring it to a share: by default halfway between its own and half.

        Raises:
            InputError: the share is not between 0 and 1, or the class has it already.
        """
        wanted = (self.support / self.labelled + 0.5) / 2 if share is None else share
        if not 0 < wanted < 1:
            raise InputError(f"a class cannot be {wanted} of the rows", where="share", fix="give 0 < share < 1")
        count = round((wanted * self.labelled - self.support) / (1 - wanted))
        if count <= 0:
            raise InputError(f"'{self.level}' is {self.support} of {self.labelled} rows already: that is no rare class "
                             f"of '{self.target}'", fix="raise the share, or name another class")
        return count


def rare(train: Table, target: str, level: str | None = None, *, test: Table | None = None) -> Rare:
    """Find the rarest class of a column, or count a given one.

    Args:
        train: real rows.
        target: a coded column.
        level: the class; the rarest one if None.
        test: rows that must have the class too.

    Raises:
        InputError: the target is not coded, has fewer than two classes, or not this one.
    """
    if train.schema.column(target).ordered:
        raise InputError(f"column '{target}' is a number: it has no classes", fix="name a category or a boolean")
    known, *others = views(train, *([test] if test is not None else []))
    levels = known.levels[target]
    counts, *there = (np.bincount(view.codes[target][view.codes[target] >= 0], minlength=len(levels))
                      for view in (known, *others))
    shared = np.flatnonzero(np.logical_and.reduce([counts > 0, *(each > 0 for each in there)]))
    if level is not None and (level not in levels or levels.index(level) not in shared):
        raise InputError(f"'{target}' has no '{level}' in these rows", fix=f"it has {', '.join(levels)}")
    if len(shared) < 2:
        raise InputError(f"'{target}' has fewer than two classes in these rows", fix="name another column")
    place = levels.index(level) if level is not None else int(shared[np.argmin(counts[shared])])
    return Rare(target, levels[place], int(counts[place]), int(counts.sum()))


def convincing(train: Table, drawn: Table, of: Rare, count: int, *, seed: int = 0) -> Table:
    """Return those rows, most convincing first, that trees trained on the real rows most take for the class.

    Args:
        train: real rows.
        drawn: synthetic rows of the class.
        of: the class.
        count: how many to keep.
        seed: of the trees.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    _, chances = class_chances(of, drawn, {"real": train}, seed)
    return drawn.take(np.argsort(-chances["real"], kind="stable")[:count])


def class_chances(of: Rare, test: Table, tables: Mapping[str, Table], seed: int, *, weighted: Collection[str] = ()
                  ) -> tuple[NDArray[np.bool_], dict[str, NDArray[np.float64]]]:
    """Train on each table to tell the class from all others, and return what is thought of the test rows.

    Args:
        of: the class.
        test: rows to judge; without the column's value they are left out.
        tables: name → rows to train on.
        seed: of the trees.
        weighted: names of tables whose two sides count alike, by weights.

    Returns:
        Which test rows are of the class, bool [N], and name → probability of it, float64 [N].

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    seen = views(test, *tables.values())
    wanted = seen[0].levels[of.target].index(of.level)
    known: list[View] = [view.take(~view.missing(of.target)) for view in seen]
    coded = features(known, [name for name in known[0].order if name != of.target])
    truths = [view.codes[of.target] == wanted for view in known]
    found = {}
    for name, side, truth in zip(tables, coded[1:], truths[1:], strict=True):
        if not truth.any() or truth.all():
            found[name] = np.full(known[0].rows, float(truth.any()))
            continue
        model = classifier(side.coded, 2, seed)
        if name in weighted:
            model.set_params(class_weight="balanced")
        found[name] = model.fit(side.matrix, truth).predict_proba(coded[0].matrix)[:, 1]
    return truths[0], found


def f1(told: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return 2 TP / (2 TP + FP + FN) of what was told."""
    return 2 * int((told & truth).sum()) / max(1, int(told.sum()) + int(truth.sum()))


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
                 level: str | None = None, share: float | None = None, repeats: int = 5, seed: int = 0) -> Augmentation:
    """Measure if synthetic rows of a class help to recognise it, against real rows alone.

    Each repeat trains on a bootstrap draw of the real rows, with and without new synthetic rows, and tests both on
    the same held-out rows.

    Args:
        train: real rows; `make`'s model has seen no others.
        test: held-out real rows.
        target: a coded column.
        make: takes the level, how many rows, and a seed; returns that many rows of the level.
        level: the class; the rarest of the training rows that the test rows have too, if None.
        share: so many rows are kept that the class makes up this share of what is not missing; see `Rare.missing`.
        repeats: at least 2.
        seed: of draws and rows.

    Raises:
        InputError: the target is not coded or has no such class, the class is no rare one, or numbers are out of range.
        MissingExtraError: scikit-learn is not installed.
    """
    if repeats < 2:
        raise InputError(f"{repeats} repeats say nothing", where="repeats", fix="give 2 or more")
    of = rare(train, target, level, test=test)
    added = of.missing(share)
    rng = np.random.default_rng(seed)
    alone, joined = [], []
    for repeat in range(repeats):
        drawn = train.take(rng.integers(len(train), size=len(train)))
        more = Table(train.schema, make(of.level, DRAWN * added, seed + repeat).data)
        kept = convincing(drawn, more, of, added, seed=seed)
        truth, chances = class_chances(of, test, {"real": drawn, "both": join([drawn, kept])}, seed)
        alone.append(f1(chances["real"] >= 0.5, truth))
        joined.append(f1(chances["both"] >= 0.5, truth))
    gain = paired(np.array(joined) - np.array(alone), rng)
    return Augmentation(target, of.level, float(np.mean(alone)), float(np.mean(joined)), gain, of.support, added)


def paired(gains: NDArray[np.float64], rng: np.random.Generator) -> Figure:
    """Return the mean of paired differences with its bootstrap interval (2.5th to 97.5th percentile)."""
    count = len(gains)
    means = gains[rng.integers(count, size=(2000, count))].mean(axis=1)
    low, high = (float(edge) for edge in np.quantile(means, (0.025, 0.975)))
    return Figure(value=float(gains.mean()), low=low, high=high, n=count)
