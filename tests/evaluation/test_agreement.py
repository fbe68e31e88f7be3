"""Agreement against published examples, scikit-learn, and slow definitions."""

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bottega.evaluation.agreement import (
    agreement,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    leaning,
    with_interval,
)

LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40)
# Krippendorff 2011, example C: four observers, twelve units, missing data. Published: nominal .743, ordinal .815,
# interval .849.
OBSERVERS = [[1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
             [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None]]
# Fleiss 1971, table 1 as in Wikipedia's worked example: ten subjects, fourteen raters, five categories; kappa 0.210.
FLEISS = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1], [7, 7, 0, 0, 0],
          [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]


@given(LABELS, st.sampled_from([None, "linear", "quadratic"]))
def test_cohen_equals_scikit_learn(pairs: list[tuple[int, int]], weights: Any) -> None:
    from sklearn.metrics import cohen_kappa_score

    one, other = zip(*pairs, strict=True)
    labels = sorted({*one, *other})
    assume(len(labels) > 1)
    found = cohen_kappa(one, other, weights)
    assert found == pytest.approx(cohen_kappa_score(one, other, labels=labels, weights=weights), abs=1e-12, nan_ok=True)


def test_cohen_by_hand() -> None:
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed 0.7, chance 0.5, kappa 0.4."""
    one = ["y"] * 25 + ["n"] * 25
    other = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(one, other) == pytest.approx(0.4)
    assert cohen_kappa([*one, None, "y"], [*other, "y", None]) == pytest.approx(0.4)  # only one of them rated these
    assert math.isnan(cohen_kappa(["y"] * 3, ["y"] * 3))
    with pytest.raises(ValueError, match="both rated"):
        cohen_kappa([None], [1])


def test_fleiss_published() -> None:
    rows = [[label for label, count in enumerate(row) for _ in range(count)] for row in FLEISS]
    assert fleiss_kappa(rows) == pytest.approx(0.2099, abs=5e-5)
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa([[1, 2], [1, None]])


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorff_published(level: Any, published: float) -> None:
    items = list(zip(*OBSERVERS, strict=True))
    assert krippendorff_alpha(items, level) == pytest.approx(published, abs=5e-4)
    shuffled = [random.Random(number).sample(row, len(row)) for number, row in enumerate(items)]
    assert krippendorff_alpha(shuffled, level) == pytest.approx(krippendorff_alpha(items, level))  # who is all the same


def slow_alpha(items: list[list[int]]) -> float:
    """Nominal alpha by its definition, pair by pair."""
    rows = [[value for value in row if value is not None] for row in items]
    rows = [row for row in rows if len(row) > 1]
    pool = list(itertools.chain.from_iterable(rows))
    observed = sum(sum(a != b for a, b in itertools.permutations(row, 2)) / (len(row) - 1) for row in rows) / len(pool)
    expected = sum(a != b for a, b in itertools.permutations(pool, 2)) / (len(pool) * (len(pool) - 1))
    return 1 - observed / expected if expected else math.nan


@given(st.lists(st.lists(st.one_of(st.none(), st.integers(0, 2)), min_size=2, max_size=4), min_size=1, max_size=10))
def test_krippendorff_by_definition(items: list[list[Any]]) -> None:
    assume(any(sum(value is not None for value in row) > 1 for row in items))
    assert krippendorff_alpha(items) == pytest.approx(slow_alpha(items), nan_ok=True)


def test_edges_of_alpha() -> None:
    assert krippendorff_alpha([["a", "a"], ["b", "b"]]) == 1.0
    assert math.isnan(krippendorff_alpha([[1, 1], [1, 1]]))
    with pytest.raises(ValueError, match="two ratings"):
        krippendorff_alpha([[1, None], [None, 2]])


def test_an_interval_covers_the_truth() -> None:
    """Two raters who agree by a known chance: the interval holds the long-run kappa about 19 times of 20."""
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(20):
        truth = rng.integers(0, 2, 150)
        one, other = (np.where(rng.random(150) < 0.9, truth, 1 - truth).tolist() for _ in range(2))
        figure = with_interval(lambda items: cohen_kappa(*zip(*items, strict=True)),
                               list(zip(one, other, strict=True)), draws=200, seed=trial)
        held += figure["low"] <= 0.64 <= figure["high"]  # 0.9² + 0.1² = 0.82 observed, 0.5 by chance
    assert held >= 17


def test_leanings_are_found() -> None:
    long, short = "a long answer", "short"
    lean = leaning([(long, short, 0), (short, long, 1), (long, short, 1), (short, short, 0)])
    assert (lean["longer"] or {})["value"] == pytest.approx(2 / 3)
    assert ((lean["longer"] or {})["n"], (lean["first"] or {})["n"]) == (3, 4)
    assert (lean["first"] or {})["value"] == 0.5
    assert leaning([]) == {"longer": None, "first": None}
    assert leaning([(short, short, 0)])["longer"] is None


# Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section C: four observers, twelve units.
SAID = ("1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 .")


def test_what_raters_said_of_what_they_liked() -> None:
    said = [(unit, rater, value) for rater, line in enumerate(SAID) for unit, value in enumerate(line.split())
            if value != "."]
    found = agreement(said)
    assert found["alpha"] == pytest.approx(0.743, abs=5e-4)
    assert (found["raters"], found["shared"]) == (4, 11)


def test_agreement_disagreement_and_chance() -> None:
    same = [(item, rater, item % 2) for item in range(10) for rater in "ab"]
    assert (agreement(same)["equal"], agreement(same)["alpha"]) == (1, 1)
    against = [(item, rater, (item + (rater == "b")) % 2) for item in range(10) for rater in "ab"]
    assert agreement(against)["equal"] == 0
    assert agreement(against)["alpha"] < -0.8
    rng = np.random.default_rng(0)
    random = [(item, rater, int(rng.integers(2))) for item in range(500) for rater in "ab"]
    assert abs(agreement(random)["alpha"]) < 0.1


def test_without_shared_items_nothing_is_said() -> None:
    assert agreement([(1, "a", 1.0), (2, "b", 0.0)]) == {"raters": 2, "shared": 0, "equal": None, "alpha": None}
    assert agreement([(1, "a", 1.0), (1, "b", 1.0)])["alpha"] is None, "everybody always says the same word"
