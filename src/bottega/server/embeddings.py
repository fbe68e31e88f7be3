"""`POST /v1/embeddings`: texts as vectors, the mean of the model's last hidden states."""

from __future__ import annotations

import base64
import struct
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bottega.core.errors import NotFoundError, RefusedError
from bottega.server.answers import EmbeddingsAnswer, described
from bottega.server.errors import ApiError, answer
from bottega.server.making import ClientGone, unless_gone
from bottega.server.schemas import EmbeddingsBody
from bottega.server.state import doors

router = APIRouter(prefix="/v1", tags=["embeddings"])


@router.post("/embeddings", response_model=None, responses=described(EmbeddingsAnswer))
async def embed(body: EmbeddingsBody, request: Request) -> Response:
    """Embed each text."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    state = doors(request)
    try:
        vectors, tokens, served = await unless_gone(request.receive, state.places.run(
            lambda: state.workshop.commission.embed(body.model, texts)))
    except NotFoundError as error:
        raise ApiError(404, f"{error.problem}; {error.fix}", param="model", code="model_not_found") from None
    except RefusedError as error:
        state.metrics.judged(error.verdicts)
        raise
    except ClientGone:
        return Response(status_code=499)
    state.metrics.tokens.labels(served.name, "in").inc(tokens)
    data = [{"object": "embedding", "index": index, "embedding": _packed(vector, body.encoding_format)}
            for index, vector in enumerate(vectors)]
    return answer({"object": "list", "data": data, "model": served.id,
                   "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
                   "bottega": {"kind": "mean-pooled hidden states", "model_digest": served.digest}})


def _packed(vector: list[float], encoding: str | None) -> Any:
    """Return a vector as numbers, or as the base64 of little-endian 32-bit floats."""
    if encoding == "base64":
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return vector
