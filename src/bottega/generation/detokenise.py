"""Tokens to text that is safe to show while it grows: whole characters only, and never a piece of a stop string.

`pytest tests/generation/test_detokenise.py` cuts texts at every place.
"""

from __future__ import annotations

import codecs


class Detokeniser:
    """The text of one output under way.

    Args:
        stops: strings that end it; none of them is ever part of the text.
    """

    def __init__(self, stops: list[str] | None = None) -> None:
        self._stops = list(stops or [])
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False

    def push(self, data: bytes) -> str:
        """Take a token's bytes and return what can be shown; afterwards `stopped` says whether a stop string was met.

        The stop string that is complete first counts, whatever the cuts between tokens; of two that end at the same
        character, the longer.
        """
        if self.stopped:
            return ""
        self._held += self._decoder.decode(data)
        return self._release(final=False)

    def finish(self) -> str:
        """Return the rest: what was held back, and U+FFFD for a character that stayed incomplete."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(b"", True)
        return self._release(final=True)

    def _release(self, *, final: bool) -> str:
        """Cut at the first complete stop string, else show all that cannot be the start of one."""
        ends = [(start + len(stop), start) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if ends:
            self.stopped = True
            shown, self._held = self._held[:min(ends)[1]], ""
            return shown
        keep = 0 if final else self._hold()
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def _hold(self) -> int:
        """Return the length of the longest end of the text with which a stop string begins."""
        longest = max(map(len, self._stops), default=0)
        for size in range(min(len(self._held), longest - 1), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0
