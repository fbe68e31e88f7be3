"""What clients may send, under OpenAI's names; `curl localhost:8400/openapi.json` shows it.

An unknown field is refused with the nearest known name, a field of OpenAI's that is not supported is refused unless it
has the value that changes nothing, so that no wish is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from bottega.core.errors import suggest
from bottega.core.request import Calls, Controls, Format, Message
from bottega.server.errors import PARAMS, ApiError, shown
from bottega.server.formats import FORMATS, ResponseFormat, as_format
from bottega.server.tools import CallBody, CalledBody, Choice, choice_fault, fault_of, forced, written

Number = float | None
Count = int | None
_ROLES = {"developer": "system", "function": "tool"}


def refuse(problem: str, param: str) -> PydanticCustomError:
    """Return a fault of validation with its own words."""
    return PydanticCustomError("field", "{problem}", {"problem": problem, "param": param})


class Body(BaseModel):
    """Base of all request bodies.

    Attributes:
        harmless: documented fields that need no support → the values that change nothing (None always may stand).
        ignored: documented fields that have no effect on the answer.
    """

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    harmless: ClassVar[dict[str, tuple[Any, ...]]] = {}
    ignored: ClassVar[frozenset[str]] = frozenset({"user", "metadata", "safety_identifier"})

    @model_validator(mode="before")
    @classmethod
    def _fields(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kept = {}
        for name, value in data.items():
            if name in cls.model_fields:
                kept[name] = value
            elif name in cls.harmless:
                if value is not None and value not in cls.harmless[name]:
                    raise refuse(f"{name} is not supported; {shown(value)} was given. Leave it out", name)
            elif name not in cls.ignored:
                known = [*cls.model_fields, *cls.harmless]
                raise refuse(f"there is no field {shown(name)}; {suggest(name, known)}", str(name)[:80])
        return kept


class Part(BaseModel):
    """A piece of a message's content."""

    model_config = ConfigDict(strict=True)
    type: Literal["text"]
    text: str


