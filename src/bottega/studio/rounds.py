"""The Compare pages: blind rounds that people vote in; `bottega compare A B --judge people`, then /compare.

A page knows an item by its number and the answers by left and right. Whose they are is known to the server alone.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse

from bottega.core.errors import CorruptError, NotFoundError
from bottega.core.files import sha256_file
from bottega.core.validate import Strict
from bottega.studio.models import REPORT_POLICY
from bottega.studio.studio import Studio, actor
from bottega.workshop import improvements, rounds
from bottega.workshop.rounds import Vote


class Word(Strict):
    """What a person says about one item."""

    item: int = Field(ge=0)
    choice: Vote
    consent: bool = True


def routes(studio: Studio) -> APIRouter:
    """Return the two pages, the vote, and the reports of comparisons."""
    router, workshop = studio.router(), studio.workshop
    store, home = workshop.store, workshop.home

    @router.get("/compare")
    def listing(request: Request) -> HTMLResponse:
        found = []
        for each in rounds.listed(home):
            mine = rounds.sheets(store, each, actor(request))
            found.append((each, len(mine), sum(sheet.voted is not None for sheet in mine)))
        return studio.page("rounds.html", active="compare", rounds=found)

    @router.get("/compare/{round_id}")
    def page(request: Request, round_id: str) -> HTMLResponse:
        found = rounds.load(home, round_id)
        return studio.page("round.html", active="compare", round=found.id,
                           sheets=[asdict(sheet) for sheet in rounds.sheets(store, found, actor(request))])

    @router.post("/studio/compare/{round_id}/vote")
    def vote(request: Request, round_id: str, body: Word) -> JSONResponse:
        found = rounds.load(home, round_id)
        rounds.vote(store, found, body.item, body.choice, actor(request), consent=body.consent)
        return JSONResponse({})

    @router.get("/studio/improvements/{improvement_id}/report")
    def report(improvement_id: str) -> FileResponse:
        run = improvements.get(store, improvement_id)
        facts = (run.comparison or {}).get("report") or {}
        folder, file = (Path(str(facts.get(key, ""))).name for key in ("comparison", "file"))
        path = home / "comparisons" / folder / file
        if not folder or not file or not path.is_file():
            raise NotFoundError(f"improvement '{improvement_id[:100]}' has no report")
        if sha256_file(path) != facts.get("sha256"):
            raise CorruptError(f"the report of improvement '{improvement_id[:100]}' is not the one that was proposed",
                               where=str(path), fix="compare again and propose anew: bottega compare … --propose")
        return FileResponse(path, media_type="text/html; charset=utf-8", headers={
            "Cache-Control": "private, no-cache", "Content-Security-Policy": REPORT_POLICY})

    return router
