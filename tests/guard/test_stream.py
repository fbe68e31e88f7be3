"""However a text is cut, the same is sent, the same is said, and nothing filtered ever gets out."""

import base64
import random
from dataclasses import replace
from itertools import pairwise
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from bottega.guard.detectors import LEFT
from bottega.guard.guard import Guard
from bottega.guard.pii import PII
from bottega.guard.policy import Policy
from bottega.guard.secrets import SECRETS
from bottega.guard.stream import Piece, StreamGuard
from bottega.guard.verdict import Action, Verdict
from tests.guard.planted import iban, luhn_number, secrets

BLOCKED = ["canary-7f3a-Élan", "Nightingale"]
GUARD = Guard(Policy(blocked_strings=BLOCKED))
# a policy under which what is only told by default must not get out either, and nothing else ends the text
STRICT = Guard(Policy(actions={"pii": Action.REDACT, "slack-token": Action.FLAG, "npm-token": Action.ASK}))
RNG = random.Random(11)
PLANTED = [text for seed in range(4) for _, found, near in secrets(seed) for text in (found, near)]
NUMBERS = [luhn_number(RNG, "4", 16), "5555 5555 5555 4444", iban(RNG), "GB82 WEST 1234 5698 7654 32",
           "219-09-9998", "ada@example.org", "+39 347 123 4567", "8.8.8.8", "2001:4860:4860::8888",
           "RSSMRA85T10A562S"]
PROSE = ["The quick brown fox ", "jumps over. ", "\n\n", "sk-", "eyJ", "-----BEGIN ", "-----END RSA PRIVATE KEY-----",
         "é", "🙂", "\u200d", "中文", "1", "12 34", "://", "a@", "@b.c", "AKIA", "\ud800", "Night", "canary-7f", " ",
         "_", "."]
FRAGMENTS = st.one_of(
    st.sampled_from(PLANTED), st.sampled_from(NUMBERS), st.sampled_from([*BLOCKED, "NIGHTINGALE", BLOCKED[0][::-1]]),
    st.sampled_from(PROSE), st.text(max_size=6),
    st.builds(lambda text, share: text[:int(len(text) * share)], st.sampled_from(PLANTED + NUMBERS),
              st.floats(0, 1)))
TEXTS = st.builds("".join, st.lists(FRAGMENTS, max_size=8))


def run(guard: Guard, text: str, cuts: list[int]) -> tuple[list[Piece], StreamGuard]:
    stream = guard.stream()
    pieces = [piece for start, end in pairwise([0, *cuts, len(text)]) for piece in stream.push(text[start:end])]
    return pieces + stream.finish(), stream


def timeless(verdicts: list[Verdict]) -> list[Verdict]:
    return [replace(verdict, milliseconds=0.0) for verdict in verdicts]


def told(pieces: list[Piece]) -> list[tuple[int, int, str, Verdict]]:
    return [(piece.start, piece.end, piece.text, replace(piece.verdict, milliseconds=0.0))
            for piece in pieces if piece.verdict]


def check(guard: Guard, text: str, cuts: list[int]) -> None:
    """Compare a way to cut a text with the text in one piece."""
    whole_pieces, whole = run(guard, text, [])
    pieces, stream = run(guard, text, cuts)
    assert "".join(piece.text for piece in pieces) == "".join(piece.text for piece in whole_pieces)
    assert timeless(stream.verdicts) == timeless(whole.verdicts)
    assert told(pieces) == told(whole_pieces)
    assert stream.blocked == whole.blocked
    position = 0
    for piece in pieces:
        assert piece.start == position
        assert piece.end >= piece.start
        assert piece.verdict or piece.text == text[piece.start:piece.end]
        position = piece.end
    assert stream.blocked or position == len(text)
    filtered = [(piece.start, piece.end) for piece in whole_pieces if piece.verdict]
    sent = [piece for piece in pieces if not piece.verdict]
    assert not any(piece.start < end and start < piece.end for piece in sent for start, end in filtered)


@given(TEXTS, st.data())
@settings(max_examples=400)
def test_any_cut_of_any_text_gives_the_same(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=30)))
    check(GUARD, text, cuts)
    check(STRICT, text, cuts)
    check(GUARD, text, list(range(len(text))))


