"""A commission, the visible steps of its making, and the signed work: `bottega generate MODEL "…"` makes one.

One type of controls serves all media; a family refuses by name the controls it does not understand.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, field_validator, model_validator

from bottega.core.errors import ControlError, suggest
from bottega.core.validate import Strict, validate

Role = Literal["system", "user", "assistant", "tool"]
Sampler = Literal["euler", "heun", "dpm"]


def _from_base64(value: Any) -> Any:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else value
    except (binascii.Error, ValueError):
        raise ValueError("give the bytes of a picture file, in JSON as base64") from None


# The bytes of a PNG, JPEG or WebP file; base64 in JSON.
PictureFile = Annotated[bytes, BeforeValidator(_from_base64),
                        PlainSerializer(lambda data: base64.b64encode(data).decode(), return_type=str,
                                        when_used="json-unless-none")]


class Calls(Strict):
    """Tools of which one must be called.

    Attributes:
        tools: name → JSON schema of its arguments.
        several: whether further calls may follow the first.
    """

    tools: dict[str, dict[str, Any]] = Field(min_length=1)
    several: bool = False


class Format(Strict):
    """The shape an output must have: exactly one of the four.

    Attributes:
        json_schema: a JSON schema.
        regex: a regular expression the whole output matches.
        grammar: a Lark grammar.
        calls: tools, name → JSON schema of its arguments; the output calls one, or where `several` is true some.
    """

    json_schema: dict[str, Any] | None = None
    regex: str | None = None
    grammar: str | None = None
    calls: Calls | None = None

    @model_validator(mode="after")
    def _one(self) -> Format:
        if sum(value is not None for value in (self.json_schema, self.regex, self.grammar, self.calls)) != 1:
            raise ValueError("give exactly one of json_schema, regex, grammar, calls")
        return self


class Controls(Strict):
    """How an output is made. None means unset: the model's own default, then the family's.

    Attributes:
        temperature: 0 takes the most probable token always; 1 is the model's own distribution.
        top_k: keep the k most probable tokens (0: all).
        top_p: keep the smallest set of tokens whose probability reaches p.
        min_p: keep tokens at least this share as probable as the best one.
        repetition_penalty: divide (multiply) positive (negative) logits of tokens seen in prompt or output.
        presence_penalty: subtract once for each token already in the output.
        frequency_penalty: subtract for each time a token is already in the output.
        logit_bias: token id or token text → number added to its logit (-100 forbids, 100 forces).
        seed: same seed, same model, same request: same bytes.
        max_tokens: at most this many new tokens.
        stop: strings that end the output; they are never part of it.
        n: outputs to return.
        best_of: outputs to make; the n with the highest mean log-probability are returned.
        format: JSON schema, regular expression, grammar or calls of tools the output must match.
        guidance_scale: how closely a picture follows its prompt; 1 is the model's own distribution.
        steps: of denoising.
        sampler: how a denoising step is taken (`families/flow.py`).
        negative_prompt: what a picture stays away from.
        size: WIDTHxHEIGHT of a picture, in pixels.
        strength: how much of a given picture is made anew; 0 returns it, 1 keeps nothing.
        rows: of a table; of sequences: entities, each with all its rows; of graphs: how many.
        nodes: of every graph.
        conditions: what every row holds, as texts ("age > 70"), or as column → value, list of values,
            {"min": …, "max": …}, or null for missing.
        balance: one column → level → share of the rows.
        fair: one column of levels → another, which it shall say nothing about: `{"income": "sex"}`.
        seconds, voice, mood: for families of other media; the rest refuse them.
    """

    temperature: float | None = Field(default=None, ge=0, le=10)
    top_k: int | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    presence_penalty: float | None = Field(default=None, ge=-10, le=10)
    frequency_penalty: float | None = Field(default=None, ge=-10, le=10)
    logit_bias: dict[str, float] | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    max_tokens: int | None = Field(default=None, ge=1)
    stop: list[str] | None = None
    n: int | None = Field(default=None, ge=1, le=128)
    best_of: int | None = Field(default=None, ge=1, le=128)
    format: Format | None = None
    guidance_scale: float | None = Field(default=None, ge=0)
    steps: int | None = Field(default=None, ge=1, le=1000)
    sampler: Sampler | None = None
    negative_prompt: str | None = None
    size: str | None = Field(default=None, pattern=r"^\d+x\d+$")
    strength: float | None = Field(default=None, ge=0, le=1)
    seconds: float | None = Field(default=None, gt=0)
    voice: str | None = None
    mood: str | None = None
    rows: int | None = Field(default=None, ge=1, le=100_000_000)
    nodes: int | None = Field(default=None, ge=1, le=100_000)
    conditions: dict[str, Any] | list[str] | None = None
    balance: dict[str, dict[str, float]] | None = None
    fair: dict[str, str] | None = None

    @field_validator("stop")
    @classmethod
    def _stop(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and any(not text for text in value):
            raise ValueError("a stop string must not be empty")
        return value

    @model_validator(mode="after")
    def _enough(self) -> Controls:
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise ValueError(f"best_of ({self.best_of}) must be at least n ({self.n or 1})")
        return self

    @staticmethod
    def parse(data: dict[str, Any], *, where: str = "controls") -> Controls:
        """Check plain data.

        Raises:
            ControlError: naming the control, its value and the allowed range.
        """
        return validate(Controls, data, where=where, error=ControlError)

    def over(self, defaults: Controls) -> Controls:
        """Return these controls with unset ones taken from `defaults`.

        Raises:
            ControlError: the two do not fit together (`n` above the defaults' `best_of`).
        """
        return Controls.parse({**defaults.model_dump(exclude_none=True), **self.model_dump(exclude_none=True)},
                              where="controls over the model's defaults")

    def require(self, understood: frozenset[str], family: str) -> None:
        """Refuse what a family cannot obey.

        Raises:
            ControlError: naming the first set control outside `understood`.
        """
        for name in self.model_dump(exclude_none=True):
            if name not in understood:
                raise ControlError(f"a {family} model does not understand the control '{name}'",
                                   fix=f"leave it out; {suggest(name, understood)}")


class Message(Strict):
    """One turn of a conversation."""

    role: Role
    content: str


class Request(Strict):
    """What is wanted: a prompt, a conversation, the two sides of a gap to fill, or a picture to start from.

    Attributes:
        prompt: text to continue, or what a picture shows.
        messages: conversation to answer (exclusive with `prompt`).
        suffix: text that must follow the output of `prompt` (fill in the middle).
        image: picture file to vary (with an empty prompt) or to lead to the prompt.
        mask: picture file of the image's size that says where to draw anew: its transparent pixels, or without
            transparency its bright ones. Everything else is kept.
        toward: a second prompt; the n pictures walk from `prompt` to it.
        controls: how to make it.
        alternatives: how many other candidates each step shows (0 to 20).
    """

    prompt: str | None = None
    messages: list[Message] | None = None
    suffix: str | None = None
    image: PictureFile | None = None
    mask: PictureFile | None = None
    toward: str | None = None
    controls: Controls = Controls()
    alternatives: int = Field(default=0, ge=0, le=20)

    @model_validator(mode="after")
    def _one(self) -> Request:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        if self.suffix is not None and self.prompt is None:
            raise ValueError("suffix needs prompt")
        if self.messages is not None and not self.messages:
            raise ValueError("messages must not be empty")
        if self.prompt is None and (self.image is not None or self.toward is not None):
            raise ValueError("image and toward need prompt, which may be empty")
        if self.mask is not None and self.image is None:
            raise ValueError("mask needs image")
        if self.toward is not None and (self.image is not None or (self.controls.n or 1) < 2):
            raise ValueError("toward needs n of at least 2, and no image")
        return self

    @property
    def of_pictures(self) -> str | None:
        """Name of the first field that only a model of pictures understands, if one is set."""
        return next((name for name in ("image", "mask", "toward") if getattr(self, name) is not None), None)


@dataclass(frozen=True, slots=True)
class Alternative:
    """A candidate for one position: model log-probability before, probability after the controls."""

    token: int
    text: str
    logprob: float
    probability: float


@dataclass(frozen=True, slots=True)
class Step:
    """One visible step of making an output: a token, a denoising frame, a table row.

    Attributes:
        output: which of the n outputs (0-based).
        index: position in that output.
        kind: what was made.
        text: new text that is safe to show now (never part of a stop string or of a UTF-8 character).
        token: token id, for `kind="token"`.
        token_text: the token's own text, lossy at byte level.
        logprob: the model's log-probability of it before any control (natural log).
        probability: its probability after the controls, from which it was drawn.
        alternatives: other candidates, most probable first.
        changes: what each control did here, in words.
        finish: why this output ended, on its last step: `stop`, `length`, `end`, or `filtered` by a check of the
            model's own (then `data` is None).
        data: frame, row or latent of other media.
    """

    output: int
    index: int
    kind: Literal["token", "frame", "row"] = "token"
    text: str = ""
    token: int | None = None
    token_text: str = ""
    logprob: float | None = None
    probability: float | None = None
    alternatives: tuple[Alternative, ...] = ()
    changes: tuple[str, ...] = ()
    finish: Literal["stop", "length", "end", "filtered"] | None = None
    data: Any = None


@dataclass(slots=True)
class Output:
    """One finished output with the steps that made it; `score` is its mean token log-probability."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    finish: str = ""
    score: float = 0.0


@dataclass(slots=True)
class Result:
    """The signed work: outputs, what they cost, and where they came from.

    Attributes:
        outputs: best first.
        prompt_tokens: tokens read; `new_tokens`: tokens made, all candidates counted.
        seed: the seed that makes the same bytes again.
        seconds: wall time.
        model: digest of the bundle.
        lineage: digest of the model, of the request and the settings, ready for JSON.
    """

    outputs: list[Output]
    prompt_tokens: int
    new_tokens: int
    seed: int
    seconds: float
    model: str
    lineage: dict[str, Any]
