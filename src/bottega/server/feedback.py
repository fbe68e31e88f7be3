"""`POST /v1/feedback` keeps what people say about outputs, `GET /v1/feedback` lists it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from bottega.core.errors import BottegaError
from bottega.server.answers import FeedbackAnswer, FeedbackList, FeedbacksAnswer, described
from bottega.server.errors import answer, translate
from bottega.server.state import doors, principal
from bottega.workshop import feedback
from bottega.workshop.feedback import Feedback, Kind

router = APIRouter(prefix="/v1", tags=["feedback"])
_MOST = 1000
Many = Annotated[list[Feedback], Field(min_length=1, max_length=_MOST)]


@router.post("/feedback", response_model=None, responses=described(FeedbackAnswer | FeedbacksAnswer))
async def add(body: Annotated[Feedback | Many, Body()], request: Request) -> Response:
    """Keep one feedback, or several in their order; what has an id is on disk.

    A list is kept up to the first that is refused; the error's `ids` tell which were.
    """
    store, rater = doors(request).workshop.store, principal(request)
    ids: list[str] = []
    try:
        for each in body if isinstance(body, list) else [body]:
            ids.append(await asyncio.to_thread(feedback.add, store, each, rater))
            doors(request).metrics.feedback.labels(each.kind).inc()
    except BottegaError as error:
        told = translate(error)
        if told is None or not ids:
            raise
        told.extra["ids"] = ids
        raise told from None
    return answer({"ids": ids} if isinstance(body, list) else {"id": ids[0]})


@router.get("/feedback", response_model=None, responses=described(FeedbackList))
async def listed(request: Request, alias: str | None = None, kind: Kind | None = None, output: str | None = None,
                 limit: Annotated[int, Query(ge=1, le=_MOST)] = 100) -> Response:
    """List feedback, newest first."""
    rows: list[dict[str, Any]] = await asyncio.to_thread(
        feedback.listed, doors(request).workshop.store, alias=alias, kind=kind, output=output, limit=limit)
    return answer({"object": "list", "data": rows})
