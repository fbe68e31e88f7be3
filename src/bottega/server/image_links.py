"""Links to files: `GET /v1/images/files/bt-….0.png?expires=…&signature=…` needs no key, for an hour; so with tables.

The signature is an HMAC-SHA256 with the workshop's secret over the output's id and the end of the hour.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bottega.server.errors import ApiError
from bottega.server.keys import PICTURES, TABLES
from bottega.server.state import doors
from bottega.workshop import release, settings
from bottega.workshop.table_lane import PARQUET

VALID = 3600  # seconds
router = APIRouter(tags=["generation"])


def link(base: str, secret: bytes, output_id: str, now: float, *, table: bool = False) -> str:
    """Return a link to a picture, or to a table's Parquet file.

    Args:
        base: URL of the server, without a slash at its end.
        secret: of the workshop.
        output_id: of the picture or table.
        now: seconds since 1970.
        table: it is one.
    """
    expires = str(int(now) + VALID)
    path = f"{TABLES}{output_id}.parquet" if table else f"{PICTURES}{output_id}.png"
    return f"{base}{path}?expires={expires}&signature={_signature(secret, output_id, expires)}"


@router.get(PICTURES + "{output_id}.png", response_class=Response,
            responses={200: {"description": "The picture.", "content": {"image/png": {}}}})
async def file(output_id: str, request: Request, expires: str = "", signature: str = "") -> Response:
    """Return a picture to whoever has its link."""
    return await _file(output_id, request, expires, signature, f'inline; filename="{output_id}.png"')


@router.get(TABLES + "{output_id}.parquet", response_class=Response,
            responses={200: {"description": "The table.", "content": {PARQUET: {}}}})
async def table(output_id: str, request: Request, expires: str = "", signature: str = "") -> Response:
    """Return a table's file to whoever has its link."""
    return await _file(output_id, request, expires, signature, f'attachment; filename="{output_id}.parquet"')


async def _file(output_id: str, request: Request, expires: str, signature: str, disposition: str) -> Response:
    store = doors(request).workshop.store
    signed = _signature(await asyncio.to_thread(settings.secret, store), output_id, expires)
    if not hmac.compare_digest(signed.encode(), signature.encode("utf-8", "surrogatepass")):
        raise ApiError(403, "this link was not made here, or was changed on its way", code="invalid_signature")
    left = int(expires) - int(time.time())
    if left <= 0:
        raise ApiError(403, "this link has expired; ask for the file again", code="expired")
    media_type, data = await asyncio.to_thread(release.file, store, doors(request).workshop.home, output_id)
    return Response(data, media_type=media_type, headers={
        "cache-control": f"private, max-age={left}, immutable", "x-content-type-options": "nosniff",
        "content-disposition": disposition})


def _signature(secret: bytes, output_id: str, expires: str) -> str:
    message = f"picture link\n{output_id}\n{expires}".encode("utf-8", "surrogatepass")
    return hmac.new(secret, message, hashlib.sha256).hexdigest()
