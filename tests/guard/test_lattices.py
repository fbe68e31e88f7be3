"""Actions and labels combine in any order and grouping to the same, and never to something laxer."""

from hypothesis import given
from hypothesis import strategies as st

from bottega.guard.labels import Label, Span, Trust, context_label
from bottega.guard.verdict import Action, Verdict, join

NAMES = st.frozensets(st.sampled_from("abcd"))
LABELS = st.builds(Label, st.sampled_from(Trust), st.one_of(st.none(), NAMES), NAMES)
VERDICTS = st.builds(lambda action: Verdict("a", "b", action, "input", "c"), st.sampled_from(Action))


@given(LABELS, LABELS, LABELS)
def test_labels_form_a_lattice(a: Label, b: Label, c: Label) -> None:
    assert a | b == b | a
    assert (a | b) | c == a | (b | c)
    assert a | a == a
    assert a | Label(Trust.SYSTEM) == a
    joined = a | b
    assert joined.trust <= min(a.trust, b.trust)
    for reader in "abcd":
        may = [label.readers is None or reader in label.readers for label in (a, b, joined)]
        assert may[2] == (may[0] and may[1])
    assert joined.origins == a.origins | b.origins


@given(st.lists(LABELS), LABELS)
def test_one_more_span_never_raises_trust(labels: list[Label], more: Label) -> None:
    context = tuple(Span("x", label, "user") for label in labels)
    before, after = context_label(context), context_label((*context, Span("y", more, "tool")))
    assert after == before | more
    assert after.trust <= before.trust


@given(st.lists(VERDICTS), st.lists(VERDICTS))
def test_actions_form_a_lattice(a: list[Verdict], b: list[Verdict]) -> None:
    assert join(a + b) == join(b + a) == max(join(a), join(b))
    assert join(a + a) == join(a)
    assert join([]) == Action.ALLOW
    assert join(a + b) >= join(a)


def test_a_verdict_travels_as_plain_data() -> None:
    verdict = Verdict("pii", "card", Action.REDACT, "output", "left out", "output 0, characters 1-2", "ab", 0.12345)
    assert verdict.plain() == {"check": "pii", "category": "card", "action": "redact", "stage": "output",
                               "reason": "left out",
                               "where": "output 0, characters 1-2", "digest": "ab", "milliseconds": 0.123}