def test_ten_thousand_cuts() -> None:
    rng = random.Random(7)
    parts = [*PLANTED, *NUMBERS, *BLOCKED, *PROSE, *PROSE, *PROSE]
    for number in range(10_000):
        chosen = [rng.choice(parts) for _ in range(rng.randrange(1, 4))]
        if rng.random() < 0.4:  # something unfinished at the very end
            chosen[-1] = chosen[-1][:rng.randrange(len(chosen[-1]) + 1)]
        text = "".join(chosen)
        size = rng.choice([2, 5, 17, 60])
        cuts = sorted({rng.randrange(len(text) + 1) for _ in range(len(text) // size)})
        check(STRICT if number % 2 else GUARD, text, cuts)


@given(TEXTS)
@settings(max_examples=200)
def test_what_is_sent_is_what_no_detector_claims(text: str) -> None:
    """Against plain search: each detector alone, at each place of the whole text."""
    claimed: set[int] = set()
    for detector in (*SECRETS, *PII):
        if detector.category == "slack-token":
            continue  # only told under this policy
        for shape in detector.shapes:
            for at in range(len(text)):
                starts = shape.anywhere or not (at and text[at - 1].isascii() and (
                    text[at - 1].isalnum() or text[at - 1] == "_"))
                if text[at] in shape.firsts and starts and (span := shape.match(text, at)):
                    end = span[1]
                    if detector.rest:
                        stop = detector.rest.stop.search(text, end)
                        end = stop.end() if stop else len(text)
                    claimed |= set(range(span[0], end))
    pieces, _ = run(STRICT, text, [])
    sent = {place for piece in pieces if not piece.verdict for place in range(piece.start, piece.end)}
    assert sent == set(range(len(text))) - claimed


@given(TEXTS, st.one_of(TEXTS, st.sampled_from(["a", "-", " 1", ".5", "/", "=="])))
@settings(max_examples=300)
def test_a_detector_that_has_decided_does_not_change_its_mind(start: str, more: str) -> None:
    text, cut = start + more, len(start)
    for detector in (*SECRETS, *PII):
        for shape in detector.shapes:
            for at in range(len(start)):
                if shape.undecided(start, at):
                    assert cut - at <= shape.width
                else:
                    assert shape.match(start, at) == shape.match(text, at)


@given(TEXTS)
@settings(max_examples=200)
def test_no_more_is_held_back_than_declared(text: str) -> None:
    endless = {detector.category for detector in SECRETS if detector.rest}
    swallowed = {piece.start for piece in run(STRICT, text, [])[0]
                 if piece.verdict and piece.verdict.category in endless}
    stream, sent = STRICT.stream(), 0
    for place, letter in enumerate(text, 1):
        for piece in stream.push(letter):
            sent = piece.end
        assert place - sent <= stream.width or sent in swallowed


def test_prose_is_hardly_held_back() -> None:
    text = "It was the best of times, it was the worst of times; see https://example.org/page for more of 1859. " * 20
    stream, sent, held = GUARD.stream(), 0, 0
    for start in range(0, len(text), 4):
        for piece in stream.push(text[start:start + 4]):
            sent = piece.end
        held += min(start + 4, len(text)) - sent
    assert held / (len(text) / 4) < 2.5
    assert stream.finish() == []


def test_a_text_that_blocks_ends_there() -> None:
    stream = GUARD.stream(3)
    pieces = [*stream.push("Ask the nightin"), *stream.push("gale about it"), *stream.push(" and more")]
    assert "".join(piece.text for piece in pieces) == "Ask the "
    assert stream.blocked
    (verdict,) = stream.verdicts
    assert (verdict.check, verdict.category, verdict.action) == ("blocked", "blocked-string", Action.BLOCK)
    assert verdict.where == "output 3, characters 8-19"
    assert "ightingale" not in repr(verdict)
    assert stream.finish() == []


def test_encoded_registered_strings_are_recognised() -> None:
    secret = BLOCKED[0]
    forms = [secret.upper(), secret[::-1], secret.encode().hex(), quote(secret), secret.encode().hex().upper()]
    forms += [base64.b64encode(b"x" * shift + secret.encode() + b"y" * 5).decode() for shift in range(5)]
    forms += [base64.urlsafe_b64encode(b"??" + secret.encode()).decode()]
    for form in forms:
        stream = GUARD.stream()
        stream.push(f"it is {form} .")
        assert stream.blocked, form


def test_overlapping_findings_all_stay_inside() -> None:
    """A registered string that begins within a key is stopped, and not even its end gets out."""
    key = "AKIA" + "QWERTYUIOPASDFGH"
    guard = Guard(Policy(blocked_strings=["DFGH is the word"]))
    stream = guard.stream()
    pieces = stream.push(f"a {key} is the word b") + stream.finish()
    assert "".join(piece.text for piece in pieces) == "a [redacted: aws-access-key]"
    assert stream.blocked
    assert [verdict.action for verdict in stream.verdicts] == [Action.REDACT, Action.BLOCK]


def test_a_stricter_finding_inside_another_is_not_lost() -> None:
    guard = Guard(Policy(blocked_strings=["TYUIOP"]))
    text = "a AKIA" + "QWERTYUIOPASDFGH b"
    pieces, stream = run(guard, text, [])
    assert "".join(piece.text for piece in pieces) == "a [redacted: aws-access-key]"
    assert [verdict.category for verdict in stream.verdicts] == ["aws-access-key", "blocked-string"]
    assert stream.blocked
    check(guard, text, list(range(len(text))))


def test_findings_stand_in_order_though_the_later_is_known_sooner() -> None:
    guard = Guard(Policy(blocked_strings=["/admin:s3cretword@host is"]))
    text = "see postgres://admin:" + "s3cretword@host is not @ home"
    for cut in range(len(text)):
        check(guard, text, [cut])
    check(guard, text, list(range(len(text))))
    check(guard, text.replace(" is", " was"), list(range(len(text))))


def test_a_failing_check_ends_the_text() -> None:
    stream = GUARD.stream()
    stream.push("fine ")
    (piece,) = stream.push(7)  # type: ignore[arg-type]
    assert piece.text == ""
    assert stream.blocked
    assert stream.verdicts[0].category == "failed-check"
    assert stream.push("more") == []


def test_memory_does_not_grow_with_the_text() -> None:
    stream = GUARD.stream()
    for _ in range(2000):
        stream.push("A line of ordinary words, 12 of them.\n")
    assert len(stream._holder._text) <= stream.width + LEFT
    stream.push("-----BEGIN PRIVATE" + " KEY-----\n")
    for _ in range(2000):
        assert stream.push("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ\n") == []
    assert len(stream._holder._text) <= stream.width + LEFT
    (piece,) = stream.finish()
    assert piece.text == "[redacted: private-key]"


def test_beginnings_without_an_end_do_not_pile_up() -> None:
    stream = GUARD.stream()
    for _ in range(300):
        stream.push("-----BEGIN PRIVATE" + " KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n")
    assert len(stream._holder._queue) == 1
    (piece,) = stream.finish()
    assert (piece.start, piece.text) == (0, "[redacted: private-key]")
