"""How something to be found in a text is described, so that a stream can tell "not yet" from "no".

`bottega.guard.secrets` and `bottega.guard.pii` hold the descriptions, `bottega.guard.scan` runs them. What is found at
a position depends only on the two characters before it and on a bounded number after it: from each description come
two expressions, one for the finding and one for every text that may still become one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bottega.guard.verdict import Action

LEFT = 2  # characters before a position that may decide whether something starts there
WORD = "A-Za-z0-9_"
_ITEM = re.compile(r"(\[(?:\\.|[^\]\\])+\]|\\.|[^\\])(?:\{(\d+)(?:,(\d+))?\}|(\?))?", re.DOTALL)
_ASCII = [chr(code) for code in range(128)]

Test = Callable[[str], tuple[int, int] | None]


class Shape(Protocol):
    """One way in which a finding can look.

    Attributes:
        firsts: the characters it can start with.
        anywhere: it may start in the middle of a word.
        width: how many characters, the finding and what must be seen after it, are enough to decide.
    """

    firsts: frozenset[str]
    anywhere: bool
    width: int

    def undecided(self, text: str, at: int) -> bool:
        """Say whether more text could still change what `match` answers for this position."""

    def match(self, text: str, at: int) -> tuple[int, int] | None:
        """Return where the finding that starts to show at `at` stands, if there is one."""


@dataclass(frozen=True, slots=True)
class Rest:
    """How a finding goes on after the beginning that gave it away, as far as it may.

    Attributes:
        stop: the finding ends where this ends, or with the text.
        width: the longest text that `stop` needs to see.
    """

    stop: re.Pattern[str]
    width: int


@dataclass(frozen=True, eq=False, slots=True)
class Detector:
    """Something to be found.

    Attributes:
        check: the check it belongs to; `category`: its own name in verdicts and policies.
        what: the finding in words, with an article.
        output: what is done about it in an output, if the policy says nothing else.
        shapes: the ways it can look.
        rest: how it goes on, for what has no longest form.
    """

    check: str
    category: str
    what: str
    output: Action
    shapes: tuple[Shape, ...]
    rest: Rest | None = None


class Expression:
    """A shape written as a regular expression without groups or alternatives: characters, `[classes]`, `{m,n}`, `?`.

    Args:
        expression: such as `AKIA[A-Z2-7]{16}`.
        test: returns the part of the matched text that is the finding; None: all of it.
        left: look-behind of at most two characters that must hold; empty: it may start anywhere.
        right: look-ahead that must hold after it.
        pending: the beginnings of what `right` looks for that do not decide it yet, as an expression.
        ignore_case: take upper and lower case for the same.
    """

    def __init__(self, expression: str, test: Test | None = None, *, left: str = f"(?<![{WORD}])",
                 right: str = f"(?![{WORD}])", pending: str = "", ignore_case: bool = False) -> None:
        items = [(item[1], int(item[2] or not item[4]), int(item[3] or item[2] or 1))
                 for item in _ITEM.finditer(expression)]
        flags = re.IGNORECASE if ignore_case else re.NOFLAG
        partial = pending + r"\Z"
        for item, least, most in reversed(items):
            cut = rf"{item}{{0,{most}}}\Z" if most > 1 else r"\Z"
            partial = f"(?:{cut}|{item}{{{least},{most}}}{partial})" if (least, most) != (1, 1) else (
                rf"(?:\Z|{item}{partial})")
        whole = "".join(f"{item}{{{least},{most}}}" for item, least, most in items)
        self._undecided = re.compile(left + partial, flags).match
        self._match = re.compile(left + whole + right, flags).match
        self._test = test
        self.anywhere = not left
        self.width = sum(most for *_, most in items) + 2
        must = next(place for place, (_, least, _) in enumerate(items) if least)
        start = re.compile("|".join(item for item, *_ in items[:must + 1]), flags)
        self.firsts = frozenset(letter for letter in _ASCII if start.match(letter))

    def undecided(self, text: str, at: int) -> bool:
        """Say whether more text could still change what `match` answers for this position."""
        return self._undecided(text, at) is not None

    def match(self, text: str, at: int) -> tuple[int, int] | None:
        """Return where the finding that starts to show at `at` stands, if there is one."""
        found = self._match(text, at)
        if found is None or self._test is None:
            return found and found.span()
        part = self._test(found[0])
        return part and (at + part[0], at + part[1])


class Words:
    """A shape that is any of many fixed strings, wherever they stand; kept as a tree of their characters.

    Args:
        words: the strings.
        ignore_case: take upper and lower case for the same.
    """

    anywhere = True

    def __init__(self, words: Iterable[str], *, ignore_case: bool) -> None:
        self._fold, self.width = ignore_case, 0
        self._tree: dict[str, Any] = {}
        firsts: set[str] = set()
        for word in words:
            node = self._tree
            for letter in word:
                node = node.setdefault(letter.lower() if ignore_case else letter, {})
            node[""] = {}  # a word ends here
            self.width = max(self.width, len(word))
            firsts |= {word[0], *((word[0].lower(), word[0].upper()) if ignore_case else ())}
        self.firsts = frozenset(first for first in firsts if len(first) == 1)

    def _walk(self, text: str, at: int) -> int | None:
        """Return where the shortest word ends, None if no word starts here, -1 if the text ends too early to say."""
        node = self._tree
        for place in range(at, len(text)):
            letter = text[place]
            node = node.get(letter.lower() if self._fold else letter, {})
            if not node:
                return None
            if "" in node:
                return place + 1
        return -1

    def undecided(self, text: str, at: int) -> bool:
        """Say whether more text could still change what `match` answers for this position."""
        return self._walk(text, at) == -1

    def match(self, text: str, at: int) -> tuple[int, int] | None:
        """Return where the string that starts at `at` stands, if there is one."""
        end = self._walk(text, at)
        return (at, end) if end is not None and end > 0 else None


class Detectors:
    """Detectors with what is to be done about their findings, ready to scan many texts.

    Attributes:
        trigger: finds the positions at which something may start.
        by_first: what may start with a character.
        width: the longest text any of them needs to decide.
    """

    def __init__(self, chosen: Sequence[tuple[Detector, Action]]) -> None:
        shapes = [(shape, detector, action) for detector, action in chosen for shape in detector.shapes]
        letters = sorted({letter for shape, *_ in shapes for letter in shape.firsts})
        self.by_first = {letter: tuple(entry for entry in shapes if letter in entry[0].firsts) for letter in letters}
        self.width = max((shape.width for shape, *_ in shapes), default=0)
        bounded = _any_of({letter for shape, *_ in shapes if not shape.anywhere for letter in shape.firsts})
        free = _any_of({letter for shape, *_ in shapes if shape.anywhere for letter in shape.firsts})
        self.trigger = re.compile(rf"{bounded}(?<![{WORD}][\s\S])|{free}")


def _any_of(letters: set[str]) -> str:
    """Return an expression that matches one of the characters; nothing for none."""
    return f"[{''.join(map(re.escape, sorted(letters)))}]" if letters else r"(?!)"


def run_of(letters: str, joints: str = "") -> Rest:
    """Return the rest that goes on while the characters are of a class.

    Args:
        letters: the class, such as `-A-Za-z0-9_`.
        joints: characters that belong to it only when another one follows, such as `.`.
    """
    stop = f"[^{letters}{joints}]|[{joints}][^{letters}]" if joints else f"[^{letters}]"
    return Rest(re.compile(f"(?={stop})"), 1 + bool(joints))


def whole(test: Callable[[str], object]) -> Test:
    """Return a test that takes all of the matched text or nothing."""
    return lambda found: (0, len(found)) if test(found) else None
