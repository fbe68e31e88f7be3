"""Strings that must never leave, such as canaries: `Policy.blocked_strings`, as they are and in the usual encodings."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from urllib.parse import quote

from bottega.guard.detectors import Detector, Shape, Words
from bottega.guard.verdict import Action

_SHORTEST_ENCODED = 8  # bytes; shorter ones are too common in encoded text to say anything


def encoded(text: str) -> tuple[set[str], set[str]]:
    """Return how a text may be written so that nobody reads it: forms in which case matters not, and matters.

    Reversed, percent and hexadecimal; base64 wherever in a longer encoded text it stands.
    """
    data = text.encode("utf-8", "surrogatepass")
    loose, strict = {text}, set[str]()
    if len(data) >= _SHORTEST_ENCODED:
        loose |= {text[::-1], data.hex(), quote(data), quote(data, safe="")}
        for shift in range(3):
            letters = base64.b64encode(b"\0" * shift + data).decode()
            inner = letters[-(-shift * 8 // 6):(shift + len(data)) * 8 // 6]  # what its neighbours do not change
            strict |= {inner, inner.replace("+", "-").replace("/", "_")}
    return loose, strict


def blocked(strings: Iterable[str]) -> Detector:
    """Return the detector of registered strings; it finds nothing when there are none."""
    forms = [encoded(text) for text in strings]
    shapes: list[Shape] = [Words(set().union(*(loose for loose, _ in forms)), ignore_case=True),
                           Words(set().union(*(strict for _, strict in forms)), ignore_case=False)]
    return Detector("blocked", "blocked-string", "a registered string", Action.BLOCK, tuple(shapes))
