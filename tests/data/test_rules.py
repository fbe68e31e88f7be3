import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.core.errors import RecipeError
from bottega.core.recipe import DataSpec
from bottega.data.rules import DEFAULTS, Rule, rules_of, used_signals
from bottega.data.signals import SIGNALS, measure
from bottega.data.words import hash_words, split_words

COLUMNS = {"words": np.array([1.0, 30.0, 5.0]), "chars": np.array([10.0, 100.0, 0.0]),
           "format": np.array(["prose", "code", "chat"])}


@pytest.mark.parametrize(("expression", "expected"), [
    ("words < 20 and format != 'code'", [True, False, True]),
    ("not words < 20", [False, True, False]),
    ("1 < words < 10", [False, False, True]),
    ("chars / words > 5", [True, False, False]),
    ("format in ('code', 'chat')", [False, True, True]),
    ("format not in ['code'] or words == 30", [True, True, True]),
    ("words * 2 - 1 >= -words + 44", [False, True, False]),
    ("words in (1, 5)", [True, False, True]),
    ("True", [True, True, True]),
])
def test_expressions(expression: str, expected: list[bool]) -> None:
    assert Rule("r", expression)(COLUMNS).tolist() == expected


@pytest.mark.parametrize(("expression", "says"), [
    ("wrods < 3", "did you mean 'words'"), ("words", "compare it"), ("__import__('os')", "not allowed"),
    ("words.real > 1", "not allowed"), ("(lambda: 1)() == 1", "not allowed"), ("words < 'a'", "number is needed"),
    ("format < 'b'", "compared with =="), ("words <", "not an expression"), ("format in format", "list of text"),
    ("words and chars", "truth is needed"), ("2 ** 99999 > words", "not allowed"),
    ("[w for w in words]", "not allowed"),
])
def test_what_is_refused(expression: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Rule("mine", expression)
    assert says in str(caught.value)
    assert "data.rules.mine" in str(caught.value)


def test_defaults_are_valid_and_can_be_switched_off() -> None:
    names = [rule.reason for rule in rules_of(DataSpec(sources=["x"]))]
    assert names == list(DEFAULTS)
    spec = DataSpec(sources=["x"], rules={"repetitive": None, "short": "words < 3"}, languages=["EN"])
    rules = rules_of(spec)
    assert [rule.reason for rule in rules] == [n for n in DEFAULTS if n != "repetitive"] + ["language", "short"]
    assert "language_score" in used_signals(rules)
    with pytest.raises(RecipeError, match="did you mean 'repetitive'"):
        rules_of(DataSpec(sources=["x"], rules={"repetitve": None}))


def numbers(text: str) -> dict[str, float]:
    words = split_words(text)
    return measure(text, words, hash_words(words))


def test_signals_of_a_known_text() -> None:
    got = numbers("One two three.\n\nOne two three.\n- four 55 €\n")
    assert (got["words"], got["lines"], got["duplicate_lines"]) == (8, 3, 1 / 3)
    assert got["top_2gram"] == 0.5
    assert got["bullet_lines"] == 1 / 3
    assert got["ended_lines"] == 2 / 3
    assert got["max_line_length"] == 14
    assert got["digit_ratio"] == pytest.approx(2 / 32)
    assert got["symbol_ratio"] == pytest.approx(1 / 32)
    assert got["longest_run"] == 6


@given(st.text())
def test_every_text_can_be_measured(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    got = numbers(text)
    assert set(got) <= set(SIGNALS)
    assert all(np.isfinite(value) and value >= 0 for value in got.values())
    ratios = [name for name in got if "ratio" in name or name.startswith(("top_", "duplicate_", "unique"))]
    assert all(got[name] <= 1 for name in ratios)
