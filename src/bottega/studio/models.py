"""The Models pages: what is served, where each model came from, and the loop that makes it better; see /models."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse

from bottega.core.errors import NotFoundError, suggest
from bottega.core.validate import Strict
from bottega.studio.lineage import chain, description, licences
from bottega.studio.studio import Studio, actor
from bottega.workshop import feedback, improve, improvements, preferences, registry, release
from bottega.workshop.models import Served

# a run's report brings its own styles and pictures inside, and nothing that runs
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n+", re.DOTALL)


class Decision(Strict):
    """Why a challenger is approved or rejected."""

    reason: str = Field(default="", max_length=2000)


def card(served: Served) -> str:
    """Return the model card without its metadata block; empty when there is none."""
    try:
        text = (served.path / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return _FRONT_MATTER.sub("", text)


def weight(served: Served) -> int:
    """Return the bytes a model takes on disk."""
    return sum(file.stat().st_size for file in served.path.glob("*") if file.is_file())


def sheet(run: Path) -> Path | None:
    """Return the newest sheet of pictures that a run drew; None when it drew none."""
    return max(run.glob("samples/*.png"), key=lambda file: file.name, default=None)


def routes(studio: Studio) -> APIRouter:
    """Return the two pages and the JSON routes of the loop."""
    router, workshop = studio.router(), studio.workshop
    store = workshop.store

    def find(name: str) -> Served:
        served = {one.id: one for one in workshop.models.served()}
        if name not in served:
            raise NotFoundError(f"there is no model '{name}'", fix=suggest(name, served))
        return served[name]

    def run_of(served: Served) -> Path:
        return workshop.home / "runs" / served.name

    @router.get("/models")
    def listing() -> HTMLResponse:
        served = workshop.models.served()
        aliases = [(one, feedback.counts(store, one.id)) for one in served if one.alias]
        bundles = [(one, description(one.path), weight(one)) for one in served if not one.alias]
        return studio.page("models.html", active="models", aliases=aliases, bundles=bundles)

    @router.get("/models/{name}")
    def page(name: str) -> HTMLResponse:
        served = find(name)
        links, meta = chain(served.path, workshop.home), description(served.path)
        gated = release.standing(store, workshop.home, served.digest) if served.medium == "table" else None
        loop: dict[str, Any] = {"pairs": 0, "counts": {}, "runs": [], "history": []}
        if served.alias and served.medium == "text":
            pairs = preferences.collect(store, preferences.rated_models(store, name)).pairs
            loop = {"pairs": len(pairs), "counts": feedback.counts(store, name),
                    "runs": improvements.listed(store, alias=name), "history": registry.history(store, name)}
        return studio.page("model.html", active="models", served=served, meta=meta, links=links, card=card(served),
                           licences=licences(links), weight=weight(served), sheet=sheet(run_of(served)) is not None,
                           report=(run_of(served) / "report.html").is_file(), least=preferences.LEAST_PAIRS,
                           gated=gated, **loop)

    @router.get("/studio/models/{name}/sheet.png")
    def drawn(name: str) -> FileResponse:
        found = sheet(run_of(find(name)))
        if found is None:
            raise NotFoundError(f"the run of '{name}' drew no pictures")
        return FileResponse(found, media_type="image/png", headers={"Cache-Control": "private, no-cache"})

    @router.get("/studio/models/{name}/report")
    def report(name: str) -> FileResponse:
        found = run_of(find(name)) / "report.html"
        if not found.is_file():
            raise NotFoundError(f"the run of '{name}' has no report")
        return FileResponse(found, media_type="text/html; charset=utf-8", headers={
            "Cache-Control": "private, no-cache", "Content-Security-Policy": REPORT_POLICY})

    @router.post("/studio/models/{alias}/improve")
    def start(request: Request, alias: str) -> JSONResponse:
        if not find(alias).alias:
            raise NotFoundError(f"'{alias}' is a model, not an alias", fix="improve an alias, such as 'assistant'")
        return JSONResponse({"id": improve.start_improvement(workshop, alias, actor(request))})

    @router.get("/studio/improvements/{improvement_id}")
    def progress(improvement_id: str) -> JSONResponse:
        run = improvements.get(store, improvement_id)
        return JSONResponse({**dataclasses.asdict(run), "created": run.created.isoformat(),
                             "updated": run.updated.isoformat()})

    @router.post("/studio/improvements/{improvement_id}/approve")
    def approve(request: Request, improvement_id: str, body: Decision) -> JSONResponse:
        improve.approve(store, improvement_id, actor(request), body.reason)
        workshop.models.refresh()
        return JSONResponse({})

    @router.post("/studio/improvements/{improvement_id}/reject")
    def reject(request: Request, improvement_id: str, body: Decision) -> JSONResponse:
        improve.reject(store, improvement_id, actor(request), body.reason)
        return JSONResponse({})

    return router
