"""Find things in a text that arrives in pieces, and settle which findings stand; `StreamGuard` and the checks run it.

The scan goes once from left to right. At a position where something may start it waits until more text cannot change
the answer, so what is found does not depend on how the text was cut. Findings that overlap are all kept out of the
clean text; one that lies inside another is only told apart when stricter action is due.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from bottega.guard.detectors import LEFT, Detector, Detectors
from bottega.guard.verdict import Action, new_digest


@dataclass(slots=True)
class Found:
    """A finding at characters [start, end) of the text; `end` is None while it goes on."""

    detector: Detector
    action: Action
    start: int
    end: int | None
    seek: int  # where the search for its end goes on
    hashed: int  # how far its text is in the hash
    hash: hashlib.blake2b = field(default_factory=new_digest)

    @property
    def digest(self) -> str:
        """What stands for the found text in a verdict."""
        return self.hash.hexdigest()


class Part(NamedTuple):
    """Characters [start, end) of the text: clean when `found` is None, else (the rest of) a finding, without text."""

    text: str
    start: int
    end: int
    found: Found | None


def _order(found: Found) -> tuple[int, bool, float]:
    return found.start, found.action != Action.BLOCK, -(float("inf") if found.end is None else found.end)


class Scanner:
    """One pass over one text.

    Args:
        detectors: what to look for.
        base: the number of the first character, for a text that is part of another.
    """

    def __init__(self, detectors: Detectors, base: int = 0) -> None:
        self._trigger, self._by_first = detectors.trigger.search, detectors.by_first
        self._text, self._base = "", base  # what is kept of the text, and the number of its first character
        self._scan = base  # nothing starts before here that is not known
        self._out = base  # parts were returned up to here
        self._cover = Action.ALLOW  # the action of the last part that was a finding
        self._queue: deque[Found] = deque()  # findings not returned yet, in order
        self._last: dict[Detector, Found] = {}  # the last finding of each detector whose findings go on
        self.ended = False

    def feed(self, text: str, final: bool = False) -> list[Part]:
        """Take more text and return the parts that are settled; they tile the text in order.

        Args:
            text: the next characters.
            final: the text ends with them, all the rest is settled.
        """
        if self.ended:
            return []
        buffer = self._text = self._text + text if self._text else text
        at, size = self._scan - self._base, len(buffer)
        while candidate := self._trigger(buffer, at):
            at = candidate.start()
            if not self._look(buffer, at, final):
                break
            at += 1
        else:
            at = size
        self._scan = self._base + at
        parts: list[Part] = []
        if self._queue:
            for found in self._last.values():
                self._follow(found, buffer, final)
            self._settle(parts, final)
        if not self.ended:
            self._clean(parts, min(self._scan, self._queue[0].start) if self._queue else self._scan)
            self._forget()
        self.ended |= final
        return parts

    def _look(self, buffer: str, at: int, final: bool) -> bool:
        """Queue what starts at a position; say False when that cannot be known yet."""
        entries = self._by_first[buffer[at]]
        if not final:
            for shape, _, _ in entries:
                if shape.undecided(buffer, at):
                    return False
        for shape, detector, action in entries:
            if span := shape.match(buffer, at):
                start, end = self._base + span[0], self._base + span[1]
                if detector.rest and self._covers(detector, end, buffer, final):
                    continue
                found = Found(detector, action, start, None if detector.rest else end, end, end)
                found.hash.update(_bytes(buffer[slice(*span)]))
                if detector.rest:
                    self._last[detector] = found
                place = len(self._queue)
                while place and _order(self._queue[place - 1]) > _order(found):
                    place -= 1
                self._queue.insert(place, found)
        return True

    def _covers(self, detector: Detector, end: int, buffer: str, final: bool) -> bool:
        """Say whether the detector's finding before this one goes on over its beginning: then they end together."""
        last = self._last.get(detector)
        if last is None:
            return False
        self._follow(last, buffer, final)
        return last.end is None or last.end >= end

    def _follow(self, found: Found, buffer: str, final: bool) -> None:
        """Look for the end of a finding that goes on."""
        if found.end is not None or found.detector.rest is None:
            return
        stop, width = found.detector.rest.stop, found.detector.rest.width
        limit = self._base + len(buffer)
        ending = stop.search(buffer, found.seek - self._base)
        if ending or final:
            found.end = self._base + ending.end() if ending else limit
        found.seek = max(found.seek, limit - width + 1)
        known = found.seek if found.end is None else found.end  # the last characters seen may come after its end
        found.hash.update(_bytes(buffer[found.hashed - self._base:known - self._base]))
        found.hashed = known

    def _settle(self, parts: list[Part], final: bool) -> None:
        """Return the findings that nothing yet unknown can come before."""
        while self._queue and self._queue[0].end is not None and (final or self._queue[0].start < self._scan):
            found = self._queue.popleft()
            end = max(self._out, found.end or 0)
            self._clean(parts, found.start)
            if end > self._out or found.action > self._cover:
                parts.append(Part("", self._out, end, found))
                self._out, self._cover = end, found.action
            if found.action == Action.BLOCK:
                self.ended = True
                return

    def _clean(self, parts: list[Part], limit: int) -> None:
        if limit > self._out:
            text = self._text[self._out - self._base:limit - self._base]
            parts.append(Part(text, self._out, limit, None))
            self._out = limit

    def _forget(self) -> None:
        """Keep only what is still needed: two characters of left context and where open findings are searched."""
        keep = self._scan - LEFT
        for found in self._last.values():
            if found.end is None:
                keep = min(keep, found.seek)
        if keep > self._base:
            self._text, self._base = self._text[keep - self._base:], keep


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
