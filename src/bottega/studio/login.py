"""The login page: an API key becomes a cookie that scripts cannot read. `bottega keys create NAME` makes a key.

Only used when the server was started with keys required.
"""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse

from bottega.core.errors import InputError
from bottega.core.validate import Strict
from bottega.studio.studio import Studio
from bottega.workshop import keys

_DAYS = 30


class Login(Strict):
    """The pasted key."""

    key: str = Field(min_length=1, max_length=200)


def routes(studio: Studio) -> APIRouter:
    """Return the page and its two JSON routes."""
    router = studio.router()

    @router.get("/login")
    def page() -> HTMLResponse:
        return studio.page("login.html", active="")

    @router.post("/studio/login")
    def login(request: Request, body: Login) -> JSONResponse:
        known = keys.check(studio.workshop.store, body.key.strip())
        if known is None:
            raise InputError("this key is not known, has expired or was revoked",
                             fix="make one with 'bottega keys create NAME'")
        answer = JSONResponse({"name": known.name})
        answer.set_cookie(keys.COOKIE, body.key.strip(), max_age=_DAYS * 86400, httponly=True, samesite="strict",
                          secure=request.url.scheme == "https", path="/")
        return answer

    @router.post("/studio/logout")
    def logout() -> JSONResponse:
        answer = JSONResponse({})
        answer.delete_cookie(keys.COOKIE, httponly=True, samesite="strict", path="/")
        return answer

    return router
