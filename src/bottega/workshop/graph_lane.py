"""Graphs on their way from the engine to a reader: a line each, as SMILES or JSON.

`pytest tests/workshop/test_graph_works.py` follows some. What is made consists of the types and numbers of the model's
own codec, so no check of texts applies.
"""

from __future__ import annotations

from typing import Any

from bottega.core.request import Output, Step
from bottega.guard.verdict import Verdict
from bottega.workshop.lane import Delta


class GraphLane:
    """See the module. It has the shape of `workshop.lane.Lane`.

    Args:
        output: its number.

    Attributes:
        finish: why it ended: `end`.
        made: graphs so far.
    """

    media_type = "text/plain"
    score, file = 0.0, None

    def __init__(self, output: int) -> None:
        self.output = output
        self.finish: str | None = None
        self.made = 0
        self.tokens: list[int] = []
        self.verdicts: list[Verdict] = []
        self._parts: list[str] = []

    @property
    def text(self) -> str:
        """The lines so far."""
        return "".join(self._parts)

    def encode(self, step: Step) -> Step:
        """Return the step as it is."""
        return step

    def push(self, steps: list[Step]) -> Delta | None:
        """Take new steps and return their lines."""
        if self.finish or not steps:
            return None
        text = "".join(step.text for step in steps)
        self._parts.append(text)
        self.made += sum(len(step.data) for step in steps)
        self.finish = steps[-1].finish
        return Delta(self.output, text, tuple(steps), self.finish, index=steps[-1].index)

    def result(self) -> Output:
        """Return the finished output."""
        return Output(text=self.text, finish=self.finish or "")

    def plain_steps(self) -> list[dict[str, Any]]:
        """Return nothing: the lines are the text."""
        return []
