"""What shape an answer must have: `response_format` as OpenAI writes it, and two kinds more."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bottega.core.request import Format


class JsonSchema(BaseModel):
    """A JSON schema the output must match."""

    model_config = ConfigDict(strict=True)
    name: str = ""
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class TextFormat(BaseModel):
    """Free text."""

    type: Literal["text"]


class ObjectFormat(BaseModel):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaFormat(BaseModel):
    """JSON by a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class RegexFormat(BaseModel):
    """Text that a regular expression matches as a whole."""

    type: Literal["regex"]
    regex: str


class GrammarFormat(BaseModel):
    """Text by a Lark grammar."""

    type: Literal["grammar"]
    grammar: str


ResponseFormat = Annotated[TextFormat | ObjectFormat | SchemaFormat | RegexFormat | GrammarFormat,
                           Field(discriminator="type")]
FORMATS: list[type[BaseModel]] = [JsonSchema, SchemaFormat, RegexFormat, GrammarFormat]


def as_format(wish: ResponseFormat | None) -> Format | None:
    """Return the format as the lower floors know it; None for free text."""
    if isinstance(wish, ObjectFormat):
        return Format(json_schema={"type": "object"})
    if isinstance(wish, SchemaFormat):
        return Format(json_schema=wish.json_schema.schema_)
    if isinstance(wish, RegexFormat):
        return Format(regex=wish.regex)
    return Format(grammar=wish.grammar) if isinstance(wish, GrammarFormat) else None
