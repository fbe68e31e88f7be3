"""From checked wishes to an answer, whole or streamed; what `/v1/chat/completions` and `/v1/completions` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from bottega.core.request import Request as Wish
from bottega.server.errors import answer
from bottega.server.making import ClientGone, Making, collect, unless_gone
from bottega.server.schemas import Sampling
from bottega.server.shapes import ChatShape, Pieces, TextShape
from bottega.server.state import doors, principal
from bottega.server.streams import ChunkStream

Shape = ChatShape | TextShape


async def respond(body: Sampling, request: Request, wishes: Sequence[Wish], shape: Callable[[Pieces], Shape],
                  kind: str) -> Response:
    """Make what is wished and tell it in a route's shape.

    Args:
        body: as it came.
        request: as it came, for the client's going away.
        wishes: one for each prompt.
        shape: makes the shape of the choices, given the bytes of each token.
        kind: the value of "object" in a whole answer.

    Raises:
        ApiError, BottegaError: before anything is made.
    """
    state = doors(request)

    async def opened() -> tuple[Making, Shape]:
        making = await Making.open(state, body.model, wishes, body.bottega.door, principal(request))
        try:
            batcher = await state.workshop.models.engine(making.jobs[0].served)
        except BaseException:
            await making.cancel()
            raise
        return making, shape(batcher.engine.codec.token_bytes)

    async def whole() -> dict[str, Any]:
        making, form = await opened()
        choices = [form.whole(number, *choice) for number, choice in enumerate(await collect(making))]
        return {**_head(making), "object": kind, "choices": choices, "usage": making.usage(),
                "bottega": making.extension()}

    if body.stream:
        making, form = await opened()
        usage = bool(body.stream_options and body.stream_options.include_usage)
        return ChunkStream(making, form, _head(making), usage, state.metrics.cancelled.inc)
    try:
        return answer(await unless_gone(request.receive, whole()))
    except ClientGone:
        state.metrics.cancelled.inc()
        return Response(status_code=499)  # nobody reads it


def _head(making: Making) -> dict[str, Any]:
    """Return the keys that an answer and each of its chunks have in common."""
    job = making.jobs[0]
    return {"id": job.id, "created": job.created, "model": job.served.id,
            "system_fingerprint": f"fp_{job.served.digest[:12]}"}
