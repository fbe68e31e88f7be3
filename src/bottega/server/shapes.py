"""What a choice looks like for chat and for completions, whole and in chunks, with log-probabilities.

Log-probabilities are the model's own, before any control; minus infinity, which JSON lacks, is -9999.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from bottega.core.request import Step
from bottega.core.tool_text import CallReader
from bottega.server.tools import plain_call

_LOWEST = -9999.0
Pieces = Callable[[int], bytes]  # the bytes of a token id
Candidate = tuple[int, str, float]  # token, its text, its log-probability
_dumps = json.JSONEncoder(separators=(",", ":")).encode


def _entry(token: int, text: str, logprob: float, pieces: Pieces) -> dict[str, Any]:
    return {"token": text, "logprob": max(logprob, _LOWEST), "bytes": list(pieces(token))}


def _best(step: Step, count: int) -> list[Candidate]:
    """Return the most probable candidates of a step under the model, the chosen one among them if it belongs there."""
    found = [(other.token, other.text, other.logprob) for other in step.alternatives]
    return sorted([*found, _chosen(step)], key=lambda candidate: -candidate[2])[:count]


def _chosen(step: Step) -> Candidate:
    return step.token or 0, step.token_text, step.logprob or 0.0


def _told(steps: Sequence[Step]) -> list[Step]:
    """Return the steps that made text; the token that only ends an output is not shown."""
    return [step for step in steps if step.token_text]


class ChatShape:
    """Choices of `/v1/chat/completions`.

    Args:
        logprobs: how many candidates to show at each token; None shows no log-probabilities.
        pieces: the bytes of a token.
        tools: names of what may be called; a call of one is told as such, not as text.
        most: calls to tell of one choice; None: all.
    """

    kind = "chat.completion.chunk"

    def __init__(self, logprobs: int | None, pieces: Pieces, tools: Sequence[str] = (),
                 most: int | None = None) -> None:
        self._count, self._pieces, self._tools, self._most = logprobs, pieces, tools, most
        self._readers: dict[int, CallReader] = {}  # by choice
        self._called: dict[int, int] = {}
        self.opening: str | None = self._choice({"role": "assistant", "content": ""}, "null", None)

    def part(self, number: int, text: str, steps: tuple[Step, ...], finish: str | None) -> str:
        """Return the inside of a chunk's choice as JSON, empty when there is nothing to tell."""
        logs = "null" if self._count is None or finish else _dumps(self._logs(steps))
        delta: dict[str, Any] = {"content": text} if text or (self._count is not None and not finish) else {}
        if self._tools:
            delta = self._read(number, text, bool(finish), delta)
        if finish:
            return self._choice(delta, "null", self._ended(number, finish))
        return self._choice(delta, logs, None) if delta else ""

    def _read(self, number: int, text: str, last: bool, delta: dict[str, Any]) -> dict[str, Any]:
        """Return a delta in which calls are told as calls; what may become one waits."""
        reader = self._readers.setdefault(number, CallReader(self._tools))
        words, calls = reader.push(text)
        if last:
            more, others = reader.finish()
            words, calls = words + more, calls + others
        told = self._called.get(number, 0)
        calls = calls if self._most is None else calls[:max(0, self._most - told)]
        self._called[number] = told + len(calls)
        delta = {"content": words} if words or (delta and self._count is not None) else {}
        if calls:
            delta["tool_calls"] = [{"index": told + place, **plain_call(call)} for place, call in enumerate(calls)]
        return delta

    def _ended(self, number: int, finish: str) -> str:
        return "tool_calls" if finish == "stop" and self._called.get(number) else finish

    def _choice(self, delta: dict[str, Any], logs: str, finish: str | None) -> str:
        return f'"delta":{_dumps(delta)},"logprobs":{logs},"finish_reason":{_dumps(finish)}'

    def _logs(self, steps: Sequence[Step]) -> dict[str, Any]:
        content = []
        for step in _told(steps):
            top = [_entry(*candidate, self._pieces) for candidate in _best(step, self._count or 0)]
            content.append({**_entry(*_chosen(step), self._pieces), "top_logprobs": top})
        return {"content": content, "refusal": None}

    def whole(self, index: int, text: str, steps: Sequence[Step], finish: str) -> dict[str, Any]:
        """Return a choice of an answer that is not streamed."""
        delta: dict[str, Any] = self._read(index, text, True, {}) if self._tools else {"content": text}
        message: dict[str, Any] = {"role": "assistant", "content": delta.get("content", ""), "refusal": None}
        if "tool_calls" in delta:
            calls = [{name: value for name, value in call.items() if name != "index"} for call in delta["tool_calls"]]
            message |= {"content": message["content"] or None, "tool_calls": calls}
        return {"index": index, "message": message, "logprobs": None if self._count is None else self._logs(steps),
                "finish_reason": self._ended(index, finish)}


class TextShape:
    """Choices of `/v1/completions`; arguments as `ChatShape`."""

    kind = "text_completion"
    opening: str | None = None

    def __init__(self, logprobs: int | None) -> None:
        self._count = logprobs
        self._offsets: dict[int, int] = {}  # by choice: characters told so far

    def part(self, number: int, text: str, steps: tuple[Step, ...], finish: str | None) -> str:
        """Return the inside of a chunk's choice as JSON, empty when there is nothing to tell."""
        logs = "null" if self._count is None or finish else _dumps(self._logs(number, steps))
        if not text and not finish and self._count is None:
            return ""
        return f'"text":{_dumps(text)},"logprobs":{logs},"finish_reason":{_dumps(finish)}'

    def _logs(self, number: int, steps: Sequence[Step]) -> dict[str, Any]:
        told, offsets, offset = _told(steps), list[int](), self._offsets.get(number, 0)
        for step in told:
            offsets.append(offset)
            offset += len(step.token_text)
        self._offsets[number] = offset
        return {"tokens": [step.token_text for step in told],
                "token_logprobs": [max(_chosen(step)[2], _LOWEST) for step in told],
                "top_logprobs": [self._top(step) for step in told] if self._count else None, "text_offset": offsets}

    def _top(self, step: Step) -> dict[str, float]:
        """Return the best candidates and, as OpenAI does, the chosen token where it is not one of them."""
        shown = [*_best(step, self._count or 0), _chosen(step)]
        return {text: max(logprob, _LOWEST) for _, text, logprob in shown}

    def whole(self, index: int, text: str, steps: Sequence[Step], finish: str) -> dict[str, Any]:
        """Return a choice of an answer that is not streamed."""
        return {"index": index, "text": text, "logprobs": None if self._count is None else self._logs(index, steps),
                "finish_reason": finish}
