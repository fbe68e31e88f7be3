"""The Create page for pictures, with what it shows of models and of finished works; `bottega serve`, then /pictures.

What a model can do is asked of the loaded model itself: a use that it would refuse before any work is not offered.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, get_args

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request as Asked
from starlette.responses import HTMLResponse, Response

from bottega.codecs.image import ImageCodec
from bottega.core.errors import BottegaError, NotFoundError
from bottega.core.request import Controls, PictureFile, Request, Sampler
from bottega.core.validate import Strict
from bottega.generation.pictures import PictureEngine
from bottega.studio.controls import PICTURES, controls
from bottega.studio.lineage import description
from bottega.studio.studio import Json, Studio, actor
from bottega.workshop import feedback, works
from bottega.workshop.works import Work

_SEARCHED, _SHOWN = 500, 24  # works
_SAID = 2000                 # feedback that is looked through for what was said about them
SCALE = [1, 5]               # of the scores that the page gives (static/rate.js)
_PRIVATE = "private, max-age=3600"


class Given(Strict):
    """The pictures that a request brought along."""

    image: PictureFile | None = None
    mask: PictureFile | None = None


def abilities(engine: PictureEngine) -> dict[str, Any]:
    """Return what a loaded model can do, ready for JSON.

    Returns:
        `controls` it understands and its own `defaults`, `size` (WIDTHxHEIGHT) and whether it is `fixed`, what it can
        start from (`image`, `mask`, `toward`), and the `classes` and `words` it knows.
    """
    height, width = engine.size
    blank = ImageCodec.png(np.zeros((3, height, width), np.uint8))
    white = ImageCodec.png(np.full((1, height, width), 255, np.uint8))
    codec = getattr(engine, "codec", None)  # a model from elsewhere reads any words
    return {"family": engine.family, "controls": sorted(engine.understands), "size": f"{width}x{height}",
            "defaults": engine.controls.model_dump(mode="json", exclude_none=True),
            "fixed": not _takes(engine, Request(prompt="", controls=Controls(size=f"{2 * width}x{2 * height}"))),
            "image": _takes(engine, Request(prompt="", image=blank)),
            "mask": _takes(engine, Request(prompt="", image=blank, mask=white)),
            "toward": _takes(engine, Request(prompt="", toward="", controls=Controls(n=2))),
            "classes": codec.classes if codec else [], "words": codec.words[2:] if codec and codec.vocab else []}


def _takes(engine: PictureEngine, request: Request) -> bool:
    try:
        engine.settle(request)
    except BottegaError:
        return False
    return True


def plain(work: Work, said: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Return a work for the page; None when it has no picture that is still kept.

    Args:
        work: any.
        said: by output, what this person said about it.
    """
    outputs = [{"id": output.id, "index": output.index, "thumb": said.get(output.id, {}).get("thumb"),
                "scores": said.get(output.id, {}).get("scores", {})}
               for output in work.outputs
               if output.media_type != "text/plain" and output.finish == "end" and output.text is not None]
    if not outputs:
        return None
    request = work.request
    wins = {str(output["id"]): int(said.get(str(output["id"]), {}).get("wins", 0)) for output in outputs}
    best = max(wins, key=lambda id: wins[id])  # the one chosen last stands over all others
    return {"id": work.id, "model": work.alias or work.model, "prompt": request.get("prompt") or "",
            "toward": request.get("toward"), "image": "image" in request, "mask": "mask" in request,
            "seed": work.seed, "seconds": work.seconds, "best": best if wins[best] else None, "outputs": outputs}


def _said(studio: Studio, rater: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for entry in feedback.listed(studio.workshop.store, limit=_SAID):
        if entry["rater"] == rater and entry["replaced_by"] is None:
            about = found.setdefault(entry["output"], {})
            if entry["kind"] == "thumb":
                about["thumb"] = entry["value"]
            elif entry["kind"] == "score" and entry["scale"] == SCALE:
                about.setdefault("scores", {})[entry["aspect"] or ""] = entry["score"]
            elif entry["kind"] == "choice":
                about["wins"] = about.get("wins", 0) + 1
    return found


def routes(studio: Studio) -> APIRouter:
    """Return the page, and the routes of models, works and files behind it."""
    router, workshop = studio.router(), studio.workshop
    store = workshop.store

    @router.get("/pictures")
    def page() -> HTMLResponse:
        served = [one for one in workshop.models.served() if one.medium == "image"]
        return studio.page("pictures.html", active="create", medium="image", models=served,
                           controls=[asdict(control) for control in controls(PICTURES)], samplers=get_args(Sampler))

    @router.get("/studio/pictures/models/{name}")
    async def model(name: str) -> Json:
        served = await asyncio.to_thread(workshop.models.resolve, name, "image")
        maker = await workshop.models.maker(served)
        meta = await asyncio.to_thread(description, served.path)
        recipe = meta.get("recipe", {})
        found = await asyncio.to_thread(abilities, maker.engine)
        return Json({"id": served.id, **found, "about": recipe.get("description", ""),
                     "prompts": recipe.get("evaluation", {}).get("prompts", [])[:4]})

    @router.get("/studio/pictures/works")
    def recent(request: Asked) -> Json:
        who = actor(request)
        said = _said(studio, who)
        mine = (plain(work, said) for work in works.works(store, limit=_SEARCHED) if work.principal == who)
        return Json([work for work in mine if work is not None][:_SHOWN])

    @router.get("/studio/pictures/{output_id}.png")
    def file(output_id: str) -> Response:
        media_type, data = works.file(store, output_id)
        return Response(data, media_type=media_type, headers={"Cache-Control": _PRIVATE})

    @router.get("/studio/pictures/{output_id}/{part}.png")
    def given(output_id: str, part: str) -> Response:
        work, _ = works.output(store, output_id)
        kept = {name: work.request[name] for name in Given.model_fields if name in work.request}
        if part not in kept:
            raise NotFoundError(f"the request of {output_id[:100]} has no picture '{part[:20]}' that is kept")
        data: bytes = getattr(Given.model_validate(kept), part)  # of any kind: shown only as a new PNG file
        return Response(ImageCodec.png(ImageCodec.pixels_of(data)), media_type="image/png",
                        headers={"Cache-Control": _PRIVATE})

    return router
