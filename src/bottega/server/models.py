"""`GET /v1/models`: what is served, aliases first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bottega.core.errors import NotFoundError
from bottega.server.answers import ModelAnswer, ModelsAnswer, described
from bottega.server.errors import ApiError, answer
from bottega.server.state import doors

if TYPE_CHECKING:
    from bottega.workshop.models import Served

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models", response_model=None, responses=described(ModelsAnswer))
async def models(request: Request) -> Response:
    """List the models, those made a moment ago too."""
    known = doors(request).workshop.models
    return answer({"object": "list", "data": [_entry(each) for each in await asyncio.to_thread(known.served)]})


@router.get("/models/{model:path}", response_model=None, responses=described(ModelAnswer))
async def model(model: str, request: Request) -> Response:
    """Describe one model."""
    try:
        return answer(_entry(await asyncio.to_thread(doors(request).workshop.models.resolve, model, None)))
    except NotFoundError as error:
        raise ApiError(404, f"{error.problem}; {error.fix}", param="model", code="model_not_found") from None


def _entry(served: Served) -> dict[str, Any]:
    return {"id": served.id, "object": "model", "created": served.created, "owned_by": "bottega",
            "digest": served.digest, "alias": served.alias, "answers": served.answers, "context": served.context,
            "objective": served.objective, "medium": served.medium}
