"""The HTTP application over a workshop; `bottega serve` runs it, `/openapi.json` describes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

import bottega
from bottega.core.errors import BottegaError
from bottega.server import (
    chat,
    completions,
    embeddings,
    feedback,
    graphs,
    health,
    image_links,
    images,
    models,
    moderations,
    tables,
)
from bottega.server.entrance import METHODS, MOST_BYTES, Entrance
from bottega.server.errors import ApiError, invalid, translate
from bottega.server.graphs import NAMES as GRAPH_NAMES
from bottega.server.image_bodies import NAMES as IMAGE_NAMES
from bottega.server.places import Places
from bottega.server.schemas import NAMES
from bottega.server.state import Doors
from bottega.server.table_bodies import NAMES as TABLE_NAMES
from bottega.workshop import works
from bottega.workshop.feedback import Feedback
from bottega.workshop.workshop import Workshop

_log = logging.getLogger("bottega.server")
_ERROR = {
    "type": "object", "required": ["error"],
    "properties": {"error": {
        "type": "object", "required": ["message", "type", "param", "code"],
        "properties": {"message": {"type": "string"}, "type": {"type": "string"},
                       "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]}}}}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, "content": {"application/json": {"schema": _ERROR}}}
    for status in (400, 401, 403, 404, 413, 422, 429, 500, 503)}


def create_app(workshop: Workshop, *, keys_required: bool, allowed_hosts: list[str], queue: int = 256) -> FastAPI:
    """Return the application with all routes of the API.

    Args:
        workshop: an open one; it is closed when the application stops.
        keys_required: whether every request must carry a key.
        allowed_hosts: names that the Host header may have (`hosts.names` on a loopback address); `*` allows all.
        queue: how many embeddings and moderations may wait.
    """
    doors = Doors(workshop, keys_required, allowed_hosts, Places(queue))

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        keeping = asyncio.create_task(_keep_retention(workshop))
        yield
        keeping.cancel()
        await workshop.close()

    app = FastAPI(title="Bottega", version=bottega.__version__, lifespan=life, docs_url=None, redoc_url=None,
                  responses={status: entry for status, entry in _ANSWERS.items() if status != 422},
                  description="OpenAI-compatible: the official client libraries work against it unchanged.")
    app.state.doors = doors
    for module in (chat, completions, images, image_links, tables, graphs, embeddings, moderations, models, feedback,
                   health):
        app.include_router(module.router)
    app.add_middleware(Entrance, doors=doors)
    app.add_exception_handler(ApiError, _told)
    app.add_exception_handler(BottegaError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    return app


async def _keep_retention(workshop: Workshop) -> None:
    """Forget, every hour, the content that is older than the workshop keeps it."""
    while True:
        try:
            await asyncio.to_thread(works.forget, workshop.store, datetime.now(UTC))
        except BottegaError as error:
            _log.error("old content could not be forgotten: %s", error)
        await asyncio.sleep(3600)


def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


def _known(request: Request, error: Exception) -> Response:
    """Answer an error of the lower floors; one that is no fault of the request is logged."""
    assert isinstance(error, BottegaError)
    told = translate(error)
    if told is None:
        raise error
    return told.response()


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    known = NAMES | IMAGE_NAMES | TABLE_NAMES | GRAPH_NAMES | Feedback.model_fields.keys()
    return invalid(error.errors(), known).response()


def _http(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: unknown paths and methods, bodies that are no JSON or too large."""
    assert isinstance(error, HTTPException)
    words = {404: f"there is no {request.url.path[:80]!r} here; see /openapi.json",
             405: f"{request.method} is not possible here", 400: "the body cannot be read",
             413: f"the body is larger than {MOST_BYTES} bytes; send less at a time"}
    message, headers = words.get(error.status_code, str(error.detail)), dict(error.headers or {})
    if error.status_code == 405:  # the framework names the methods of one route only
        headers["Allow"] = ", ".join(method for method in METHODS if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.router.routes))
    return ApiError(error.status_code, message, headers=headers).response()
