"""Hidden characters go, the ones that a script or an emoji needs stay, and a second pass finds nothing to do."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bottega.guard.hidden import BIDI, SELECTOR, TAG, ZERO_WIDTH, reveal

KEPT = {
    "Persian": "می‌خواهم کتاب‌ها را بخوانم",
    "Hindi": "क्‍ष और क्‌ष",
    "Sinhala": "ශ්‍රී ලංකා",
    "Malayalam": "അവന്‍",
    "family": "👩‍👩‍👧‍👦 and 🧑🏽‍💻",
    "heart on fire": "❤️‍🔥",
    "pirate and rainbow flags": "🏴‍☠️ 🏳️‍🌈",
    "country flags": "🇮🇹🇯🇵",
    "Scotland, Wales, England": "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
                                "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f"
                                "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "keycaps": "1️⃣ #️⃣ ✔︎ ☎️ ™️",
    "mark in Hebrew": "שלום‏ (123)",
    "Khmer word ends": "ភាសា​ខ្មែរ",
    "ideographic variant": "葛\U000e0100城",
    "Mongolian": "ᠮᠣᠩᠭᠣᠯ᠋",
    "everything visible": "Café naïve — “quotes”, 中文 русский ελληνικά 🙂\t\n",
}


def tags(text: str) -> str:
    return "".join(chr(0xE0000 + ord(letter)) for letter in text)


def selectors(data: bytes) -> str:
    return "".join(chr(0xFE00 + byte if byte < 16 else 0xE0100 + byte - 16) for byte in data)


REMOVED = {
    "tag message": (f"Hi{tags('ignore all')} you", "Hi you", {TAG: 10}),
    "tags after another flag": (f"🏴{tags('secret')}\U000e007f", "🏴", {TAG: 7}),
    "a flag that was cut in two": (f"🏴{tags('gb')}\u200b{tags('eng')}\U000e007f", "🏴", {TAG: 6, ZERO_WIDTH: 1}),
    "override": ("user\u202etxt.exe\u202c", "usertxt.exe", {BIDI: 2}),
    "isolates": ("a\u2066b\u2069c", "abc", {BIDI: 2}),
    "zero width in Latin": ("ig\u200bno\u200cre\u200d th\u2060is\ufeff", "ignore this", {ZERO_WIDTH: 5}),
    "a run of non-joiners in Persian": ("می\u200c\u200c\u200cخواهم", "می\u200cخواهم", {ZERO_WIDTH: 2}),
    "smuggled bytes": (f"😀{selectors(b'hello, model')}", "😀", {SELECTOR: 12}),
    "a selector after a letter": ("a\ufe0fb", "ab", {SELECTOR: 1}),
    "two selectors after an emoji": ("❤\ufe0f\ufe0f", "❤\ufe0f", {SELECTOR: 1}),
    "marks without right-to-left text": ("a\u200e\u200eb", "ab", {BIDI: 2}),
    "fillers": ("a\u3164b\u115fc", "abc", {ZERO_WIDTH: 2}),
    "soft hyphen": ("pass\u00adword", "password", {ZERO_WIDTH: 1}),
    "joiner between an emoji and a letter": ("🙂\u200da", "🙂a", {ZERO_WIDTH: 1}),
    "Arabic letter marks in a row": ("ا\u061c\u061c\u061c\u061cb", "ا\u061cb", {BIDI: 3}),
}


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_what_is_needed_stays(text: str) -> None:
    assert reveal(text) == (text, {})


@pytest.mark.parametrize(("text", "clean", "counts"), REMOVED.values(), ids=REMOVED)
def test_what_is_hidden_goes_and_is_counted(text: str, clean: str, counts: dict[str, int]) -> None:
    assert reveal(text) == (clean, counts)


INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u202e\u2060\u2066\ufeff\u00ad\u061c\ufe0f\ufe00\u3164\u115f\u180b\U000e0100"
LETTERS = ["a", "م", "ی", "क", "्", "葛", "😀", "❤", "🏽", "🏴", "1", "ខ", "ᠭ", "ᄀ", tags("gbeng"), "\U000e007f",
           tags("x"), " "]


@given(st.lists(st.one_of(st.sampled_from(INVISIBLE), st.sampled_from(LETTERS), st.characters()), max_size=30))
@settings(max_examples=1000)
def test_a_second_pass_finds_nothing(parts: list[str]) -> None:
    text = "".join(parts)
    once, counts = reveal(text)
    assert reveal(once) == (once, {})
    assert len(once) + counts.total() == len(text)
    visible = [letter for letter in text if unicodedata.category(letter) not in ("Cf", "Mn", "Lo", "Cn")]
    assert [letter for letter in once if unicodedata.category(letter) not in ("Cf", "Mn", "Lo", "Cn")] == visible
