"""Each kind of secret is found in running text, what only looks close is not, and ordinary code is left alone."""

import base64
import hashlib
import os
import random
import uuid
from pathlib import Path

import pytest

from bottega.guard.guard import Guard
from bottega.guard.secrets import SECRETS
from bottega.guard.verdict import Action, Verdict
from tests.guard.planted import luhn_number, private_key, secrets, web_token

GUARD = Guard()


def delivered(text: str) -> tuple[str, list[Verdict]]:
    """Return what a reader of an output with this text gets."""
    stream = GUARD.stream()
    pieces = stream.push(text) + stream.finish()
    return "".join(piece.text for piece in pieces), stream.verdicts


@pytest.mark.parametrize(("category", "secret"), [(category, secret) for category, secret, _ in secrets()])
@pytest.mark.parametrize("around", ["{}", "The key is {}, keep it.", 'key = "{}"\n', "({})"])
def test_found(category: str, secret: str, around: str) -> None:
    text, verdicts = delivered(around.format(secret))
    assert [(verdict.check, verdict.category, verdict.action) for verdict in verdicts] == [
        ("secrets", category, Action.REDACT)]
    before, after = around.split("{}")
    assert text.startswith(before)
    assert text.endswith(after)
    assert f"[redacted: {category}]" in text
    assert secret[-12:] not in text or category in ("url-password", "slack-webhook")
    assert not any(secret[:10] in verdict.reason + verdict.where for verdict in verdicts)


@pytest.mark.parametrize("near", [near for *_, near in secrets()])
def test_what_only_looks_close_is_not_found(near: str) -> None:
    for text in (near, f"It says {near} there."):
        assert delivered(text)[1] == []


def test_every_kind_is_tested() -> None:
    assert {category for category, *_ in secrets()} == {detector.category for detector in SECRETS}
    assert len(SECRETS) >= 20


def test_other_seeds_are_found_too() -> None:
    for seed in range(1, 60):
        for category, secret, near in secrets(seed):
            assert [verdict.category for verdict in delivered(f"a {secret} b")[1]] == [category]
            assert delivered(f"a {near} b")[1] == []


def test_the_value_alone_goes_where_words_give_it_away() -> None:
    text, _ = delivered("aws_secret_access_" + "key = 'abcdefghijKLMNOPQRST0123456789+/abcdefgh'\n")
    assert text == "aws_secret_access_key = '[redacted: aws-secret-key]'\n"
    text, _ = delivered("see postgres://admin:" + "s3cret99@db/prod.")
    assert text == "see postgres://[redacted: url-password]@db/prod."


def test_a_private_key_goes_whole_even_when_its_end_never_comes() -> None:
    key = private_key(random.Random(3), "OPENSSH ")
    assert delivered(f"a\n{key}\nb")[0] == "a\n[redacted: private-key]\nb"
    assert delivered(f"a\n{key[:-10]}")[0] == "a\n[redacted: private-key]"
    assert delivered(key.replace("\n", "\\n"))[0] == "[redacted: private-key]"
    assert delivered("    " + key.replace("\n", "\n    "))[0] == "    [redacted: private-key]"
    mention = f"The file starts with {'-' * 5}BEGIN PRIVATE KEY{'-' * 5}."
    assert delivered(mention) == (mention, [])


def test_a_long_web_token_goes_whole() -> None:
    token = web_token(random.Random(1)) + "a" * 20_000
    assert delivered(f"Bearer {token}. Then")[0] == "Bearer [redacted: web-token]. Then"


def test_hashes_identifiers_and_numbers_are_no_secrets() -> None:
    rng = random.Random(5)
    for _ in range(500):
        data = rng.randbytes(32)
        for text in (hashlib.sha256(data).hexdigest(), hashlib.sha1(data).hexdigest(), hashlib.md5(data).hexdigest(),
                     base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode(),
                     str(uuid.UUID(bytes=data[:16])), "sha512-" + base64.b64encode(data * 2).decode(),
                     f"order {rng.randrange(10**9, 10**10)}", f"No. {rng.randrange(100, 999)}-{rng.randrange(10**7)}"):
            stream = GUARD.stream()
            stream.push(text + " ")
            stream.finish()
            assert [verdict for verdict in stream.verdicts if verdict.check == "secrets"] == [], text


def test_the_standard_library_is_full_of_false_friends() -> None:
    files = sorted(Path(os.__file__).parent.glob("*.py"))[:200]
    found: list[str] = []
    for file in files:
        stream = GUARD.stream()
        stream.push(file.read_text("utf-8", "replace"))
        stream.finish()
        found += [f"{file.name}: {verdict.category} {verdict.where}" for verdict in stream.verdicts
                  if verdict.action >= Action.REDACT]
    assert len(files) > 150
    assert len(found) <= 2, found


def test_a_card_is_no_secret_but_money() -> None:
    _, verdicts = delivered("pay " + luhn_number(random.Random(1), "4", 16))
    assert [(verdict.check, verdict.category) for verdict in verdicts] == [("pii", "card")]
