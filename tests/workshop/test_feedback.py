"""What people say is kept, checked, and becomes preference pairs."""

import dataclasses
from typing import Any

import pytest

from bottega.core.errors import BottegaError, InputError, NotFoundError
from bottega.core.validate import validate
from bottega.workshop import audit, feedback, preferences, settings, works
from bottega.workshop.feedback import Feedback
from bottega.workshop.store import Store
from bottega.workshop.works import Work, WorkOutput
from tests.workshop.conftest import make_work, sql

THUMB = {"kind": "thumb", "output": "bt-one.0", "value": 1}
CHOICE = {"kind": "choice", "output": "bt-one.1", "rejected": "bt-one.0"}
EDIT = {"kind": "edit", "output": "bt-one.0", "text": "A workshop."}
COMMENT = {"kind": "comment", "output": "bt-one.0", "text": "Too short."}
SCORE = {"kind": "score", "output": "bt-one.0", "score": 4.0, "scale": [1.0, 5.0]}
CRITIQUE = {**COMMENT, "span": [0, 6], "aspect": "tone"}


def say(store: Store, rater: str = "ada", **fields: Any) -> str:
    return feedback.add(store, Feedback(**fields), rater)


@pytest.mark.parametrize("fields", [THUMB, CHOICE, EDIT, COMMENT, CRITIQUE, SCORE, {**SCORE, "aspect": "tone"}])
def test_feedback_comes_back(store: Store, work: Work, fields: dict[str, Any]) -> None:
    id = say(store, **fields, reasons=["wrong fact"], consent=False)
    entry, = feedback.listed(store)
    unsaid = dict.fromkeys(("rejected", "value", "score", "scale", "text", "span", "aspect"))
    expected = {**unsaid, **fields, "id": id, "rater": "ada", "alias": "assistant",
                "model": "python-assistant", "model_digest": "d" * 64, "reasons": ["wrong fact"], "consent": False,
                "replaced_by": None}
    assert {key: value for key, value in entry.items() if key != "created"} == expected
    assert entry["created"].endswith("+00:00")
    event, = audit.events(store, action="feedback")
    assert (event.actor, event.subject, event.detail["kind"]) == ("ada", id, fields["kind"])
    assert (fields.get("text") or "nothing") not in str(event)


@pytest.mark.parametrize(("fields", "problem"), [
    ({**THUMB, "value": None}, "'thumb' needs 'value'"),
    ({**THUMB, "value": 0}, "a thumb of 0"),
    ({**THUMB, "value": 10**30}, "a thumb of 1000"),
    ({**THUMB, "text": "x"}, "'thumb' has no 'text'"),
    ({**THUMB, "rejected": "bt-one.1"}, "'thumb' has no 'rejected'"),
    ({**THUMB, "output": "bt-two.0"}, "there is no output 'bt-two.0'"),
    ({**CHOICE, "rejected": None}, "'choice' needs 'rejected'"),
    ({**CHOICE, "rejected": "bt-two.0"}, "there is no output 'bt-two.0'"),
    ({**CHOICE, "rejected": "bt-one.1"}, "names output bt-one.1 twice"),
    ({**CHOICE, "rejected": "bt-other.0"}, "answer different prompts"),
    ({**EDIT, "text": None}, "'edit' needs 'text'"),
    ({**EDIT, "text": " \n"}, "the text of this edit has 2 characters"),
    ({**EDIT, "text": "x" * 200_001}, "200001 characters"),
    ({**COMMENT, "text": "x" * 10_001}, "10001 characters"),
    ({**COMMENT, "value": 1}, "'comment' has no 'value'"),
    ({**COMMENT, "span": [3, 3]}, "the span from 3 to 3"),
    ({**COMMENT, "span": [0, 10]}, "within the 9 characters"),
    ({**COMMENT, "aspect": " "}, "the aspect is empty"),
    ({**EDIT, "aspect": "tone"}, "'edit' has no 'aspect'"),
    ({**THUMB, "scale": [0, 1]}, "'thumb' has no 'scale'"),
    ({**SCORE, "scale": None}, "'score' needs 'scale'"),
    ({**SCORE, "score": None}, "'score' needs 'score'"),
    ({**SCORE, "score": 6}, "a score of 6 on the scale from 1 to 5"),
    ({**SCORE, "scale": [5, 1]}, "from 5 to 1 is not allowed"),
    ({**THUMB, "reasons": ["x"] * 21}, "the reasons are too many"),
    ({**THUMB, "reasons": ["x" * 201]}, "the reasons are too many or too long"),
])
def test_what_does_not_fit_is_refused(store: Store, work: Work, fields: dict[str, Any], problem: str) -> None:
    works.record(store, make_work("bt-other", prompt="Something else?"))
    with pytest.raises(InputError, match=problem):
        say(store, **fields)
    assert feedback.listed(store) == []


