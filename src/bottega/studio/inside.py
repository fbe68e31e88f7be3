"""The Inside pages: how an answer, a picture, a table or graphs came about; `bottega serve`, then /inside.

Each position is shown twice: the model's own probabilities, and those after the controls, from which the token was
drawn. What is not listed is summed up, so that each of the two columns makes a whole.
"""

from __future__ import annotations

import base64
import math
from typing import Any

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from bottega.codecs.graph import GraphCodec
from bottega.core.errors import NotFoundError, ReleaseError
from bottega.evaluation.graph_report import drawing
from bottega.studio.graphs import graphs_of
from bottega.studio.lineage import chain, licences
from bottega.studio.studio import Json, Studio
from bottega.studio.tables import asked_of, first_rows
from bottega.workshop import feedback, release, works
from bottega.workshop import inside as workshop_inside
from bottega.workshop.store import Store
from bottega.workshop.table_lane import PARQUET
from bottega.workshop.works import Work, WorkOutput

_SEARCHED = 500
_SHOWN = 60
_GIVEN = {"image": "the picture it started from", "mask": "the mask: what is white was drawn anew"}


def columns(step: dict[str, Any]) -> dict[str, Any]:
    """Return one position with both distributions complete.

    Args:
        step: a recorded step (`core.request.Step` as plain data).

    Returns:
        token text, `rows` ({text, model, after, chosen}, most probable first, the chosen token among them), `rest`
        ({model, after}: everything not listed), what the controls changed, and how the answer ended here.
    """
    rows = [_row(step["token_text"], step["logprob"], step["probability"], chosen=True)]
    rows += [_row(other["text"], other["logprob"], other["probability"]) for other in step.get("alternatives") or ()
             if other["token"] != step["token"]]
    rows.sort(key=lambda row: -row["model"])
    rest = {name: max(0.0, 1.0 - math.fsum(row[name] for row in rows)) for name in ("model", "after")}
    return {"text": step["token_text"], "shown": step["text"], "rows": rows, "rest": rest,
            "changes": list(step.get("changes") or ()), "finish": step.get("finish")}


def _row(text: str, logprob: float | None, probability: float | None, chosen: bool = False) -> dict[str, Any]:
    model = 0.0 if logprob is None else math.exp(logprob)
    return {"text": text, "model": model, "after": model if probability is None else probability, "chosen": chosen}


def asked(work: Work) -> str:
    """Return the last thing a person said in a request, or nothing when it is no longer kept."""
    messages = work.request.get("messages") or ()
    said = [message["content"] for message in messages if message.get("role") == "user"]
    return str((said[-1] if said else work.request.get("prompt")) or "")


def matches(work: Work, query: str) -> bool:
    """Say whether an id, the model, the question or an answer holds the words."""
    texts = [work.id, work.alias, work.model, asked(work), *(output.text or "" for output in work.outputs)]
    return any(query.casefold() in text.casefold() for text in texts)


def heard(store: Store, output: WorkOutput) -> list[dict[str, Any]]:
    """Return what stands of what people said about an output, newest first, with the `part` that a critique marked."""
    rows = [row for row in feedback.listed(store, output=output.id) if row["replaced_by"] is None]
    return [{**row, "part": output.text[slice(*row["span"])] if row["span"] and output.text else ""} for row in rows]


def routes(studio: Studio) -> APIRouter:
    """Return the two pages and the data of one answer."""
    router, workshop = studio.router(), studio.workshop

    @router.get("/inside")
    def listing(q: str = "") -> HTMLResponse:
        found = works.works(workshop.store, limit=_SEARCHED if q else _SHOWN)
        graphs = {one.digest for one in workshop.models.served() if one.medium == "graph"}
        shown = [(work, asked(work), work.model_digest in graphs)
                 for work in found if not q or matches(work, q)][:_SHOWN]
        return studio.page("inside_list.html", active="inside", works=shown, q=q, searched=_SEARCHED)

    @router.get("/inside/{output_id}")
    def page(output_id: str) -> HTMLResponse:
        work, output = works.output(workshop.store, output_id)
        maker = next((one for one in workshop.models.served() if one.digest == work.model_digest), None)
        links = chain(maker.path, workshop.home) if maker else []
        table = output.media_type == PARQUET
        picture = output.media_type != works.TEXT and not table
        graphs = maker is not None and maker.medium == "graph"
        kept = output.finish == "end" and output.text is not None
        names, rows, count = list[str](), list[list[Any]](), 0
        refused = ""
        if table and kept:
            try:
                names, rows, count = first_rows(release.file(workshop.store, workshop.home, output_id)[1])
            except NotFoundError:
                kept = False  # it was too large to be kept
            except ReleaseError as error:
                refused = error.problem
        drawings = []
        if maker is not None and graphs and kept:
            codec = GraphCodec.load(maker.path)
            drawings = [drawing(graph, line, codec.kinds) for graph, line in graphs_of(codec, output.text or "")]
        files = work.lineage.get("files") or []
        given = {name: words for name, words in _GIVEN.items() if name in work.request}
        controls = {name: value for name, value in (work.request.get("controls") or {}).items() if value is not None}
        conditions = asked_of(controls)
        controls.pop("conditions", None)  # they have a place of their own
        return studio.page("inside.html", active="inside", work=work, output=output, links=links,
                           licences=licences(links), controls=controls, messages=work.request.get("messages"),
                           prompt=work.request.get("prompt"), toward=work.request.get("toward"), given=given,
                           picture=picture, table=table, kept=kept, names=names, rows=rows, count=count,
                           conditions=conditions, refused=refused, graphs=graphs, drawings=drawings,
                           said=heard(workshop.store, output),
                           file_digest=(files[output.index] or "") if output.index < len(files) else "")

    @router.get("/studio/inside/{output_id}.json")
    async def data(output_id: str) -> Json:
        found = await workshop_inside.inside(workshop, output_id)
        positions = [columns(step) for step in found.steps]
        frames = [base64.b64encode(frame).decode() for frame in found.frames]
        return Json({"steps": positions, "frames": frames, "replayed": found.replayed, "why": found.missing})

    return router