class MessageBody(BaseModel):
    """One turn; what clients echo from earlier answers (refusal, annotations …) is ignored."""

    model_config = ConfigDict(strict=True)
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    tool_calls: Annotated[list[CallBody], Field(max_length=128)] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _text_only(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for name in ("function_call", "audio"):
                if data.get(name):
                    raise refuse(f"{name} is not supported; give the message's content as text", name)
            if data.get("tool_calls") and data.get("role") != "assistant":
                raise refuse(f"tool_calls belong to the assistant, this turn's role is {shown(data.get('role'))}",
                             "tool_calls")
            if data.get("content") is None and not data.get("tool_calls"):
                raise refuse("the turn says nothing; give its content as text", "content")
            parts = data.get("content")
            for part in parts if isinstance(parts, list) else []:
                if isinstance(part, dict) and isinstance(part.get("type"), str) and part["type"] != "text":
                    raise refuse(f"a content part of type {shown(part['type'])} is not supported; this model takes "
                                 "text only", "content")
        return data

    @property
    def text(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())

    def message(self) -> Message:
        """Return the turn as the lower floors know it."""
        text = self.text
        return Message.model_validate({"role": _ROLES.get(self.role, self.role), "content": text})


class StreamOptions(BaseModel):
    """What a stream sends besides the text."""

    model_config = ConfigDict(strict=True)
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Origin(Body):
    """What Bottega understands beyond OpenAI's interface.

    Attributes:
        door: where the request comes from.
    """

    door: Literal["api", "studio"] = "api"


class Extension(Origin):
    """The same for texts.

    Attributes:
        alternatives: how many other candidates are kept for each token, for looking inside later.
    """

    alternatives: Annotated[int, Field(ge=0, le=20)] = 0


class Sampling(Body):
    """What chat and completions have in common; ranges are those of the controls (see `bottega generate --help`)."""

    model: str | None = None
    frequency_penalty: Number = None
    presence_penalty: Number = None
    repetition_penalty: Number = None
    logit_bias: dict[str, float] | None = None
    max_tokens: Count = None
    n: Count = None
    best_of: Count = None
    seed: Count = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Number = None
    top_k: Count = None
    top_p: Number = None
    min_p: Number = None
    response_format: ResponseFormat | None = None
    bottega: Extension = Extension()

    def controls(self) -> Controls:
        """Return the controls that are asked for.

        Raises:
            ApiError: 400 that names the field, its value and what is allowed.
        """
        if self.stream_options is not None and not self.stream:
            raise ApiError(400, "stream_options is for streams only; set stream to true or leave it out",
                           param="stream_options")
        wish = {name: getattr(self, name) for name in Controls.model_fields if hasattr(self, name)}
        wish["n"] = 1 if self.n is None else self.n
        wish["stop"] = [self.stop] if isinstance(self.stop, str) else self.stop
        wish["format"] = self._format()
        return as_controls(wish, self._sent)

    def _format(self) -> Format | None:
        """Return the shape that the answer must have."""
        return as_format(self.response_format)

    def _sent(self, name: str) -> str:
        """Return the name under which the client sent a control."""
        return name


def as_controls(wish: dict[str, Any], sent: Callable[[str], str] = str) -> Controls:
    """Return the controls of these names and values; None is not set.

    Args:
        wish: by the lower floors' names.
        sent: returns the name under which the client sent a control.

    Raises:
        ApiError: 400 that names the field, its value and what is allowed.
    """
    try:
        return Controls.model_validate({name: value for name, value in wish.items() if value is not None})
    except ValidationError as error:
        fault = error.errors()[0]
        name = str(fault["loc"][0]) if fault["loc"] else "best_of"
        name = PARAMS.get(name, sent(name))
        message = fault["msg"].removeprefix("Value error, ")
        raise ApiError(400, f"{name}: {shown(fault['input'])} is not allowed. {message}", param=name) from None


class ChatBody(Sampling):
    """Body of `POST /v1/chat/completions`."""

    ignored = Body.ignored | {"prompt_cache_key", "prompt_cache_retention"}
    harmless = {"audio": (), "function_call": ("none", "auto"), "functions": ([],), "modalities": (["text"],),
                "prediction": (), "reasoning_effort": ("none",), "service_tier": ("auto", "default"),
                "store": (False,), "verbosity": ("medium",), "web_search_options": ()}

    messages: Annotated[list[MessageBody], Field(min_length=1)]
    max_completion_tokens: Count = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _tools(cls, data: Any) -> Any:
        if isinstance(data, dict):
            fault = fault_of(data["tools"]) if data.get("tools") is not None else None
            if fault:
                raise refuse(fault, "tools")
            fault = choice_fault(data.get("tool_choice"), data.get("tools") or [])
            if fault:
                raise refuse(fault, "tool_choice")
        return data

    @property
    def offered(self) -> list[dict[str, Any]]:
        """The tools that may be called."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def forced(self) -> Calls | None:
        """What must be called, if something must be.

        Raises:
            ApiError: 400 that names the tool whose parameters are those of no object.
        """
        try:
            return forced(self.tool_choice, self.offered, several=self.parallel_tool_calls is not False)
        except ValueError as error:
            raise ApiError(400, str(error), param="tools") from None

    def turns(self) -> list[Message]:
        """Return the conversation as the lower floors know it, tools and calls written into its turns.

        Raises:
            ApiError: 400 that names the turn.
        """
        if self.offered and self.response_format is not None and self.response_format.type != "text":
            raise ApiError(400, "response_format and tools cannot be given together: a call has a form of its own; "
                           "leave one out, or set tool_choice to 'none'", param="response_format")
        if not self.offered and not any(message.tool_calls for message in self.messages):
            return [message.message() for message in self.messages]
        plain = [{**message.model_dump(exclude_none=True), "content": message.text} for message in self.messages]
        try:
            return [Message.model_validate(turn) for turn in written(plain, self.offered)]
        except ValueError as error:
            raise ApiError(400, f"messages: {error}", param="messages") from None

    def controls(self) -> Controls:
        """Return the controls that are asked for; see `Sampling.controls`.

        Raises:
            ApiError: 400 that names the field.
        """
        if self.top_logprobs and not self.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
        if self.max_completion_tokens is not None:
            if self.max_tokens is not None:
                raise ApiError(400, "give either max_completion_tokens or max_tokens", param="max_tokens")
            return Sampling.controls(self.model_copy(update={"max_tokens": self.max_completion_tokens}))
        return super().controls()

    def _format(self) -> Format | None:
        return as_format(self.response_format) if self.forced is None else Format(calls=self.forced)

    def _sent(self, name: str) -> str:
        return "max_completion_tokens" if name == "max_tokens" and self.max_completion_tokens is not None else name


class CompletionBody(Sampling):
    """Body of `POST /v1/completions`."""

    harmless = {"echo": (False,)}

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=128)]
    suffix: str | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _text_only(cls, data: Any) -> Any:
        return no_tokens(data, "prompt")


class EmbeddingsBody(Body):
    """Body of `POST /v1/embeddings`."""

    harmless = {"dimensions": ()}

    model: str | None = None
    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _text_only(cls, data: Any) -> Any:
        return no_tokens(data, "input")


class ModerationBody(Body):
    """Body of `POST /v1/moderations`; the model is always the workshop's guard."""

    model: str | None = None
    input: str | Annotated[list[str | Part], Field(min_length=1, max_length=128)]


def no_tokens(data: Any, name: str) -> Any:
    """Pass a body on unless a field holds token ids.

    Raises:
        PydanticCustomError: it does.
    """
    value = data.get(name) if isinstance(data, dict) else None
    if isinstance(value, list) and value and isinstance(value[0], int | list):
        raise refuse(f"{name}: token ids are not supported; send text", name)
    return data


_MODELS: list[type[BaseModel]] = [ChatBody, CompletionBody, EmbeddingsBody, ModerationBody, MessageBody, Part,
                                  CallBody, CalledBody, StreamOptions, Extension, *FORMATS]
NAMES = frozenset(field.alias or name for model in _MODELS for name, field in model.model_fields.items())
