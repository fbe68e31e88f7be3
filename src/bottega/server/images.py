"""`POST /v1/images/generations`, `/edits` and `/variations`: pictures drawn, changed and varied, whole or streamed.

`pytest tests/server/test_images.py` asks for some with OpenAI's client.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bottega.codecs.pixels import PictureError, has_holes
from bottega.core.request import Request as Wish
from bottega.server.answers import PicturesAnswer, described
from bottega.server.errors import ApiError, answer
from bottega.server.forms import described_form, read_form
from bottega.server.image_bodies import EditBody, GenerationBody, ImageBody, StreamableBody, VariationBody
from bottega.server.image_links import link
from bottega.server.image_stream import ImageStream, held_back, size_of, told, usage
from bottega.server.making import ClientGone, Making, unless_gone
from bottega.server.state import doors, principal
from bottega.workshop import settings

router = APIRouter(prefix="/v1/images", tags=["generation"])


@router.post("/generations", response_model=None, responses=described(PicturesAnswer, streams=True))
async def generate(body: GenerationBody, request: Request) -> Response:
    """Draw what a prompt says."""
    return await _draw(body, body.wish(), request, "image_generation")


@router.post("/edits", response_model=None, responses=described(PicturesAnswer, streams=True),
             openapi_extra=described_form(EditBody))
async def edit(request: Request) -> Response:
    """Change a picture, or only the parts of it that the mask (or its own transparency) leaves open."""
    try:
        body = await read_form(request, EditBody)
    except ClientGone:
        return Response(status_code=499)  # nobody reads it
    open_parts = await _readable("image", body.image)
    if body.mask is not None:
        await _readable("mask", body.mask)
    mask = body.image if body.mask is None and open_parts else body.mask
    return await _draw(body, body.wish(mask), request, "image_edit")


@router.post("/variations", response_model=None, responses=described(PicturesAnswer),
             openapi_extra=described_form(VariationBody))
async def vary(request: Request) -> Response:
    """Draw pictures like a given one."""
    try:
        body = await read_form(request, VariationBody)
    except ClientGone:
        return Response(status_code=499)  # nobody reads it
    await _readable("image", body.image)
    return await _draw(body, body.wish(), request, "")


async def _readable(name: str, data: bytes) -> bool:
    """Return whether a picture file has transparent parts.

    Raises:
        ApiError: 400, it cannot be read.
    """
    try:
        return await asyncio.to_thread(has_holes, data)
    except PictureError as error:
        raise ApiError(400, f"{name}: {error.problem}; {error.fix}", param=name) from None


async def _draw(body: ImageBody, wish: Wish, request: Request, events: str) -> Response:
    """Make what is wished and tell it as the body asks.

    Args:
        body: as it came.
        wish: what is in it.
        request: as it came, for the client's going away.
        events: what the names of events begin with.

    Raises:
        ApiError, BottegaError: before anything is made.
    """
    state = doors(request)
    stream = isinstance(body, StreamableBody) and bool(body.stream)
    partial = (body.partial_images or 0) if isinstance(body, StreamableBody) else 0
    linked = body.response_format == "url"
    if linked and await asyncio.to_thread(settings.get, state.workshop.store, "retention_days") == 0:
        raise ApiError(400, "this workshop keeps no content, so nothing can be linked to; ask for b64_json",
                       param="response_format")

    async def opened() -> Making:
        return await Making.open(state, body.model, [wish], body.bottega.door, principal(request), medium="image",
                                 previews=partial > 0)

    async def whole() -> dict[str, Any]:
        making = await opened()
        files = await _files(making)
        if not files:
            raise held_back(making)
        extra = told(making)
        if linked:
            secret = await asyncio.to_thread(settings.secret, state.workshop.store)
            base = str(request.base_url).rstrip("/")
            shown = [{"b64_json": None, "url": link(base, secret, id, time.time())} for id in extra["outputs"]]
        else:
            shown = [{"b64_json": base64.b64encode(file).decode(), "url": None} for file in files]
        return {"created": making.jobs[0].created, "background": "opaque", "output_format": "png",
                "size": size_of(files[0]), "data": [{**each, "revised_prompt": None} for each in shown],
                "usage": usage(len(files)), "bottega": extra}

    if stream:
        return ImageStream(await opened(), events, partial, state.metrics.cancelled.inc)
    try:
        return answer(await unless_gone(request.receive, whole()))
    except ClientGone:
        state.metrics.cancelled.inc()
        return Response(status_code=499)  # nobody reads it


async def _files(making: Making) -> list[bytes]:
    """Follow a making to its end and return the PNG files in the order of the outputs, without those held back."""
    files: dict[int, bytes] = {}
    try:
        async with contextlib.aclosing(making.deltas()) as deltas:
            async for delta in deltas:
                if delta.finish and delta.png is not None:
                    files[delta.output] = delta.png
    finally:
        await making.cancel()
    return [files[number] for number in sorted(files)]