def test_an_unknown_field_or_kind_is_refused() -> None:
    for data in ({**THUMB, "stars": 5}, {**THUMB, "kind": "star"}, {"kind": "thumb"}):
        with pytest.raises(BottegaError):
            validate(Feedback, data, where="feedback", error=InputError)


def test_a_choice_between_two_requests_with_the_same_prompt(store: Store, work: Work) -> None:
    works.record(store, make_work("bt-two", model="challenger", model_digest="e" * 64))
    say(store, kind="choice", output="bt-two.0", rejected="bt-one.0")  # the same words: nothing to learn
    say(store, kind="choice", output="bt-two.0", rejected="bt-one.1")
    pair, = feedback.pairs(store)
    assert (pair.chosen, pair.rejected, pair.model_digest) == ("Answer 0.", "Answer 1.", "e" * 64)
    assert feedback.pairs(store, ["challenger"]) == [pair]
    assert feedback.pairs(store, ["python-assistant"]) == []


def test_pairs_from_choices_and_edits(store: Store, work: Work) -> None:
    say(store, **THUMB)
    say(store, **COMMENT)
    choice = say(store, **CHOICE)
    edit = say(store, "bob", **EDIT, consent=False)
    say(store, "eve", kind="edit", output="bt-one.1", text="Answer 1.")  # changes nothing: teaches nothing
    first, second = feedback.pairs(store)
    assert first.messages == second.messages == [{"role": "user", "content": "What is a bottega?"}]
    assert (first.chosen, first.rejected, first.source) == ("Answer 1.", "Answer 0.", "choice")
    assert (second.chosen, second.rejected, second.source) == ("A workshop.", "Answer 0.", "edit")
    assert [first.feedback_id, second.feedback_id] == [choice, edit]
    assert (first.rater, first.consent, second.rater, second.consent) == ("ada", True, "bob", False)
    assert first.created < second.created
    assert first.model_digest == "d" * 64
    assert feedback.pairs(store, ["python-assistant"]) == [first, second]
    assert feedback.pairs(store, ["another"]) == feedback.pairs(store, []) == []


def test_a_prompt_is_one_user_turn_and_a_gap_teaches_nothing(store: Store) -> None:
    works.record(store, make_work("bt-prompt", request={"prompt": "Once", "messages": None, "suffix": None}))
    works.record(store, make_work("bt-gap", request={"prompt": "Once", "messages": None, "suffix": "end"}))
    for work in ("bt-prompt", "bt-gap"):
        say(store, kind="choice", output=f"{work}.0", rejected=f"{work}.1")
    pair, = feedback.pairs(store)
    assert pair.messages == [{"role": "user", "content": "Once"}]


def test_pictures_are_rated_and_teach_no_texts(store: Store, work: Work) -> None:
    files = [WorkOutput(f"bt-drawn.{n}", n, "", "end", 0.0, [], media_type="image/png", file=b"png") for n in range(2)]
    works.record(store, dataclasses.replace(make_work("bt-drawn", request={"prompt": "a red star"}), outputs=files))
    say(store, kind="thumb", output="bt-drawn.0", value=1)
    say(store, kind="choice", output="bt-drawn.0", rejected="bt-drawn.1")
    say(store, kind="comment", output="bt-drawn.1", text="too dark")
    assert feedback.counts(store) == {"up": 1, "down": 0, "score": 0, "choice": 1, "edit": 0, "comment": 1}
    with pytest.raises(InputError, match="no text, so its words cannot be corrected"):
        say(store, kind="edit", output="bt-drawn.0", text="a red star")
    with pytest.raises(InputError, match="not of one kind"):
        say(store, kind="choice", output="bt-drawn.0", rejected="bt-one.0")
    sql(store, "UPDATE feedback SET kind = 'edit', text = 'a star' WHERE kind = 'comment'")  # as a store may still hold
    assert feedback.pairs(store) == []
    found = preferences.collect(store)
    assert (found.pairs, found.left_out) == ([], {})


def test_the_newest_word_of_a_rater_counts(store: Store, work: Work) -> None:
    up = say(store, **THUMB)
    down = say(store, **{**THUMB, "value": -1})
    say(store, "bob", **THUMB)
    say(store, **CHOICE)
    say(store, kind="choice", output="bt-one.0", rejected="bt-one.1")  # changed her mind
    say(store, **EDIT)
    say(store, **{**EDIT, "text": "Better."})
    say(store, **COMMENT)
    say(store, **COMMENT)
    assert feedback.counts(store) == {"up": 1, "down": 1, "score": 0, "choice": 1, "edit": 1, "comment": 2}
    assert {(pair.chosen, pair.rejected) for pair in feedback.pairs(store)} == {
        ("Answer 0.", "Answer 1."), ("Better.", "Answer 0.")}
    replaced = {entry["id"]: entry["replaced_by"] for entry in feedback.listed(store)}
    assert replaced[up] == down
    assert len(replaced) == 9


