"""Characters that nobody sees and a model reads: they are taken out before it does, and counted by kind.

What a script or an emoji needs stays: joiners between Persian, Arabic and Indic letters, emoji sequences and flags,
selectors after what they select from. Taking out is idempotent (`tests/guard/test_hidden.py`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

# Everything below is about these: format characters without a glyph, fillers, variation selectors, tags.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]")
# The only flags of regions that Unicode recommends for interchange: England, Scotland, Wales.
_FLAG = re.compile("\U0001f3f4(?:{})\U000e007f".format("|".join(
    "".join(chr(0xE0000 + ord(letter)) for letter in region) for region in ("gbeng", "gbsct", "gbwls"))))
_EMOJI = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]")
_SKIN = re.compile("[\U0001f3fb-\U0001f3ff]")
_KEYCAP = frozenset("0123456789#*")
# Arabic to Mandaic, then Devanagari to Sinhala: scripts in which joiners change what is read.
_JOINING = re.compile("[\u0600-\u08ff\u0900-\u0dff\u0f00-\u0fff\u1000-\u109f\u1780-\u18af\ua840-\ua87f\ufb50-\ufdff"
                      "\ufe70-\ufefc\U00010d00-\U00010d3f\U00011000-\U000116ff\U0001e900-\U0001e95f]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001eeff]")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1a20-\u1aaf]")  # Thai to Khmer: words end unseen
_IDEOGRAPH = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_MONGOLIAN = re.compile("[\u1820-\u18aa]")
_HANGUL = re.compile("[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]")
_VARIANT_BASE = re.compile("[\u2200-\u22ff\u2a00-\u2aff\u1000-\u109f\ua840-\ua87f\u3000-\u303f\uff00-\uff1f]")

ZERO_WIDTH, BIDI, TAG, SELECTOR = "zero-width", "direction", "tag", "variation selector"


def reveal(text: str) -> tuple[str, Counter[str]]:
    """Return a text without hidden characters, and how many of each kind were taken out."""
    removed: Counter[str] = Counter()
    if text.isascii() or not _INVISIBLE.search(text):
        return text, removed
    kept: list[str] = []
    done = 0
    for hit in _INVISIBLE.finditer(text):
        place, letter = hit.start(), hit[0]
        if place < done:
            continue  # part of a flag
        kept.append(text[done:place])
        before = _last(kept)
        flag = _FLAG.match(text, place - 1) if before == "\U0001f3f4" else None
        done = flag.end() if flag else place + 1
        if flag:
            kept.append(flag[0][1:])
        elif _belongs(letter, before, _INVISIBLE.sub("", text[place + 1:place + 2]), kept):
            kept.append(letter)
        else:
            removed[_kind(letter)] += 1
    kept.append(text[done:])
    return "".join(kept), removed


def _last(kept: list[str], skip: int = 0) -> str:
    """Return the last character that was kept, or the one `skip` places before it."""
    for part in reversed(kept):
        if len(part) > skip:
            return part[-1 - skip]
        skip -= len(part)
    return ""


def _belongs(letter: str, before: str, after: str, kept: list[str]) -> bool:
    """Say whether an invisible character does its proper work between its neighbours.

    Args:
        letter: the invisible character.
        before: the last character that was kept.
        after: the next one; empty when it is invisible too.
        kept: all that was kept.
    """
    if letter == "\u200d" and _EMOJI.match(after):
        carrier = _last(kept, 1) if before == "\ufe0f" or _SKIN.match(before) else before
        if _EMOJI.match(carrier) or _SKIN.match(before):
            return True
    if _INVISIBLE.match(before):
        return False
    if letter in "\u200c\u200d":
        return bool(_JOINING.match(before) and (_JOINING.match(after) or letter == "\u200d"))
    if letter == "\u200b":
        return bool(_UNSPACED.match(before) and _UNSPACED.match(after))
    if letter in "\u200e\u200f\u061c":
        return bool(_RIGHT_TO_LEFT.match(before) or _RIGHT_TO_LEFT.match(after))
    if letter in "\u180b\u180c\u180d\u180e\u180f":
        return bool(_MONGOLIAN.match(before))
    if letter in "\u115f\u1160":
        return bool(_HANGUL.match(before) or _HANGUL.match(after))
    if letter in "\ufe0e\ufe0f":
        return before in _KEYCAP or bool(_EMOJI.match(before) or _VARIANT_BASE.match(before))
    if "\ufe00" <= letter <= "\ufe0d":
        return bool(_IDEOGRAPH.match(before) or _VARIANT_BASE.match(before))
    if "\U000e0100" <= letter <= "\U000e01ef":
        return bool(_IDEOGRAPH.match(before))
    return False


def _kind(letter: str) -> str:
    if "\U000e0000" <= letter <= "\U000e007f":
        return TAG
    if "\ufe00" <= letter <= "\ufe0f" or "\U000e0100" <= letter <= "\U000e01ef" or "\u180b" <= letter <= "\u180f":
        return SELECTOR
    if unicodedata.bidirectional(letter) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI") or (
            letter in "\u200e\u200f\u061c"):
        return BIDI
    return ZERO_WIDTH
