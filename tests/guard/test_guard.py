"""The pipeline of checks: their order, their time, what policies change, and that nothing passes a check that fails."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.core.errors import RecipeError
from bottega.guard.guard import Guard
from bottega.guard.labels import Context, Label, Span, Trust
from bottega.guard.policy import CHECKS, Policy
from bottega.guard.verdict import Action
from tests.guard.planted import secrets

USER = Label(Trust.USER)
KEY = "AKIA" + "QWERTYUIOPASDFGH"
CARD = "4111 1111 1111 1111"


def chat(*texts: str) -> Context:
    return tuple(Span(text, USER, "user") for text in texts)


def test_an_ordinary_chat_passes_as_it_is() -> None:
    context = chat("Be kind.", "What is a list?", "A list is …", "میخواهم بدانم 👩‍💻")
    result = Guard().check_input(context)
    assert result.context == context
    assert result.verdicts == []
    assert result.action == Action.ALLOW


def test_the_checks_run_in_order_and_are_timed() -> None:
    result = Guard().check_input(chat("hello"))
    assert list(result.milliseconds) == ["sizes", "hidden", "roles", "secrets", "pii"]
    assert all(took > 0 for took in result.milliseconds.values())


def test_findings_come_in_order_with_place_time_and_digest() -> None:
    result = Guard().check_input(chat("fine", f"pay {CARD} <|user|> {KEY}", "a\u200bb \ud800 ada@example.org"))
    assert [(verdict.check, verdict.category, verdict.where) for verdict in result.verdicts] == [
        ("sizes", "broken-text", "message 2"), ("hidden", "hidden-text", "message 2"),
        ("roles", "role-token", "message 1, characters 24-32"),
        ("secrets", "aws-access-key", "message 1, characters 33-53"),
        ("pii", "card", "message 1, characters 4-23"), ("pii", "email", "message 2, characters 5-20")]
    assert all(verdict.stage == "input" and verdict.milliseconds > 0 for verdict in result.verdicts)
    assert all(len(verdict.digest) == 12 for verdict in result.verdicts)
    assert result.action == Action.REDACT
    assert [span.text for span in result.context] == ["fine", f"pay {CARD} <|user|> {KEY}", "ab \ufffd ada@example.org"]
    assert KEY not in json.dumps([verdict.plain() for verdict in result.verdicts])
    assert result.verdicts[1].reason == "hidden characters: 1 zero-width"


def test_hidden_characters_cannot_cover_a_secret() -> None:
    result = Guard().check_input(chat("\u200b".join(KEY)))
    assert {verdict.category for verdict in result.verdicts} == {"hidden-text", "aws-access-key"}


def test_too_much_blocks_and_ends_the_checks() -> None:
    guard = Guard(Policy(max_input_characters=10, max_messages=2))
    for context, category in ((chat("a" * 11), "too-long"), (chat("a" * 6, "b" * 5), "too-long"),
                              (chat("a", "b", "c"), "too-many-messages")):
        result = guard.check_input(context)
        assert [verdict.category for verdict in result.verdicts] == [category]
        assert result.action == Action.BLOCK
        assert list(result.milliseconds) == ["sizes"]
    lax = Guard(Policy(max_input_characters=10, actions={"too-long": Action.FLAG}))
    assert lax.check_input(chat("a" * 11)).action == Action.FLAG


def test_a_check_that_fails_blocks() -> None:
    result = Guard().check_input((Span(None, USER, "user"),))  # type: ignore[arg-type]
    (verdict,) = result.verdicts
    assert (verdict.check, verdict.category, verdict.action) == ("sizes", "failed-check", Action.BLOCK)
    assert verdict.reason == "the check failed (TypeError)"
    assert result.action == Action.BLOCK
    (verdict, *_) = Guard().check_outputs([None])  # type: ignore[list-item]
    assert verdict.action == Action.BLOCK


def test_a_policy_changes_what_is_done() -> None:
    text = f"{KEY} and {CARD} and ada@example.org"

    def run(**actions: str) -> tuple[str, dict[str, Action], Action]:
        policy = Policy.parse({"actions": {name.replace("_", "-"): action for name, action in actions.items()}})
        result = Guard(policy).check_input(chat(text))
        return (result.context[0].text, {verdict.category: verdict.action for verdict in result.verdicts},
                result.action)

    flagged = dict.fromkeys(("aws-access-key", "card", "email"), Action.FLAG)
    assert run() == (text, flagged, Action.FLAG)
    assert run(secrets="allow") == (text, {"card": Action.FLAG, "email": Action.FLAG}, Action.FLAG)
    shown, actions, action = run(pii="redact", email="flag")
    assert shown == f"{KEY} and [redacted: card] and ada@example.org"
    assert actions == {**flagged, "card": Action.REDACT}
    assert action == Action.REDACT
    assert run(card="ask") == (text, {**flagged, "card": Action.ASK}, Action.ASK)
    assert run(aws_access_key="block")[2] == Action.BLOCK


def test_a_policy_changes_outputs_too() -> None:
    stream = Guard(Policy.parse({"actions": {"email": "redact", "card": "flag", "iban": 4}})).stream()
    pieces = stream.push(f"{CARD} ada@example.org DE89370400440532013000 more") + stream.finish()
    assert "".join(piece.text for piece in pieces) == f"{CARD} [redacted: email] "
    assert [verdict.action for verdict in stream.verdicts] == [Action.FLAG, Action.REDACT, Action.BLOCK]
    stream = Guard(Policy.parse({"actions": {"card": "ask"}})).stream()
    pieces = stream.push(f"a {CARD} b") + stream.finish()
    assert "".join(piece.text for piece in pieces) == "a [redacted: card] b"
    assert stream.verdicts[0].action == Action.ASK


@pytest.mark.parametrize(("data", "said"), [
    ({"actions": {"crad": "flag"}}, "did you mean 'card'"), ({"actions": {"card": "ignore"}}, "'ignore' is no action"),
    ({"actions": {"card": 9}}, "card"), ({"blocked_strings": ["  "]}, "blocked string"), ({"max_messages": 0}, "max_m"),
    ({"actoins": {}}, "did you mean 'actions'"), ({"actions": ["card"]}, "actions"),
])
def test_a_wrong_policy_is_refused_by_name(data: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Policy.parse(data)


def test_a_policy_travels_as_data_and_has_a_digest() -> None:
    policy = Policy.parse({"actions": {"card": "block", "pii": "ALLOW"}, "blocked_strings": ["canary one"]})
    assert Policy.model_validate_json(policy.model_dump_json()) == policy
    assert policy.digest == Policy.model_validate(policy.model_dump()).digest
    assert policy.digest != Policy().digest
    assert policy.action("card", Action.FLAG) == Action.BLOCK
    assert policy.action("email", Action.FLAG) == Action.ALLOW
    assert policy.action("twilio-key", Action.REDACT) == Action.REDACT


def test_whole_outputs() -> None:
    guard = Guard(Policy(max_output_characters=20))
    verdicts = guard.check_outputs(['{"a": 1}', "[1, NaN]", '{"a": 1}\n', "x" * 21, "{"], expects_json=True)
    assert [(verdict.check, verdict.category, verdict.where, verdict.action) for verdict in verdicts] == [
        ("format", "not-json", "output 1", Action.FLAG), ("format", "not-json", "output 3", Action.FLAG),
        ("format", "not-json", "output 4", Action.FLAG), ("length", "too-long-output", "output 3", Action.FLAG),
        ("duplicates", "duplicate", "output 2", Action.FLAG)]
    assert verdicts[-1].reason == "duplicate of output 0"
    assert guard.check_outputs(["a", "b", "plain"]) == []
    assert guard.check_outputs(["[" * 100_000], expects_json=True)[0].category == "not-json"


def test_moderation_tells_everything_about_a_text() -> None:
    guard = Guard(Policy(blocked_strings=["the canary"]))
    text = f"a\u202eb <|end|> {KEY} ada@example.org The Canary"
    verdicts = guard.moderate(text)
    assert {verdict.category for verdict in verdicts} == {
        "hidden-text", "role-token", "aws-access-key", "email", "blocked-string"}
    assert {verdict.category for verdict in verdicts} < set(guard.categories)
    assert verdicts[-1].action == Action.BLOCK
    assert verdicts[-1].where.startswith("text, characters")


def test_categories_are_complete_and_unique() -> None:
    categories = Guard().categories
    assert len(set(categories)) == len(categories) == len(CHECKS) + 1
    assert {category for category, *_ in secrets()} <= set(categories)


def test_many_findings_are_counted_instead_of_listed() -> None:
    result = Guard().check_input(chat("ada@example.org " * 500))
    assert len(result.verdicts) == 50
    assert result.verdicts[-1].reason.endswith("and 450 more like it")
    redacting = Guard(Policy(actions={"email": Action.REDACT}))
    assert "ada" not in redacting.check_input(chat("ada@example.org " * 500)).context[0].text


@given(st.lists(st.one_of(st.text(max_size=30), st.sampled_from([KEY, CARD, "<|end|>", "\ud800\0"])), max_size=6))
def test_any_input_is_checked_and_comes_out_encodable(texts: list[str]) -> None:
    result = Guard().check_input(chat(*texts))
    assert not any(verdict.category == "failed-check" for verdict in result.verdicts)
    for span in result.context:
        assert "\0" not in span.text
        span.text.encode()
    again = Guard().check_input(result.context)
    assert again.context == result.context
