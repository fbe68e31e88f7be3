"""The Prompts pages: saved prompts with versions, their differences, and the form of their variables; see /prompts."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse

from bottega.core.validate import Strict
from bottega.studio.studio import Studio, actor
from bottega.workshop import prompts
from bottega.workshop.prompts import PromptVersion


class Draft(Strict):
    """A prompt to save; the same text again is the same version."""

    name: str = Field(min_length=1, max_length=100)
    body: str = Field(min_length=1, max_length=100_000)
    system: str = Field(default="", max_length=100_000)
    controls: dict[str, Any] | None = None
    note: str = Field(default="", max_length=500)


class Values(Strict):
    """What to put in place of a prompt's `{{variables}}`."""

    values: dict[str, str]


def _plain(version: PromptVersion) -> dict[str, Any]:
    return {**dataclasses.asdict(version), "created": version.created.isoformat(),
            "variables": prompts.variables(version.body)}


def routes(studio: Studio) -> APIRouter:
    """Return the two pages and the JSON routes behind their buttons."""
    router, store = studio.router(), studio.workshop.store

    @router.get("/prompts")
    def listing() -> HTMLResponse:
        saved = [prompts.get(store, name) for name in prompts.names(store)]
        return studio.page("prompts.html", active="prompts",
                           prompts=[(version, prompts.variables(version.body)) for version in saved])

    @router.get("/prompts/{name:path}")
    def page(name: str, version: int | None = None, old: int | None = None) -> HTMLResponse:
        shown, every = prompts.get(store, name, version), prompts.versions(store, name)
        earlier = old if old is not None else shown.version - 1
        lines = prompts.diff(store, name, earlier, shown.version) if earlier >= 1 else []
        return studio.page("prompt.html", active="prompts", prompt=shown, versions=every, earlier=earlier,
                           lines=lines, variables=prompts.variables(shown.body))

    @router.get("/studio/prompts")
    def names() -> JSONResponse:
        return JSONResponse([_plain(prompts.get(store, name)) for name in prompts.names(store)])

    @router.post("/studio/prompts")
    def save(request: Request, body: Draft) -> JSONResponse:
        version = prompts.save(store, body.name, body.body, system=body.system, controls=body.controls,
                               note=body.note, author=actor(request))
        return JSONResponse({"name": body.name, "version": version})

    @router.get("/studio/prompts/{name:path}")
    def one(name: str, version: int | None = None) -> JSONResponse:
        return JSONResponse(_plain(prompts.get(store, name, version)))

    @router.post("/studio/prompts/{name:path}/fill")
    def fill(name: str, body: Values, version: int | None = None) -> JSONResponse:
        found = prompts.get(store, name, version)
        return JSONResponse({"body": prompts.fill(found.body, body.values), "system": found.system,
                             "controls": found.controls})

    @router.post("/studio/prompts/{name:path}/delete")
    def delete(request: Request, name: str) -> JSONResponse:
        prompts.delete(store, name, actor(request))
        return JSONResponse({})

    return router
