"""What every page shares: templates, errors in plain words, who is asking; each page of `bottega serve` uses it.

A page is a plain template with everything escaped; its module script adds what moves. A failed page is a styled page,
a failed JSON route is `{"error": {"message", "fix"}}`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

import bottega
from bottega.core.errors import BottegaError, BusyError, CorruptError, NotFoundError, ReleaseError, ResourceError
from bottega.studio.assets import Assets
from bottega.workshop.workshop import Workshop

_HERE = Path(__file__).parent
_STATUS = {NotFoundError: 404, ReleaseError: 403, BusyError: 429, CorruptError: 500, ResourceError: 503}


class Json(JSONResponse):
    """JSON in ASCII: half a surrogate pair, which a program may have sent in a prompt, has no UTF-8."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class Studio:
    """The workshop, its templates and its assets.

    Attributes:
        workshop: whose works, models and prompts are shown.
        keys_required: pages need a key, kept in a cookie by the login page.
        assets: scripts and styles.
    """

    def __init__(self, workshop: Workshop, *, keys_required: bool) -> None:
        self.workshop, self.keys_required = workshop, keys_required
        self.assets = Assets.load(_HERE / "static")
        self._templates = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True,
                                      undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        self._templates.globals.update(asset=self.assets.url, version=bottega.__version__, keys_required=keys_required)
        self._templates.filters.update(number=number, when=when, size=size)

    def page(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a template as a page that no cache keeps."""
        text = self._templates.get_template(template).render(**values)
        # half a surrogate pair, which a program may have sent in a prompt, becomes a question mark
        return HTMLResponse(text.encode("utf-8", "replace"), status_code=status, headers={"Cache-Control": "no-store"})

    def failed(self, status: int, problem: str, fix: str = "") -> HTMLResponse:
        """Return the styled page of an error."""
        return self.page("failed.html", status=status, active="", code=status, problem=problem, fix=fix)

    def router(self) -> APIRouter:
        """Return a router whose routes ask for the key and report errors as the module says."""
        studio = self

        class Route(APIRoute):
            def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
                handle = super().get_route_handler()

                async def guarded(request: Request) -> Response:
                    return await studio._answer(request, handle)

                return guarded

        return APIRouter(route_class=Route, include_in_schema=False)

    async def _answer(self, request: Request, handle: Callable[[Request], Coroutine[Any, Any, Response]]) -> Response:
        try:
            return await handle(request)
        except BottegaError as error:
            status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 400)
            return self._error(request, status, error.problem, error.fix)
        except RequestValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"][1:])
            return self._error(request, 422, f"{place or 'the request'}: {first['msg']}", "correct it")
        except HTTPException as error:
            return self._error(request, error.status_code, str(error.detail), "")

    def _error(self, request: Request, status: int, problem: str, fix: str) -> Response:
        if request.url.path.startswith("/studio/"):
            return Json({"error": {"message": problem, "fix": fix}}, status_code=status)
        return self.failed(status, problem, fix)


def actor(request: Request) -> str:
    """Return who is asking, as the server's check of keys found out."""
    return str(getattr(request.state, "principal", None) or "local")


def number(value: Any) -> str:
    """Return a figure for people: thousands apart, four significant digits; anything else as it stands."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"


def size(count: int) -> str:
    """Return bytes as kB, MB or GB."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} B"


def when(value: datetime | str) -> str:
    """Return a time in UTC, to the minute."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
