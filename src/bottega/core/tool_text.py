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
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_SPACE = re.compile(r"\s*")
_read_json = json.JSONDecoder().raw_decode
_SPACED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}  # for llguidance, as `_json`


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the tool's name and its arguments by name."""

    name: str
    arguments: dict[str, Any]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # spaced as transformers' `tojson` does


def _block(name: str, arguments: str) -> str:
    return f'{_OPEN}\n{{"name": {name}, "arguments": {arguments}}}\n{_CLOSE}'


def write_calls(content: str, calls: Sequence[Call]) -> str:
    """Return an assistant turn: its words, if any, then its calls."""
    blocks = [_block(_json(call.name), _json(call.arguments)) for call in calls]
    return "\n".join([content, *blocks] if content else blocks)


def call_grammar(tools: Mapping[str, Mapping[str, Any]], *, several: bool = False) -> str:
    """Return the Lark grammar of turns that `write_calls` writes: calls of these tools, without words before them.

    Args:
        tools: name → JSON schema of its arguments.
        several: whether further calls may follow the first.
    """
    # a name stands in the grammar as JSON does in a turn; llguidance reads a schema in place
    rules = []
    for number, (name, schema) in enumerate(tools.items()):
        before, after = _block(_json(name), "\0").split("\0")
        rules += [f"call{number}: {json.dumps(before)} arguments{number} {json.dumps(after)}",
                  f"arguments{number}: %json {json.dumps({**schema, 'type': 'object', 'x-guidance': _SPACED})}"]
    start = 'start: call ("\\n" call)*' if several else "start: call"
    return "\n".join([start, "call: " + " | ".join(f"call{number}" for number in range(len(tools))), *rules, ""])


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
    words, calls, _ = _read(text, known, whole=True)
    return words, calls


def _read(text: str, known: Collection[str] | None, *, whole: bool) -> tuple[str, list[Call], int]:
    """Return words, calls, and how many characters those are: all of a whole turn, else of it what is decided."""
    words: list[str] = []
    calls: list[Call] = []
    place = start = 0
    while (opened := text.find(_OPEN, start)) >= 0:
        call, end = _read_block(text, opened)
        if end is None and not whole:
            stop = opened - text[place:opened].endswith("\n")
            return "".join([*words, text[place:stop]]), calls, stop
        # a mark that closes nothing: what follows it is read on
        start = end if end is not None else max(text.find(_CLOSE, opened), opened) + 1
        if call is not None and (known is None or call.name in known):
            words.append(text[place:opened].removesuffix("\n"))
            calls.append(call)
            place = start
    read = len(text) if whole else len(text) - _opening(text[place:])
    return "".join([*words, text[place:read]]), calls, read


def _opening(words: str) -> int:
    """Return how many characters at the end of some words may begin a call."""
    mark = f"\n{_OPEN}"
    return max(size for size in range(len(mark)) for start in (mark[:size], _OPEN[:size]) if words.endswith(start))


def _read_block(text: str, opened: int) -> tuple[Call | None, int | None]:
    """Return the call whose mark opens at a place, None where the block holds none, and where the block ends.

    The end is None where more text may still decide. A closing mark inside a JSON string closes nothing.
    """
    begin = _end_of_space(text, opened + len(_OPEN))
    try:
        data, end = _read_json(text, begin)
        end = _end_of_space(text, end)
        if text.startswith(_CLOSE, end):
            return _call(data), end + len(_CLOSE)
        if _CLOSE.startswith(text[end:]):
            return None, None
    except json.JSONDecodeError as error:
        if error.msg.startswith("Unterminated string"):
            return None, None
        end = error.pos
    except (ValueError, RecursionError):  # a number of too many digits, too many brackets
        end = begin
    closed = text.find(_CLOSE, end)
    return None, closed + len(_CLOSE) if closed >= 0 else None


def _end_of_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


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
        words, calls, read = _read(self._held, self._known, whole=False)
        self._held = self._held[read:]
        return words, calls

    def finish(self) -> tuple[str, list[Call]]:
        """Return what is left at the end of the turn."""
        left, self._held = self._held, ""
        return read_calls(left, self._known)


def _call(data: Any) -> Call | None:
    if isinstance(data, dict) and isinstance(data.get("name"), str) and isinstance(data.get("arguments"), dict):
        return Call(data["name"], data["arguments"])
    return None