def test_lists_and_counts_by_alias_kind_and_output(store: Store, work: Work) -> None:
    works.record(store, make_work("bt-two", alias="helper"))
    ids = [say(store, **THUMB), say(store, **COMMENT), say(store, kind="thumb", output="bt-two.0", value=-1)]
    assert [entry["id"] for entry in feedback.listed(store)] == ids[::-1]
    assert [entry["id"] for entry in feedback.listed(store, limit=1)] == ids[2:]
    assert [entry["id"] for entry in feedback.listed(store, alias="helper")] == ids[2:]
    assert [entry["id"] for entry in feedback.listed(store, kind="comment")] == [ids[1]]
    assert [entry["id"] for entry in feedback.listed(store, output="bt-one.0")] == [ids[1], ids[0]]
    assert feedback.counts(store, "helper") == {"up": 0, "down": 1, "score": 0, "choice": 0, "edit": 0, "comment": 0}
    assert feedback.counts(store, "nobody")["down"] == 0


def test_a_workshop_that_keeps_no_content_keeps_no_words(store: Store) -> None:
    settings.put(store, "retention_days", 0, "ada")
    works.record(store, make_work())
    works.record(store, make_work("bt-two"))
    for fields in (EDIT, COMMENT, {**SCORE, "aspect": "tone"}):
        with pytest.raises(InputError, match="keeps no content"):
            say(store, **fields)
    with pytest.raises(InputError, match="no longer kept"):
        say(store, kind="choice", output="bt-one.0", rejected="bt-two.0")
    say(store, **{**THUMB, "reasons": ["my own words"]})
    say(store, **CHOICE)
    assert feedback.counts(store)["choice"] == 1
    assert feedback.pairs(store) == []
    assert [entry["reasons"] for entry in feedback.listed(store)] == [[], []]


def test_any_text_survives(store: Store, work: Work) -> None:
    text = "null \0, half \ud800, mark \x01json:, 🎨 " + "é" * 100_000
    say(store, **{**EDIT, "text": text}, reasons=["\0\udfff"])
    assert feedback.pairs(store)[0].chosen == text
    assert feedback.listed(store)[0]["reasons"] == ["\0\udfff"]
    with pytest.raises(NotFoundError):
        say(store, **{**THUMB, "output": "\0\ud800"})


def test_a_score_replaces_the_one_of_the_same_aspect(store: Store, work: Work) -> None:
    ids = [say(store, **{**SCORE, "score": score, "aspect": aspect})
           for score, aspect in ((1, None), (2, "tone"), (3, None), (4, "tone"))]
    say(store, "bob", **SCORE)
    stand = {row["id"] for row in feedback.listed(store) if row["replaced_by"] is None}
    assert not stand & set(ids[:2])
    assert set(ids[2:]) < stand
    assert feedback.counts(store) == {"up": 0, "down": 0, "score": 3, "choice": 0, "edit": 0, "comment": 0}


def test_feedback_from_before_scores_is_kept(open_store: Any, own_workshop: Any, address: str | None,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that an older Bottega wrote is brought up to date with its feedback."""
    from bottega.workshop import store as module

    monkeypatch.setattr(module, "HEAD", "0002")
    old = Store.open(own_workshop, address)
    columns = ("id, created, door, principal, alias, model, model_digest, request, kept, status, error, prompt_tokens, "
               "new_tokens, seed, seconds, first_token_seconds, lineage, verdicts")
    sql(old, f"INSERT INTO works ({columns}) VALUES ('w', '2025-01-01 00:00:00', 'api', 'ada', 'a', 'm', 'd', '{{}}', "
             "true, 'done', '', 1, 1, 0, 0.1, NULL, '{}', '[]')")
    sql(old, "INSERT INTO outputs (id, work, place, text, finish, score, tokens, media_type) "
             "VALUES ('w.0', 'w', 0, 'An answer.', 'stop', -0.5, '[]', 'text/plain')")
    sql(old, "INSERT INTO feedback (id, created, rater, kind, output, value, reasons, consent) "
             "VALUES ('fb-old', '2025-01-02 00:00:00', 'ada', 'thumb', 'w.0', 1, '[]', true)")
    with pytest.raises(BottegaError):
        sql(old, "SELECT aspect FROM feedback")
    old.close()
    monkeypatch.undo()
    entry, = feedback.listed(open_store())
    assert (entry["id"], entry["value"]) == ("fb-old", 1)
    assert entry["score"] is entry["scale"] is entry["span"] is entry["aspect"] is None
