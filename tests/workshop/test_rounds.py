"""Blind rounds in the store: nobody sees whose answer it is, votes are ordinary choices, ties and changes of mind."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bottega.core.errors import InputError, NotFoundError
from bottega.workshop import audit, feedback, preferences, rounds, settings
from bottega.workshop.models import Served
from bottega.workshop.rounds import Round, Sheet, Vote
from bottega.workshop.store import Store
from tests.workshop.rated import record

COUNT = 12


def _served(name: str) -> Served:
    return Served(name, name, name[0] * 64, False, True, 0, 256, "sft", Path(name))


@pytest.fixture
def round_(store: Store, own_workshop: Path) -> Round:
    """A round of twelve questions; the challenger's answers begin with "Good"."""
    items: list[dict[str, Any]] = []
    for number in range(COUNT):
        asked = f"Question {number}?"
        record(store, f"bt-a{number}", asked, f"Plain {number}.", model="old")
        record(store, f"bt-b{number}", asked, f"Good {number}.", model="new")
        items.append({"question": str(number), "messages": [{"role": "user", "content": asked}],
                      "outputs": [f"bt-a{number}.0", f"bt-b{number}.0"]})
    return rounds.begin(own_workshop, store, (_served("old"), _served("new")), items, comparison="c", actor="ada")


def _vote(store: Store, round_: Round, rater: str, prefers: str, count: int = COUNT, **more: bool) -> None:
    for sheet in sorted(rounds.sheets(store, round_, rater), key=lambda each: each.number)[:count]:
        choice: Vote = "left" if sheet.left.startswith(prefers) else "right"
        rounds.vote(store, round_, sheet.number, choice, rater, **more)


def test_votes_count_for_whom_they_were_given(store: Store, own_workshop: Path, round_: Round) -> None:
    assert rounds.result(store, round_)["win_rate"] is None
    _vote(store, round_, "ada", "Good")
    _vote(store, round_, "bob", "Good", count=6, consent=False)
    found = rounds.result(store, round_)
    assert (found["questions"], found["voted"]) == (COUNT, COUNT)
    assert (found["win_rate"]["wins"], found["win_rate"]["prompts"]) == (18, COUNT)
    assert found["win_rate"]["better"] == "challenger"
    assert found["consent"] == {"given": 12, "withheld": 6}
    assert (found["agreement"]["raters"], found["agreement"]["equal"]) == (2, 1)
    _vote(store, round_, "bob", "Plain", count=6)
    changed = rounds.result(store, round_)
    assert (changed["win_rate"]["wins"], changed["win_rate"]["losses"]) == (12, 6), "the newest word counts"
    assert changed["agreement"]["equal"] == 0
    assert audit.events(store, action="round.open")[0].subject == round_.id
    assert rounds.load(own_workshop, round_.id) == round_
    assert [each.id for each in rounds.listed(own_workshop)] == [round_.id]


def test_they_are_ordinary_choices_and_teach_only_with_consent(store: Store, round_: Round) -> None:
    _vote(store, round_, "ada", "Good", count=8)
    _vote(store, round_, "bob", "Plain", count=3, consent=False)
    assert feedback.counts(store)["choice"] == 11
    collected = preferences.collect(store)
    assert len(collected.pairs) == 8
    assert {pair["chosen"].split()[0] for pair in collected.pairs} == {"Good"}
    assert collected.left_out == {"without consent": 3}


def test_a_tie_is_a_half_and_can_be_taken_back(store: Store, round_: Round) -> None:
    for number in range(COUNT):
        rounds.vote(store, round_, number, "tie", "ada")
    tied = rounds.result(store, round_)["win_rate"]
    assert (tied["ties"], tied["rate"]["value"], tied["better"]) == (COUNT, 0.5, "")
    _vote(store, round_, "ada", "Good", count=1)
    found = rounds.result(store, round_)["win_rate"]
    assert (found["ties"], found["wins"]) == (COUNT - 1, 1)
    rounds.vote(store, round_, 0, "tie", "ada")
    assert rounds.result(store, round_)["win_rate"]["ties"] == COUNT
    assert {sheet.voted for sheet in rounds.sheets(store, round_, "ada")} == {"tie"}
    assert feedback.counts(store)["up"] == 2 * COUNT, "as the studio's own comparison keeps a tie"


