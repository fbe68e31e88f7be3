"""Where a text comes from, who may read it and how far it is trusted; `tests/guard/test_lattices.py` states the laws.

A context is a sequence of labelled spans, never one string. Labels combine to the most careful one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import reduce
from operator import or_


class Trust(IntEnum):
    """How far the author of a text is trusted, least first."""

    UNTRUSTED = 0
    TENANT = 1
    USER = 2
    SYSTEM = 3


@dataclass(frozen=True, slots=True)
class Label:
    """The label of one text.

    Attributes:
        trust: how far its author is trusted.
        readers: who may read it; None means everyone.
        origins: where it came from, such as `user` or `file:notes.md`.
    """

    trust: Trust
    readers: frozenset[str] | None = None
    origins: frozenset[str] = frozenset()

    def __or__(self, other: Label) -> Label:
        """Return the label of a text made from both: lowest trust, readers of both, origins of either."""
        if self.readers is None or other.readers is None:
            readers = other.readers if self.readers is None else self.readers
        else:
            readers = self.readers & other.readers
        return Label(min(self.trust, other.trust), readers, self.origins | other.origins)


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of what a model reads: a message or a prompt.

    Attributes:
        text: its words.
        label: where they come from.
        role: `system`, `user`, `assistant`, `tool`, `prompt`, `suffix`, `toward` or `negative_prompt`.
    """

    text: str
    label: Label
    role: str


Context = tuple[Span, ...]


def context_label(context: Context) -> Label:
    """Return the label of whatever a model makes from a context; an empty one is trusted, public, from nowhere."""
    return reduce(or_, (span.label for span in context), Label(Trust.SYSTEM))
