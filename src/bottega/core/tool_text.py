"""Tools as text: what may be called, and what was called, written inside ordinary turns; `tests/codecs/test_masks.py`.

A model sees and says plain text. So the tools of a conversation stand at the end of its system turn, one JSON object a
line, and a call stands at the end of an assistant turn:

    <tools>                                       <tool_call>
    {"type": "function", "function": {…}}         {"name": "search", "arguments": {"city": "Rome"}}
    </tools>                                      </tool_call>

The result of a call is a turn of the role `tool`; several results stand in the order of their calls. The marks are
those that Hermes and Qwen models use, so that other programs' parsers read them. `codecs.text.CHAT_TEMPLATE` writes the
same text from the same parts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_CALL = re.compile(rf"{_OPEN}\s*(.*?)\s*{_CLOSE}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the tool's name and its arguments by name."""

    name: str
    arguments: dict[str, Any]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # spaced as transformers' `tojson` does


def write_calls(content: str, calls: Sequence[Call]) -> str:
    """Return an assistant turn: its words, if any, then its calls."""
    blocks = [f'<tool_call>\n{{"name": {_json(call.name)}, "arguments": {_json(call.arguments)}}}\n</tool_call>'
              for call in calls]
    return "\n".join([content, *blocks] if content else blocks)


def write_tools(content: str, tools: Sequence[Any]) -> str:
    """Return a system turn: its words, if any, then the tools (JSON-ready values, as OpenAI describes them)."""
    if not tools:
        return content
    block = "\n".join(["<tools>", *map(_json, tools), "</tools>"])
    return f"{content}\n\n{block}" if content else block


def read_calls(text: str, known: Collection[str] | None = None) -> tuple[str, list[Call]]:
    """Return the words of an assistant turn and its calls; the inverse of `write_calls` for words without a call.

    A block that holds no call stays among the words, so that nothing is lost and nothing is called by mistake.

    Args:
        text: the turn.
        known: what may be called; a call of something else is none. None: anything.
    """
    words: list[str] = []
    calls: list[Call] = []
    place = 0
    for found in _CALL.finditer(text):
        call = _call(found.group(1))
        if call is not None and (known is None or call.name in known):
            words.append(text[place:found.start()].removesuffix("\n"))
            calls.append(call)
            place = found.end()
    words.append(text[place:])
    return "".join(words), calls


class CallReader:
    """`read_calls` for a turn in pieces: words come as soon as they cannot begin a call, calls when they are whole.

    All words and all calls together are those of `read_calls` on the whole turn.

    Args:
        known: see `read_calls`.
    """

    def __init__(self, known: Collection[str] | None = None) -> None:
        self._known, self._held = known, ""

    def push(self, text: str) -> tuple[str, list[Call]]:
        """Take more of the turn; return new words and new calls."""
        self._held += text
        closed = self._held.rfind(_CLOSE)
        ready = closed + len(_CLOSE) if closed >= 0 else self._safe()
        words, calls = read_calls(self._held[:ready], self._known)
        self._held = self._held[ready:]
        if closed >= 0 and self._held:  # what came after a call may be words
            more, others = self.push("")
            return words + more, calls + others
        return words, calls

    def _safe(self) -> int:
        """Return how many held characters can be no part of a call."""
        opened = self._held.find(_OPEN)
        if opened >= 0:
            return opened - self._held[:opened].endswith("\n")
        mark = f"\n{_OPEN}"
        return len(self._held) - max(size for size in range(len(mark)) for start in (mark[:size], _OPEN[:size])
                                     if self._held.endswith(start))

    def finish(self) -> tuple[str, list[Call]]:
        """Return what is left at the end of the turn."""
        left, self._held = self._held, ""
        return read_calls(left, self._known)


def _call(block: str) -> Call | None:
    try:
        data = json.loads(block)
    except (ValueError, RecursionError):
        return None
    if isinstance(data, dict) and isinstance(data.get("name"), str) and isinstance(data.get("arguments"), dict):
        return Call(data["name"], data["arguments"])
    return None