def test_both_bad_teaches_nobody_that_they_are_good(store: Store, round_: Round) -> None:
    for number in range(4):
        rounds.vote(store, round_, number, "bad", "ada")
    found = rounds.result(store, round_)["win_rate"]
    assert (found["ties"], found["rate"]["value"]) == (4, 0.5)
    assert {sheet.voted for sheet in rounds.sheets(store, round_, "ada") if sheet.number < 4} == {"bad"}
    assert {each.good for each in feedback.rated(store)} == {False}


def test_what_is_taken_back_teaches_nothing(store: Store, round_: Round) -> None:
    """The newest vote is the one that counts, for the training set too; thumbs given elsewhere stay."""
    feedback.add(store, feedback.Feedback(kind="thumb", output=round_.items[1]["outputs"][0], value=1), "ada")
    rounds.vote(store, round_, 0, "tie", "ada")
    rounds.vote(store, round_, 0, "bad", "bob")
    _vote(store, round_, "ada", "Good", count=2)
    assert feedback.counts(store) | {"down": 2, "up": 1, "choice": 2} == feedback.counts(store)
    rounds.vote(store, round_, 0, "bad", "ada")
    assert feedback.counts(store)["choice"] == 1
    assert [pair.chosen for pair in feedback.pairs(store)] == ["Good 1."]
    assert len(feedback.rated(store)) == 5


def test_of_two_votes_at_the_same_moment_one_stands(store: Store, round_: Round) -> None:
    """As from two tabs: neither takes the other back when that has taken its place already."""
    choices: tuple[Vote, ...] = ("left", "right", "bad")
    for number in range(COUNT):
        with ThreadPoolExecutor(len(choices)) as tabs:
            list(tabs.map(lambda choice, at=number: rounds.vote(store, round_, at, choice, "ada"), choices))
    assert rounds.result(store, round_)["voted"] == COUNT
    kinds = feedback.counts(store)
    assert 2 * kinds["choice"] + kinds["down"] == 2 * COUNT, "and nothing else beside it"


def test_sides_and_order_tell_nothing(store: Store, round_: Round) -> None:
    """Left is the challenger about as often as right, each rater sees another order, and the same one again."""
    raters = [f"rater-{number}" for number in range(20)]
    seen = {rater: rounds.sheets(store, round_, rater) for rater in raters}
    left = [sheet.left.startswith("Good") for sheets in seen.values() for sheet in sheets]
    assert 90 < sum(left) < 150, "of 240; a fair coin leaves this range once in ten thousand"
    assert len({tuple(sheet.number for sheet in sheets) for sheets in seen.values()}) > 15
    assert rounds.sheets(store, round_, raters[0]) == seen[raters[0]]
    assert set(Sheet.__dataclass_fields__) == {"number", "messages", "left", "right", "voted"}, "no id, no name"


def test_what_was_voted_is_shown_to_its_giver(store: Store, round_: Round) -> None:
    _vote(store, round_, "ada", "Good", count=5)
    for sheet in rounds.sheets(store, round_, "ada"):
        wanted = None if sheet.number >= 5 else "left" if sheet.left.startswith("Good") else "right"
        assert sheet.voted == wanted
    assert all(sheet.voted is None for sheet in rounds.sheets(store, round_, "bob"))


def test_refusals(store: Store, own_workshop: Path, round_: Round) -> None:
    with pytest.raises(NotFoundError, match="no round"):
        rounds.load(own_workshop, "../../etc/passwd")
    with pytest.raises(InputError, match="has no item 12"):
        rounds.vote(store, round_, COUNT, "left", "ada")
    models = (_served("old"), _served("new"))
    same = rounds.begin(own_workshop, store, models, round_.items, comparison="c", actor="bob")
    assert same.id == round_.id, "the same comparison goes on with its round"
    with pytest.raises(InputError, match="0 questions"):
        rounds.begin(own_workshop, store, models, [], comparison="d", actor="ada")
    settings.put(store, "retention_days", 0, "ada")
    with pytest.raises(InputError, match="keeps no content"):
        rounds.begin(own_workshop, store, models, round_.items, comparison="e", actor="ada")
