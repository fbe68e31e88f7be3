"""The same text in the same bytes: NFC, one kind of line end, no control characters, mojibake repaired.

Runs inside `bottega data prepare`; idempotent. Prose is also tidied; code and chat turns keep their spacing.
"""

from __future__ import annotations

import re
import unicodedata

_LINE_END = re.compile(r"\r\n?|\x85|\u2028|\u2029")
# Controls but tab and newline, byte order marks, non-characters, and halves of surrogate pairs (no UTF-8 holds them).
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff\ud800-\udfff]")
# A UTF-8 lead byte read as Latin-1 or Windows-1252, then something that a continuation byte can look like.
_MOJIBAKE = re.compile("[\xc2-\xf4][\x80-\xbf\u0152-\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]")
_TRAILING = re.compile(r"[ \t]+\n")
_GAPS = re.compile(r"\n{4,}")


def normalise(text: str, *, exact: bool = False) -> str:
    """Return the text in normal form.

    Args:
        text: any text.
        exact: keep spacing and suspicious letters as they are (code, chat turns); only NFC, line ends and controls.
    """
    once = _pass(text, exact)
    # text that was encoded wrongly twice, or whose controls hid a fault, needs another look; each makes it shorter
    while not exact and _MOJIBAKE.search(once) and (again := _pass(once, exact)) != once:
        once = again
    return once


def _pass(text: str, exact: bool) -> str:
    if not exact and _MOJIBAKE.search(text):
        text = "\n".join(_repair(line) for line in text.split("\n"))
    if not text.isascii() or "\r" in text:
        text = _LINE_END.sub("\n", text)
    text = text.replace("\x0c", "" if exact else "\n")
    text = _CONTROL.sub("", text)
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    if exact:
        return text
    if " \n" in text or "\t\n" in text:
        text = _TRAILING.sub("\n", text)
    return _GAPS.sub("\n\n\n", text.rstrip(" \t\n")).strip("\n") if text.strip() else ""


def _repair(line: str) -> str:
    if not _MOJIBAKE.search(line):
        return line
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    return str(fix_encoding(line)) if is_bad(line) else line
