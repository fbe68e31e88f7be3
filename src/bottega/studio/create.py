"""The Create page: a conversation with a model, its controls, and two settings compared blind; `bottega serve`, then /.

The panel of controls is built from the typed `Controls`: ranges come from the type, the words are here.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from annotated_types import Ge, Gt, Le, Lt
from fastapi import APIRouter
from starlette.responses import HTMLResponse

from bottega.core.request import Controls
from bottega.studio.lineage import description
from bottega.studio.studio import Studio
from bottega.workshop.models import Served

_CONTROLS = {  # name: label, what it does in plain words, step, top of the slider (None: a plain number field)
    "temperature": ("Temperature", "0 always takes the likeliest word; higher is more surprising.", 0.05, 2.0),
    "top_p": ("Top-p", "Choose only among the likeliest words that together reach this share.", 0.01, 1.0),
    "top_k": ("Top-k", "Choose only among this many likeliest words; 0 is no limit.", 1, 100),
    "min_p": ("Min-p", "Leave out words less likely than this share of the likeliest one.", 0.01, 1.0),
    "repetition_penalty": ("Repetition penalty", "Above 1 makes words already seen less likely.", 0.05, 2.0),
    "presence_penalty": ("Presence penalty", "Above 0 pushes towards words not used yet.", 0.1, 2.0),
    "frequency_penalty": ("Frequency penalty", "Above 0 pushes away from words used often.", 0.1, 2.0),
    "max_tokens": ("Longest answer", "Stop after this many tokens (about ¾ of a word each).", 1, None),
}
_COMMON = ("temperature", "top_p", "max_tokens")


@dataclass(frozen=True, slots=True)
class Control:
    """One control as the page shows it; `low` and `high` bound its slider, `more` puts it under "More"."""

    name: str
    label: str
    help: str
    step: float
    low: float
    high: float | None
    whole: bool
    more: bool


def controls() -> list[Control]:
    """Return the controls of the panel, with the ranges the type allows."""
    shown = []
    for name, (label, words, step, top) in _CONTROLS.items():
        field = Controls.model_fields[name]
        low = next((float(bound.ge if isinstance(bound, Ge) else bound.gt)  # type: ignore[arg-type]
                    for bound in field.metadata if isinstance(bound, Ge | Gt)), 0.0)
        limit = next((float(bound.le if isinstance(bound, Le) else bound.lt)  # type: ignore[arg-type]
                      for bound in field.metadata if isinstance(bound, Le | Lt)), None)
        high = None if top is None else top if limit is None else min(top, limit)
        whole = field.annotation == int | None
        if any(isinstance(bound, Gt) for bound in field.metadata):
            low += step
        shown.append(Control(name, label, words, step, max(low, -top) if top else low, high, whole,
                             more=name not in _COMMON))
    return shown


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
        choices = [choice(served) for served in studio.workshop.models.served()]
        return studio.page("create.html", active="create", choices=choices, choices_json=json.dumps(choices),
                           controls=[asdict(control) for control in controls()])

    return router
