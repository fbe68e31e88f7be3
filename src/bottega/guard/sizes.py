"""How much comes in, and whether it is text at all: the first check, so that the others never see too much."""

from __future__ import annotations

import re

_BROKEN = re.compile("[\ud800-\udfff\x00]")


def mend(text: str) -> tuple[str, int]:
    """Return a text that can be encoded and stored anywhere, and how many characters were wrong.

    Half a surrogate pair becomes U+FFFD; NUL, which no database keeps, goes.
    """
    return _BROKEN.subn(lambda hit: "" if hit[0] == "\0" else "\ufffd", text)


def too_much(lengths: list[int], max_messages: int, max_characters: int) -> tuple[str, str] | None:
    """Return category and reason when there are too many messages or characters."""
    if len(lengths) > max_messages:
        return "too-many-messages", f"{len(lengths)} messages, at most {max_messages} are allowed"
    if sum(lengths) > max_characters:
        return "too-long", f"{sum(lengths)} characters, at most {max_characters} are allowed"
    return None
