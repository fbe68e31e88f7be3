"""Conversations as others write them to turns of our own: OpenAI's messages, ShareGPT, Alpaca, hh-rlhf transcripts.

Used by `forms`, which tells them apart; `bottega data prepare` reads through both. What cannot be learnt from is
refused with a reason that the dataset's card counts, and a detail that names the turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from bottega.core.errors import suggest
from bottega.core.tool_text import Call, read_calls, write_calls, write_tools
from bottega.data.formats import Unreadable

Turn = dict[str, Any]  # role, content and, where nothing is to be learnt from it, weight 0

_OPENAI = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool",
           "function": "tool"}
_SHAREGPT = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
             "chatgpt": "assistant", "model": "assistant", "bot": "assistant", "function_call": "assistant",
             "observation": "tool", "tool": "tool", "function_response": "tool"}
_SPEAKER = re.compile(r"\n\n(Human|Assistant):[ \t]?")


def refuse(reason: str, detail: str) -> NoReturn:
    """Leave a row out for a reason that is counted."""
    raise Unreadable(reason, detail)


def messages(value: Any, tools: Any = None, *, called: bool = True) -> list[Turn]:
    """Return the turns of OpenAI's form: `role` and `content` (text, or a list of text parts), `tool_calls`, `weight`.

    Args:
        value: the list of messages.
        tools: what may be called; written into the system turn.
        called: a tool's result must follow the call that asked for it.

    Raises:
        Unreadable: a turn is malformed, has an unknown role, nothing in it, or answers no call.
    """
    if not isinstance(value, list) or not value:
        refuse("malformed", "'messages' is not a list of turns")
    turns: list[Turn] = []
    open_calls: list[str | None] = []  # ids of the calls that wait for a result
    results: list[tuple[int, Turn]] = []
    for number, message in enumerate(value, 1):
        if not isinstance(message, Mapping):
            refuse("malformed", f"turn {number} is {type(message).__name__}, not an object with role and content")
        role = _role(message.get("role"), _OPENAI, number, "role")
        calls = _openai_calls(message, number) if role == "assistant" else []
        content = _text(message.get("content"), number, optional=bool(calls))
        if role == "tool":
            place = _answered(message, open_calls, number) if called else len(results)
            results.append((place, _turn(role, content, number)))
            continue
        turns += _in_order(results)
        results = []
        text = write_calls(content, [call for _, call in calls])
        open_calls = [id for id, _ in calls]
        if role == "assistant" and not calls:  # calls may be written into the content already
            open_calls.extend([None] * len(read_calls(text)[1]))
        turns.append(_turn(role, text, number, _unheard(message, role, number)))
    return with_tools(turns + _in_order(results), tools)


def share_gpt(value: Any, system: Any = None, tools: Any = None, *, where: str = "conversations") -> list[Turn]:
    """Return the turns of ShareGPT's form: `from` and `value`, a person and the assistant in turn.

    Args:
        value: the list of turns; `function_call` is a call the assistant makes, `observation` its result.
        system: text of the row's own key, where there is one.
        tools: what may be called, a list or its JSON.
        where: the key they stand under.

    Raises:
        Unreadable: a turn is malformed, of an unknown speaker, empty or out of turn.
    """
    if not isinstance(value, list) or not value:
        refuse("malformed", f"'{where}' is not a list of turns")
    turns: list[Turn] = [_turn("system", system, 0)] if isinstance(system, str) and system.strip() else []
    asked = False  # whether it is the assistant's turn
    called = False
    for number, item in enumerate(value, 1):
        if not isinstance(item, Mapping):
            refuse("malformed", f"turn {number} is {type(item).__name__}, not an object with from and value")
        role = _role(item.get("from"), _SHAREGPT, number, "from")
        content = _text(item.get("value"), number)
        if role == "system":
            if turns:
                refuse("turn-order", f"turn {number} is the system's, which comes first")
            turns.append(_turn(role, content, number))
            continue
        if (role == "assistant") != asked:
            refuse("turn-order", f"turn {number} is of {item['from']!r} where "
                                 f"{'the assistant answers' if asked else 'a person or a tool speaks'}")
        if role == "tool" and not called:
            refuse("tool-order", f"turn {number} is a tool's result that no call asked for")
        called = item["from"] == "function_call"
        if called:
            content = write_calls("", _written_calls(content, number))
        asked = not asked
        turns.append(_turn(role, content, number, {} if role != "assistant" else _unheard(item, role, number)))
    return with_tools(turns, tools)


def alpaca(data: Mapping[str, Any], question: str, answer: str | None) -> list[Turn]:
    """Return the turns of an instruction, its input and its answer, with `system` and `history` where they are given.

    Args:
        data: the row.
        question: key of the instruction.
        answer: key of the answer; None leaves it out.

    Raises:
        Unreadable: one of them is empty or no text.
    """
    turns: list[Turn] = []
    system, history = data.get("system"), data.get("history")
    if isinstance(system, str) and system.strip():
        turns.append({"role": "system", "content": system})
    for number, pair in enumerate(history if isinstance(history, list) else [], 1):
        if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            refuse("malformed", f"entry {number} of 'history' is not a question with its answer")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    asked, extra = data[question], data.get("input")
    asked = f"{asked}\n\n{extra}" if isinstance(extra, str) and extra.strip() else asked
    for role, key, text in (("user", question, asked), ("assistant", answer, data[answer] if answer else None)):
        if key is None:
            continue
        if not isinstance(text, str) or not text.strip():
            refuse("empty-content", f"'{key}' is empty")
        turns.append({"role": role, "content": text})
    return turns


def transcript(text: str) -> list[Turn]:
    """Return the turns of hh-rlhf's form: `\\n\\nHuman: …\\n\\nAssistant: …`.

    Raises:
        Unreadable: it does not begin so, or a turn is empty.
    """
    parts = _SPEAKER.split(text)
    if len(parts) < 3 or parts[0].strip():
        refuse("malformed", "the transcript does not begin with 'Human:'")
    roles = {"Human": "user", "Assistant": "assistant"}
    return [_turn(roles[speaker], said.strip(), number)
            for number, (speaker, said) in enumerate(zip(parts[1::2], parts[2::2], strict=True), 1)]


def is_transcript(value: Any) -> bool:
    """Tell whether a text is a transcript of hh-rlhf's form."""
    return isinstance(value, str) and value.startswith("\n\nHuman:")


