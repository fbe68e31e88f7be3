"""Adds the studio's pages to the server's application: `bottega serve`, then open the address it prints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bottega.studio import create, graphs, inside, login, models, pictures, prompts, rounds, tables
from bottega.studio.studio import Studio
from bottega.workshop.workshop import Workshop

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
                               "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class _SafeHeaders:
    """Puts the security headers on every response; written on the bare protocol so that streams pass untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


def add_studio(app: FastAPI, workshop: Workshop, keys_required: bool = False) -> None:
    """Add all pages, their JSON routes, the static files and the security headers.

    Args:
        app: the application that already serves /v1.
        workshop: whose models, works and prompts are shown.
        keys_required: show the login page's links and cookies.
    """
    studio = Studio(workshop, keys_required=keys_required)
    studio.assets.add(app)
    for page in (create, pictures, tables, graphs, inside, models, rounds, prompts, login):
        app.include_router(page.routes(studio))
    app.add_middleware(_SafeHeaders)
    _add_missing_page(app, studio)


def _add_missing_page(app: FastAPI, studio: Studio) -> None:
    """Answer a browser that asks for an unknown page with the studio's own; programs keep the server's answer."""
    before: Callable[[Request, Any], Awaitable[Response] | Response] | None = app.exception_handlers.get(HTTPException)

    async def missing(request: Request, error: Any) -> Response:
        page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if page and error.status_code == 404 and not request.url.path.startswith(("/v1/", "/studio/")):
            return studio.failed(404, "There is no such page.", "The address may be mistyped.")
        if before is None:
            return JSONResponse({"error": {"message": str(error.detail), "fix": ""}}, status_code=error.status_code)
        answer = before(request, error)
        return answer if isinstance(answer, Response) else await answer

    app.add_exception_handler(HTTPException, missing)
