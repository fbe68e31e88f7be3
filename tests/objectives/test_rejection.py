"""Rejection sampling: of a prompt's answers the best one stays, or none."""

import pytest

from bottega.objectives.rejection import Kept, keep_best
from bottega.objectives.rewards import Rewards
from tests.objectives.test_rewards import sample

RIGHT, WRONG, EMPTY = sample("#### 12"), sample("#### 13"), sample(" ")


def test_the_best_answer_stays_and_the_rest_is_counted() -> None:
    kept, other = Kept(), sample("So #### 12", tokens=9)
    groups = [[WRONG, EMPTY, RIGHT, other], [WRONG, WRONG], [EMPTY], [other, RIGHT]]
    keep_best(groups[:2], Rewards({"answer": 1.0}), 0.5, kept)
    keep_best(groups[2:], Rewards({"answer": 1.0}), 0.5, kept)
    assert [answer for answer, _ in kept.answers] == [RIGHT, other]  # of equals the first
    assert (kept.empty, kept.below) == (1, 1)
    assert kept.drawn == [[0.0, 1.0, 1.0], [0.0, 0.0], [], [1.0, 1.0]]
    assert kept.figures() == {"reward_drawn": pytest.approx(4 / 7), "reward_kept": 1.0}


def test_without_a_threshold_the_best_of_the_bad_stays_and_without_a_reward_the_first() -> None:
    kept = Kept()
    keep_best([[WRONG, WRONG], [EMPTY, EMPTY]], Rewards({"answer": 1.0}), None, kept)
    assert kept.answers == [(WRONG, 0.0)]
    plain = Kept()
    keep_best([[WRONG], [RIGHT]], None, None, plain)
    assert [answer for answer, _ in plain.answers] == [WRONG, RIGHT]
    assert Kept().figures() == {}