def with_tools(turns: list[Turn], tools: Any) -> list[Turn]:
    """Return turns whose system turn names the tools; one is added where there is none.

    Raises:
        Unreadable: the tools are no list of objects, nor the JSON of one.
    """
    if isinstance(tools, str):
        if not tools.strip():
            return turns
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError) as error:
            refuse("malformed", f"'tools' is not JSON: {error}")
    if not tools:
        return turns
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        refuse("malformed", "'tools' is not a list of objects")
    if turns and turns[0]["role"] == "system":
        return [{"role": "system", "content": write_tools(turns[0]["content"], tools)}, *turns[1:]]
    return [{"role": "system", "content": write_tools("", tools)}, *turns]


def _role(value: Any, known: Mapping[str, str], number: int, key: str) -> str:
    if value is None:
        refuse("missing-key", f"turn {number} has no '{key}'")
    if not isinstance(value, str) or value not in known:
        refuse("unknown-role", f"turn {number} has the role {value!r}; {suggest(str(value), known)}")
    return known[value]


def _text(content: Any, number: int, *, optional: bool = False) -> str:
    """Return a content given as text or as a list of text parts."""
    if content is None:
        if optional:
            return ""
        refuse("missing-key", f"turn {number} has no content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        for part in content:
            if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
                refuse("malformed", f"turn {number} has a part of the type {kind!r}; only text is learnt from")
        return "".join(part["text"] for part in content)
    refuse("malformed", f"the content of turn {number} is {type(content).__name__}, not text")


def _turn(role: str, content: str, number: int, more: Turn | None = None) -> Turn:
    if role in ("user", "assistant") and not content.strip():
        refuse("empty-content", f"turn {number} ({role}) is empty")
    return {"role": role, "content": content, **(more or {})}


def _unheard(message: Mapping[str, Any], role: str, number: int) -> Turn:
    """Return `{"weight": 0}` for an assistant turn that is not to be learnt from."""
    weight = message.get("weight", 1)
    if weight not in (0, 1):
        refuse("malformed", f"turn {number} has the weight {weight!r}, which is neither 0 nor 1")
    return {"weight": 0} if role == "assistant" and (weight == 0 or message.get("train") is False) else {}


def _openai_calls(message: Mapping[str, Any], number: int) -> list[tuple[str | None, Call]]:
    """Return the ids and calls of an assistant message, the older `function_call` included."""
    given = message.get("tool_calls") or ([message["function_call"]] if message.get("function_call") else [])
    if not isinstance(given, list):
        refuse("malformed", f"'tool_calls' of turn {number} is not a list")
    found = []
    for item in given:
        made = item.get("function", item) if isinstance(item, Mapping) else item
        found.append((item.get("id") if isinstance(item, Mapping) else None, _call(made, number)))
    return found


def _written_calls(text: str, number: int) -> list[Call]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        refuse("malformed", f"the call of turn {number} is not JSON")
    return [_call(item, number) for item in (data if isinstance(data, list) else [data])]


def _call(data: Any, number: int) -> Call:
    name = data.get("name") if isinstance(data, Mapping) else None
    if not isinstance(name, str) or not name:
        refuse("missing-key", f"a call of turn {number} has no 'name'")
    arguments = data.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            refuse("malformed", f"the arguments of {name} in turn {number} are not JSON")
    if not isinstance(arguments, Mapping):
        refuse("malformed", f"the arguments of {name} in turn {number} are not an object")
    return Call(name, dict(arguments))


def _answered(message: Mapping[str, Any], waiting: list[str | None], number: int) -> int:
    """Return which of the waiting calls a tool's result answers, and strike it off."""
    named = message.get("tool_call_id")
    for place, id in enumerate(waiting):
        if id != "" and (named is None or id is None or id == named):
            waiting[place] = ""
            return place
    refuse("tool-order", f"turn {number} is a tool's result that no call "
                         + (f"asked for ({named!r})" if named is not None else "asked for"))


def _in_order(results: list[tuple[int, Turn]]) -> list[Turn]:
    return [turn for _, turn in sorted(results, key=lambda item: item[0])]
