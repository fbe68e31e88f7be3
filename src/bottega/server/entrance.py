"""What every request passes on its way in and out: size, host, key, counting, an id, and no fault without an answer.

One layer on the bare protocol, so that streams pass untouched; `pytest tests/server/test_entrance.py` knocks.
"""

from __future__ import annotations

import logging
import secrets
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bottega.core.errors import BottegaError, BusyError
from bottega.server import hosts, keys
from bottega.server.errors import ApiError, failure, stopping, translate, unavailable
from bottega.server.state import Doors

MOST_BYTES = 10 * 1024 * 1024
_WATCHED = ("/healthz", "/metrics")  # answered also while the server stops
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_log = logging.getLogger("bottega.server")


class Entrance:
    """The layer around all routes.

    Args:
        app: what is behind it.
        doors: of the app.
    """

    def __init__(self, app: ASGIApp, doors: Doors) -> None:
        self._app, self._doors = app, doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            self._doors.active += 1
            try:
                await self._serve(scope, receive, send)
            finally:
                self._doors.active -= 1
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        status, headers = 0, {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            refused = await self._refused(scope, headers)
            if refused is not None:
                await refused(scope, receive, counted)
            else:
                await self._app(scope, _limited(receive), counted)
        except Exception:
            _log.exception("request %s failed", request_id)
            if not status:
                await failure(request_id).response()(scope, receive, counted)
        finally:
            route: Any = scope.get("route")
            path = getattr(route, "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"  # anybody can make up more
            self._doors.metrics.requests.labels(method, path, status or "none").inc()

    async def _refused(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        """Return the answer to a request that is not let in."""
        path, state = scope["path"], scope["state"]
        state["principal"] = "local"
        try:
            reason = hosts.refusal(scope["method"], headers.get("host", ""), headers.get("origin"),
                                   self._doors.allowed_hosts)
            if reason is not None:
                raise ApiError(403, reason, code="forbidden_host")
            if self._doors.draining and path not in _WATCHED:
                raise stopping()
            if self._doors.keys_required and not keys.is_open(path):
                state["principal"] = await keys.identify(self._doors.workshop.store, headers)
            if int(headers.get("content-length") or 0) > MOST_BYTES:
                raise _too_large()
        except ApiError as error:
            if error.status == 401 and "text/html" in headers.get("accept", "") and scope["method"] == "GET":
                return RedirectResponse("/login", 303)
            return error.response()
        except BottegaError as error:  # the store cannot say whether the key is valid
            _log.error("request %s: %s", state["request_id"], error)
            told = translate(error) if isinstance(error, BusyError) else None
            return (told or unavailable(state["request_id"])).response()
        return None


def _too_large() -> ApiError:
    return ApiError(413, f"the body is larger than {MOST_BYTES} bytes; send less at a time", code="too_large",
                    headers={"connection": "close"})


def _limited(receive: Receive) -> Receive:
    """Return a `receive` that ends a body once it is too large, whatever length was told: chunks overrule it."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MOST_BYTES:
            raise HTTPException(413, headers={"connection": "close"})
        return message

    return counted
