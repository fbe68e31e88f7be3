"""What clients get back, for `/openapi.json`; routes write their JSON themselves, `test_openapi.py` compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bottega.core.table import Kind

Finish = Literal["stop", "length", "content_filter"]


class Answer(BaseModel):
    """Base of all answers: nothing comes that is not described."""

    model_config = ConfigDict(extra="forbid")


class Usage(Answer):
    """Tokens read and made."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Told(Answer):
    """What Bottega tells beyond OpenAI's answer; `outputs` are ids for feedback, in the order of the choices."""

    seed: int
    model_digest: str
    outputs: list[str]
    verdicts: list[dict[str, Any]]


class Called(Answer):
    """The function that is called, its arguments as JSON."""

    name: str
    arguments: str


class ToolCall(Answer):
    """One call of a tool that was offered."""

    id: str
    type: Literal["function"]
    function: Called


class Reply(Answer):
    """The answering turn; `content` is null where it only calls, `tool_calls` is there where it does."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCall] | None = None


class ChatChoice(Answer):
    """One of the answers."""

    index: int
    message: Reply
    logprobs: dict[str, Any] | None
    finish_reason: Finish | Literal["tool_calls"]


class TextChoice(Answer):
    """One of the continuations."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Finish


class Made(Answer):
    """What chat and completions have in common."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: Usage
    bottega: Told


class ChatAnswer(Made):
    """Answer of `POST /v1/chat/completions`."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class CompletionAnswer(Made):
    """Answer of `POST /v1/completions`."""

    object: Literal["text_completion"]
    choices: list[TextChoice]


class PictureTokens(Answer):
    """What a kind of content took."""

    image_tokens: int
    text_tokens: int


class PictureUsage(Answer):
    """A picture counts as one token that was made; none are counted for what was read."""

    input_tokens: int
    input_tokens_details: PictureTokens
    output_tokens: int
    output_tokens_details: PictureTokens
    total_tokens: int


class PictureData(Answer):
    """One picture: the base64 of its PNG file, or a link to it."""

    b64_json: str | None
    url: str | None
    revised_prompt: None


class PicturesAnswer(Answer):
    """Answer of `POST /v1/images/generations`, `/edits` and `/variations`."""

    created: int
    background: Literal["opaque"]
    output_format: Literal["png"]
    size: str
    data: list[PictureData]
    usage: PictureUsage
    bottega: Told


class TableUsage(Usage):
    """A row counts as one token that was made; none are counted for what was asked."""

    rows: int


class GraphUsage(Usage):
    """A graph counts as one token that was made; none are counted for what was asked."""

    graphs: int


class MadeGraph(Answer):
    """A graph: types of nodes, and edges as [node, node, type]; of a molecule also its SMILES."""

    nodes: list[str]
    edges: list[list[int | str]]
    smiles: str | None


class GraphAnswer(Answer):
    """Answer of `POST /v1/graphs/generations`."""

    created: int
    model: str
    data: list[MadeGraph]
    usage: GraphUsage
    bottega: Told


class NamedColumn(Answer):
    """A column of the rows; `kind` says how it is learned."""

    name: str
    kind: Kind


class TableAnswer(Answer):
    """Answer of `POST /v1/tables/generations`; `url` leads to the Parquet file for an hour, where it was kept."""

    created: int
    model: str
    columns: list[NamedColumn]
    data: list[dict[str, Any]]
    notes: list[str]
    url: str | None
    usage: TableUsage
    bottega: Told


class ColumnAnswer(NamedColumn):
    """What can be asked of a column; see `tables.column_facts`."""

    arrow: str
    learned: bool
    levels: list[str]
    low: float | str | None
    high: float | str | None
    missing: float


class EntityAnswer(Answer):
    """How rows that belong together come: all of an entity one after the other, ascending in `order`.

    `name` is the column that they share, `count` the name that conditions know the number of its rows by, `rows` how
    many the model learned from. Of two linked tables the rows are the left join: `parent` and `child` are the columns
    of either, and the row of an entity without any holds nothing of the second.
    """

    name: str
    order: str | None
    count: str
    rows: int
    parent: list[str]
    child: list[str]


class SchemaAnswer(Answer):
    """Answer of `GET /v1/tables/{model}/schema`; where `entity` is told, `rows` and requests count entities."""

    model: str
    model_digest: str
    rows: int
    columns: list[ColumnAnswer]
    entity: EntityAnswer | None
    rules: list[str]


class Embedding(Answer):
    """One vector, as numbers or as the base64 of little-endian 32-bit floats."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(Answer):
    """Answer of `POST /v1/embeddings`."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: dict[Literal["prompt_tokens", "total_tokens"], int]
    bottega: dict[Literal["kind", "model_digest"], str]


class ModelAnswer(Answer):
    """Answer of `GET /v1/models/{model}`."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    digest: str
    alias: bool
    answers: bool
    context: int
    objective: str
    medium: Literal["text", "image", "table", "graph"]


class ModelsAnswer(Answer):
    """Answer of `GET /v1/models`."""

    object: Literal["list"]
    data: list[ModelAnswer]


class FeedbackAnswer(Answer):
    """Answer of `POST /v1/feedback` to one feedback."""

    id: str


class FeedbacksAnswer(Answer):
    """Answer of `POST /v1/feedback` to a list."""

    ids: list[str]


class FeedbackList(Answer):
    """Answer of `GET /v1/feedback`."""

    object: Literal["list"]
    data: list[dict[str, Any]]


def described(model: Any, *, streams: bool = False, files: Sequence[str] = ()) -> dict[int | str, dict[str, Any]]:
    """Return the description of a route's answer, as FastAPI's `responses` takes it.

    Args:
        model: what comes with status 200.
        streams: whether it may come as events instead.
        files: media types of files that may come instead.
    """
    # OpenAPI 3.1 has no words for events
    others: dict[str, Any] = {kind: {} for kind in (*(("text/event-stream",) if streams else ()), *files)}
    return {200: {"model": model, **({"content": others} if others else {})}}
