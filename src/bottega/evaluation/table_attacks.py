"""What an attacker gains from synthetic rows about the people behind training rows; `pytest tests/evaluation`.

The three attacks of European law's notion of anonymity, after Giomi et al. 2023 (arXiv 2211.10459): singling out,
linkability, inference. Each is tried on training rows and, with the same knowledge, on as many held-out rows. Success
on held-out rows is what the synthetic table tells of everyone alike; only what exceeds it is the training rows' risk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bottega.core.table import Table
from bottega.evaluation.statistics import Figure, difference, rate
from bottega.evaluation.table_distances import Points, distances, neighbours, points
from bottega.evaluation.table_views import View, sample, views

MOST = 10_000  # rows of each table that take part
TRIES = 2000  # of an attack: the risk is then known to about 0.03 either way
COLUMNS = 4  # of a multivariate predicate: fewer seldom isolate a row, more isolate rows that only look alike
NEIGHBOURS = 5  # synthetic rows near to one half of a row among which one near to the other half links them
NEAR = 0.025  # a guessed number is right within this share of the real rows on either side
_DRAWS = 20  # random predicates that are drawn for one that isolates a synthetic row
_BLOCK = 32

Mask = NDArray[np.bool_]
Predicate = Callable[[View], Mask]


@dataclass(frozen=True, slots=True)
class Attack:
    """How an attack went.

    Attributes:
        name: `singling out, one column`, `singling out, several columns`, `linkability`, `inference of COLUMN`.
        success: share of tries that succeeded on training rows.
        control: the same on held-out rows.
        risk: success less control, with its interval.
        about: what was tried.
    """

    name: str
    success: Figure
    control: Figure
    risk: Figure
    about: str


def _attack(name: str, about: str, success: float, control: float, tries: int) -> Attack:
    one, other = rate(success, tries), rate(control, tries)
    return Attack(name, one, other, difference(one, other), about)


def attacks(synthetic: Table, train: Table, holdout: Table, *, seed: int = 0, tries: int = TRIES,
            most: int = MOST) -> list[Attack]:
    """Attack training rows, and held-out rows as the control, with the help of synthetic rows.

    Args:
        synthetic: rows of a model; all that the attacker has, besides part of a row.
        train: the rows that it was trained on.
        holdout: real rows that it was not trained on, of the same source.
        seed: draws rows, predicates and the halves of columns.
        tries: at most, of each attack.
        most: rows of each table that take part.

    Returns:
        The attacks that were possible: linkability and inference need two columns, singling out a synthetic row that
        a predicate isolates.

    Raises:
        InputError: a table is empty, or their columns do not fit each other.
        DataError: a number is infinite.
    """
    made, known, fresh = views(synthetic, train, holdout)
    rng = np.random.default_rng(seed)
    count = min(known.rows, fresh.rows, most)
    made = made.take(sample(made.rows, most, rng))
    known, fresh = (view.take(sample(view.rows, count, rng)) for view in (known, fresh))
    done = [_singled_out("singling out, one column", "a value that one synthetic row has, or an extreme, is one real "
                         "row's", _of_one_column(made, rng), made, known, fresh, tries),
            _singled_out("singling out, several columns", f"{min(COLUMNS, len(made.order))} facts that one synthetic "
                         "row fulfils are fulfilled by one real row",
                         _of_several_columns(made, rng, _DRAWS * tries), made, known, fresh, tries)]
    if len(made.order) > 1:
        here, there, elsewhere = points([made, known, fresh], [known, fresh])
        chosen = sample(count, tries, rng)
        targets, control = there.take(chosen), elsewhere.take(chosen)
        done.append(_linked(here, targets, control, made.order, rng))
        done += _inferred(here, (targets, control), made, (known.take(chosen), fresh.take(chosen)))
    return [attack for attack in done if attack is not None]


# --- singling out -----------------------------------------------------------------------------------------------------

def _singled_out(name: str, about: str, predicates: Iterator[Predicate], made: View, known: View, fresh: View,
                 tries: int) -> Attack | None:
    """Count predicates, each isolating one synthetic row, that isolate one training row, or one held-out row."""
    tried = success = control = 0
    for predicate in predicates:
        if np.count_nonzero(predicate(made)) != 1:
            continue
        tried += 1
        success += np.count_nonzero(predicate(known)) == 1
        control += np.count_nonzero(predicate(fresh)) == 1
        if tried == tries:
            break
    return _attack(name, about, success, control, tried) if tried else None


def _of_one_column(made: View, rng: np.random.Generator) -> Iterator[Predicate]:
    """Yield, in random order, predicates on one column: a value that occurs once, an extreme, the one missing."""
    found: list[Predicate] = []
    for name in made.order:
        gone = made.missing(name)
        if gone.sum() == 1:
            found.append(partial(_is_missing, name))
        if name in made.codes:
            once = np.flatnonzero(np.bincount(made.codes[name][~gone], minlength=len(made.levels[name])) == 1)
            found += [partial(_is_level, name, int(code)) for code in once]
        elif not gone.all():
            values, counts = np.unique(made.values[name][~gone], return_counts=True)
            found += [partial(_lies, name, float(value), float(value)) for value in values[counts == 1]]
            found += [partial(_lies, name, -np.inf, float(values[0])), partial(_lies, name, float(values[-1]), np.inf)]
    for place in rng.permutation(len(found)):
        yield found[place]


def _is_missing(name: str, view: View) -> Mask:
    return view.missing(name)


def _is_level(name: str, code: int, view: View) -> Mask:
    return np.asarray(view.codes[name] == code)


def _lies(name: str, low: float, high: float, view: View) -> Mask:
    return np.asarray((view.values[name] >= low) & (view.values[name] <= high))


def _of_several_columns(made: View, rng: np.random.Generator, draws: int) -> Iterator[Predicate]:
    """Yield conjunctions of facts about a random synthetic row: its category, its side of the median and beyond it."""
    middle = {name: float(np.nanmedian(values)) if not np.isnan(values).all() else 0.0
              for name, values in made.values.items()}
    for _ in range(draws):
        row = int(rng.integers(made.rows))
        names = [made.order[place] for place in rng.permutation(len(made.order))[:COLUMNS]]
        yield partial(_all_hold, [_fact(made, name, row, middle) for name in names])


def _all_hold(facts: Sequence[Predicate], view: View) -> Mask:
    return np.asarray(np.logical_and.reduce([fact(view) for fact in facts]))


def _fact(made: View, name: str, row: int, middle: dict[str, float]) -> Predicate:
    if made.missing(name)[row]:
        return partial(_is_missing, name)
    if name in made.codes:
        return partial(_is_level, name, int(made.codes[name][row]))
    value = float(made.values[name][row])
    return partial(_lies, name, value, np.inf) if value > middle[name] else partial(_lies, name, -np.inf, value)


# --- linkability and inference ----------------------------------------------------------------------------------------

def _linked(made: Points, targets: Points, control: Points, order: Sequence[str], rng: np.random.Generator) -> Attack:
    """Count rows whose two halves have a common synthetic row among the nearest of each half."""
    shuffled = [order[place] for place in rng.permutation(len(order))]
    halves = shuffled[:len(order) // 2], shuffled[len(order) // 2:]

    def hits(rows: Points) -> int:
        near = [neighbours(rows.only(half), made.only(half), NEIGHBOURS) for half in halves]
        return int((near[0][:, :, None] == near[1][:, None, :]).any(axis=(1, 2)).sum())

    return _attack("linkability", f"one of the {NEIGHBOURS} synthetic rows nearest to half of the columns is among "
                   "those nearest to the other half", hits(targets), hits(control), targets.rows)


def _inferred(made: Points, rows: tuple[Points, Points], source: View, truths: tuple[View, View]) -> list[Attack]:
    """Guess each column of a row from the synthetic row that is nearest in all others."""
    order = source.order
    nearest = [{name: np.empty(side.rows, np.int64) for name in order} for side in rows]
    for side, found in zip(rows, nearest, strict=True):
        for start in range(0, side.rows, _BLOCK):
            block = side.take(slice(start, start + _BLOCK))
            total = distances(block, made)
            for name in order:
                others = total - distances(block.only([name]), made.only([name]))
                found[name][start:start + block.rows] = others.argmin(axis=1)
    done = []
    for name in order:
        right = [_right(name, source.take(found[name]), truth, truths) for found, truth in
                 zip(nearest, truths, strict=True)]
        tries = min(len(side) for side in right)
        if tries:
            done.append(_attack(f"inference of {name}", "guessed from the synthetic row that is nearest in all other "
                                "columns", _scaled(right[0], tries), _scaled(right[1], tries), tries))
    return done


def _scaled(right: Mask, tries: int) -> float:
    """Return successes as if of `tries`: the two sides differ a little in how many rows have the value."""
    return float(right.mean()) * tries


def _right(name: str, guess: View, truth: View, real: tuple[View, View]) -> Mask:
    """Say of each row whose value is not missing if the guess is right: same category, or near in rank."""
    there = ~truth.missing(name)
    if name in truth.codes:
        return np.asarray(guess.codes[name][there] == truth.codes[name][there])
    known = np.sort(np.concatenate([view.values[name][~view.missing(name)] for view in real]))
    twice = 2 * max(1, len(known))
    ranks = [(np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")) / twice
             for values in (guess.values[name][there], truth.values[name][there])]
    return np.asarray((np.abs(ranks[0] - ranks[1]) <= NEAR) & ~guess.missing(name)[there])
