"""Win rates, paired changes and falls: intervals cover as often as they say, also when verdicts hang together."""

import numpy as np
import pytest

from bottega.evaluation.paired import by_prompt, compared, mcnemar, paired, win_rate
from bottega.evaluation.statistics import Figure, rate


def test_the_change_is_paired_and_a_prompt_counts_once() -> None:
    found = paired([[0.0, 5.0, 1.0, 1.0], [1.0, 6.0, 2.0, 2.0]], ["a", "b", "c", "c"])
    assert found["change"] == Figure(value=1, low=1, high=1, n=3), "models differ by 1 everywhere: nothing is by chance"
    assert found["champion"]["value"] == 2
    mixed = paired([[0.0] * 8, [1.0, -1.0] * 4], list("abcdefgh"))["change"]
    assert mixed["low"] < 0 < mixed["high"]


def test_a_prompt_judged_often_weighs_as_much_as_one_judged_once() -> None:
    assert by_prompt([1, 1, 1, 0], ["a", "a", "a", "b"]).tolist() == [1, 0]
    found = win_rate([1] * 30 + [0] * 9, ["loud"] * 30 + list("abcdefghi"))
    assert found["rate"]["value"] == pytest.approx(1 / 10)
    assert (found["wins"], found["ties"], found["losses"], found["prompts"]) == (30, 0, 9, 10)
    assert found["better"] == "champion"


def test_ties_are_halves_and_few_prompts_show_nothing() -> None:
    assert win_rate([0.5] * 40, range(40))["rate"] == rate(20, 40)
    assert win_rate([0.5] * 40, range(40))["better"] == ""
    assert win_rate([1] * 5, range(5))["better"] == "", "five heads in a row are no proof"
    assert win_rate([1] * 6, range(6))["better"] == "challenger"
    with pytest.raises(ValueError, match="no verdicts"):
        win_rate([], [])


@pytest.mark.parametrize("share", [0.5, 0.7, 0.95])
def test_the_interval_holds_the_truth_as_often_as_it_says(share: float) -> None:
    """40 prompts with 1 to 5 verdicts each that agree with one another three times in four."""
    rng = np.random.default_rng(1)
    inside, trials = 0, 400
    for _ in range(trials):
        owners, outcomes = [], []
        for prompt in range(40):
            first = rng.random() < share
            for _ in range(int(rng.integers(1, 6))):
                owners.append(prompt)
                outcomes.append(float(first if rng.random() < 0.75 else rng.random() < share))
        found = win_rate(outcomes, owners)["rate"]
        inside += found["low"] <= share <= found["high"]
    assert inside / trials >= 0.93


def test_mcnemar_is_the_exact_test() -> None:
    before, after = [True] * 10 + [False] * 10, [False] * 8 + [True] * 2 + [True] + [False] * 9
    assert mcnemar(before, after) == {"fixed": 1, "broken": 8, "p": pytest.approx(2 * (1 + 9) / 2**9)}
    assert mcnemar([True] * 5, [True] * 5)["p"] == 1


def test_a_fall_is_one_beyond_chance() -> None:
    right = [True] * 38 + [False] * 2
    fallen = compared(right, [True] * 28 + [False] * 12)
    assert fallen["fell"]
    assert (fallen["champion"], fallen["challenger"]) == (rate(38, 40), rate(28, 40))
    assert fallen["change"]["value"] == pytest.approx(-0.25)
    assert not compared(right, [True] * 35 + [False] * 5)["fell"], "three of forty may be chance"
    assert not compared([True] * 28 + [False] * 12, right)["fell"]
    assert compared([1.0] * 12, [1.5] * 12, lower_is_better=True)["fell"]
    assert not compared([1.0] * 12, [1.5] * 12)["fell"]
    assert compared([0.9] * 12, [0.5] * 12)["fell"]


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_a_few_cases_are_no_fall(count: int) -> None:
    """The bootstrap's interval of one case has no width, and of a few lies on one side of 0 by chance alone."""
    assert compared([1.0] * count, [1.5] * count, lower_is_better=True)["fell"] == (count == 6)
    assert compared([0.9] * count, [0.5] * count)["fell"] == (count == 6)
    one_owner = compared([1.0] * count, [1.5] * count, owners=["a"] * count, lower_is_better=True)
    assert not one_owner["fell"], "six pieces of one text are one case"


def test_equal_models_seldom_fall() -> None:
    """Of 300 pairs of equal models at most one in twenty is called worse; of models 20 points apart most are."""
    rng = np.random.default_rng(2)

    def falls(drop: float) -> float:
        return float(np.mean([compared([bool(one) for one in rng.random(100) < 0.7],
                                       [bool(one) for one in rng.random(100) < 0.7 - drop])["fell"]
                              for _ in range(300)]))

    assert falls(0) <= 0.05
    assert falls(0.25) >= 0.8
