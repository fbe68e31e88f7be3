"""The Create page for texts: a conversation with a model, its controls, and two settings compared blind; see /."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from bottega.studio.controls import TEXT, controls
from bottega.studio.lineage import description
from bottega.studio.studio import Studio
from bottega.workshop.models import Served


def choice(served: Served) -> dict[str, Any]:
    """Return what the model picker needs: what it can do, its own controls, and prompts its recipe gives."""
    meta = description(served.path)
    prompts = meta.get("recipe", {}).get("evaluation", {}).get("prompts", [])
    return {"id": served.id, "name": served.name, "alias": served.alias, "answers": served.answers,
            "context": served.context, "controls": meta.get("controls", {}), "prompts": prompts[:4],
            "about": meta.get("recipe", {}).get("description", "")}


def routes(studio: Studio) -> APIRouter:
    """Return the page."""
    router = studio.router()

    @router.get("/")
    def page() -> HTMLResponse:
        choices = [choice(served) for served in studio.workshop.models.served() if served.medium == "text"]
        return studio.page("create.html", active="create", medium="text", choices=choices,
                           choices_json=json.dumps(choices), controls=[asdict(control) for control in controls(TEXT)])

    return router
