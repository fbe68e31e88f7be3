"""One output on its way from the engine to a reader: text passes the stream guard, and steps go with their text.

A step is shown only when all of its text is; steps of redacted text are not shown at all, since their tokens spell it.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass
from typing import Any

from bottega.core.request import Output, Step
from bottega.guard.stream import Piece, StreamGuard
from bottega.guard.verdict import Action, Verdict

_KEPT = ("index", "text", "token", "token_text", "logprob", "probability", "finish")
_LONGEST_STEP = 4096  # characters; far more than any token has


@dataclass(frozen=True, slots=True)
class Delta:
    """What is new of one output; `finish` on its last.

    Attributes:
        text: new text, and `steps` the tokens that made it.
        png: PNG file of a picture, or (without `finish`) a preview of it at step `index`.
        rows: new rows of a table, as `core.table.Table`s; `notes`: what to know of them.
    """

    output: int
    text: str
    steps: tuple[Step, ...]
    finish: str | None = None
    png: bytes | None = None
    index: int = 0
    rows: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()


class Lane:
    """See the module.

    Args:
        output: its number.
        guard: a fresh stream guard.

    Attributes:
        finish: why the output ended: `stop`, `length`, `end` or `filtered`.
        made: tokens that the model made, shown or not.
        tokens: ids of the tokens that were shown.
    """

    media_type = "text/plain"
    file: bytes | None = None

    def __init__(self, output: int, guard: StreamGuard) -> None:
        self.output, self._guard = output, guard
        self.finish: str | None = None
        self.made, self.tokens = 0, list[int]()
        self._parts: list[str] = []
        self._held: deque[tuple[int, int, Step]] = deque()  # source characters [start, end) of each step not yet shown
        self._read, self._gone = 0, 0  # source characters taken in, and passed on
        self._hidden: list[tuple[int, int]] = []  # source characters taken out lately
        self._shown: list[Step] = []
        self._logprobs = 0.0

    @property
    def text(self) -> str:
        """What was shown so far."""
        return "".join(self._parts)

    @property
    def score(self) -> float:
        """Mean log-probability of the tokens made."""
        return self._logprobs / self.made if self.made else 0.0

    @property
    def verdicts(self) -> list[Verdict]:
        """What the stream guard found."""
        return self._guard.verdicts

    def push(self, steps: list[Step]) -> Delta | None:
        """Take new steps and return what may be shown now."""
        if self.finish or not steps:
            return None
        pieces: list[Piece] = []
        for step in steps:
            self.made += 1
            self._logprobs += step.logprob or 0.0
            self._held.append((self._read, self._read + len(step.text), step))
            self._read += len(step.text)
            if step.text:
                pieces += self._guard.push(step.text)
            if step.finish:
                pieces += self._guard.finish()
                self.finish = step.finish
            if self._guard.blocked:
                self.finish = "filtered"
                break
        text = "".join(piece.text for piece in pieces)
        shown = self._pass(pieces)
        if not (text or shown or self.finish):
            return None
        if text:
            self._parts.append(text)
        return Delta(self.output, text, shown, self.finish)

    def _pass(self, pieces: list[Piece]) -> tuple[Step, ...]:
        """Return the held steps whose text has gone, without those that touch something taken out.

        A token without text of its own (part of a character) waits for the text after it.
        """
        self._hidden += [(piece.start, piece.end) for piece in pieces
                         if piece.verdict is not None and piece.verdict.action >= Action.REDACT]
        if pieces:
            self._gone = pieces[-1].end
        passed: list[Step] = []
        while self._held:
            start, end, step = self._held[0]
            if end > self._gone or (start == end == self._gone and not self.finish):
                break
            self._held.popleft()
            if not any(start < stop and max(end, start + 1) > begin for begin, stop in self._hidden):
                passed.append(step)
        self._hidden = [(begin, stop) for begin, stop in self._hidden if stop > self._gone - _LONGEST_STEP]
        self.tokens += [step.token for step in passed if step.token is not None]
        self._shown += passed
        return tuple(passed)

    def result(self) -> Output:
        """Return the finished output as it was shown."""
        return Output(text=self.text, tokens=self.tokens, steps=self._shown, finish=self.finish or "",
                      score=self.score)

    def plain_steps(self) -> list[dict[str, Any]]:
        """Return the shown steps ready for JSON."""
        return [plain_step(step) for step in self._shown]


def plain_step(step: Step) -> dict[str, Any]:
    """Return a step of a text ready for JSON."""
    return {**{name: getattr(step, name) for name in _KEPT},
            "alternatives": [dataclasses.asdict(other) for other in step.alternatives], "changes": list(step.changes)}

