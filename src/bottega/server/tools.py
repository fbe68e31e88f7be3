"""Tools in chat: what may be called and what was called, checked, and written into the turns as a model learnt them.

The text is that of fine-tuning (`core.tool_text`), by the same function that reads OpenAI's messages for training.
`pytest tests/server/test_tools.py` lets the official client call a tool.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bottega.core.errors import suggest
from bottega.core.request import Calls
from bottega.core.tool_text import Call
from bottega.data.formats import Unreadable
from bottega.data.turns import messages as as_turns
from bottega.server.errors import shown

_NOTHING: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
_NAME = r"^[a-zA-Z0-9_-]{1,64}$"


class FunctionBody(BaseModel):
    """A function that may be called."""

    model_config = ConfigDict(strict=True)
    name: Annotated[str, Field(pattern=_NAME)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolBody(BaseModel):
    """A tool; a model is shown it as it was sent."""

    model_config = ConfigDict(strict=True)
    type: Literal["function"]
    function: FunctionBody


class NamedBody(BaseModel):
    """The name of a function."""

    model_config = ConfigDict(strict=True)
    name: str


class ChoiceBody(BaseModel):
    """The function that must be called."""

    model_config = ConfigDict(strict=True)
    type: Literal["function"]
    function: NamedBody


Choice = Literal["none", "auto", "required"] | ChoiceBody


class CalledBody(BaseModel):
    """What was called, its arguments as the JSON of an object."""

    model_config = ConfigDict(strict=True)
    name: Annotated[str, Field(pattern=_NAME)]
    arguments: str

    @field_validator("arguments")
    @classmethod
    def _object(cls, value: str) -> str:
        try:
            read = json.loads(value or "{}")
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict):
            raise ValueError("give the JSON of an object, as text")
        return value


class CallBody(BaseModel):
    """A call in an assistant's turn."""

    model_config = ConfigDict(strict=True)
    id: str
    type: Literal["function"] = "function"
    function: CalledBody


def fault_of(tools: Any) -> str | None:
    """Return what is wrong with a list of tools, None when nothing is."""
    if not isinstance(tools, list) or len(tools) > 128:
        return f"tools: {shown(tools)} is not allowed; give a list of at most 128 tools"
    for number, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "function":
            return f"a tool of type {shown(kind)} is not supported; describe it as a function"
        try:
            ToolBody.model_validate(tool)
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"]))
            return f"tools[{number}]{place and f'.{place}'}: {shown(fault['input'])} is not allowed. {fault['msg']}"
    names = [tool["function"]["name"] for tool in tools]
    twice = next((name for name in names if names.count(name) > 1), None)
    return None if twice is None else f"tools: two are named {shown(twice)}; give each a name of its own"


def choice_fault(choice: Any, tools: Sequence[dict[str, Any]]) -> str | None:
    """Return why a `tool_choice` cannot be had, None when it can; the tools have no fault."""
    if choice in (None, "none", "auto"):
        return None
    if choice != "required":
        try:
            name = ChoiceBody.model_validate(choice).function.name
        except ValidationError:
            return (f"tool_choice {shown(choice)} is not supported; use 'none', 'auto', 'required' or "
                    '{"type": "function", "function": {"name": …}}')
        names = [tool["function"]["name"] for tool in tools]
        if name not in names:
            return f"tool_choice: no tool is named {shown(name)}; {suggest(name, names)}"
    return None if tools else "tool_choice 'required' needs tools to choose from; give tools, or leave it out"


def forced(choice: Choice | None, tools: Sequence[dict[str, Any]], *, several: bool) -> Calls | None:
    """Return what must be called; None where the model chooses whether it calls.

    Args:
        choice: as it was sent, checked.
        tools: what may be called, as it was sent, checked.
        several: whether more than one call may be made where any tool must be called.

    Raises:
        ValueError: the parameters of a tool are not those of an object; the message names it.
    """
    if choice in (None, "none", "auto"):
        return None
    name = choice.function.name if isinstance(choice, ChoiceBody) else None
    found: dict[str, dict[str, Any]] = {}
    for number, tool in enumerate(tools):
        function = tool["function"]
        if name in (None, function["name"]):
            schema = function.get("parameters")
            found[function["name"]] = _NOTHING if schema is None else schema
            kind = found[function["name"]].get("type", "object")
            if "object" not in (kind if isinstance(kind, list) else [kind]):
                raise ValueError(f"tools[{number}].function.parameters: the type {shown(kind)} is not allowed; the "
                                 "arguments of a call are an object")
    return Calls(tools=found, several=several and name is None)


def written(messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a conversation as turns of plain text: tools in the system turn, calls in the assistant's.

    Args:
        messages: OpenAI's, checked: `role`, `content`, `tool_calls`, `tool_call_id`.
        tools: what may be called, as it was sent.

    Raises:
        ValueError: a turn is empty, or a tool's result answers no call; the message names the turn.
    """
    try:
        turns = as_turns(list(messages), list(tools))
    except Unreadable as fault:
        raise ValueError(fault.detail) from None
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]


def plain_call(call: Call) -> dict[str, Any]:
    """Return a call as clients read it, with an id of its own."""
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}}
