"""The Create page for graphs, with what it draws of them and the file of finished ones; `bottega serve`, then /graphs.

Graphs come from `POST /v1/graphs/generations`; where nodes and edges stand on a drawing is computed here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import HTMLResponse, JSONResponse, Response

from bottega.codecs.graph import GraphCodec
from bottega.core.errors import InputError, NotFoundError
from bottega.core.graph import Graph
from bottega.core.smiles import read_smiles
from bottega.core.validate import Strict
from bottega.data.graphs.read import from_plain
from bottega.evaluation.graph_report import SIDE, shapes
from bottega.studio.lineage import description
from bottega.studio.studio import Studio
from bottega.workshop import works

SHOWN = 24  # drawings of a page


class Wanted(Strict):
    """Graphs to draw.

    Attributes:
        model: that made them; its types have the colours.
        graphs: objects `{"nodes": [type, …], "edges": [[i, j, type], …]}`.
    """

    model: str
    graphs: list[dict[str, Any]] = Field(max_length=SHOWN)


def graphs_of(codec: GraphCodec, text: str, count: int = SHOWN) -> list[tuple[Graph, str]]:
    """Return the first graphs of the lines that a model gave out, each with a line about it.

    Raises:
        DataError: a line is no graph.
    """
    lines = text.splitlines()[:count]
    if codec.form == "molecules":
        return [(read_smiles(line).graph, line) for line in lines]
    return [(graph, about(graph)) for graph in (from_plain(json.loads(line)) for line in lines)]


def about(graph: Graph) -> str:
    """Return what a graph is, in a few words."""
    return f"{len(graph)} nodes, {len(graph.edges)} edges"


def routes(studio: Studio) -> APIRouter:
    """Return the page, and the routes of models, drawings and files behind it."""
    router, workshop = studio.router(), studio.workshop

    def folder(name: str) -> Path:
        return workshop.models.resolve(name, "graph").path

    @router.get("/graphs")
    def page() -> HTMLResponse:
        served = [one for one in workshop.models.served() if one.medium == "graph"]
        return studio.page("graphs.html", active="create", medium="graph", models=served)

    @router.get("/studio/graphs/models/{name}")
    def model(name: str) -> JSONResponse:
        path = folder(name)
        codec = GraphCodec.load(path)
        return JSONResponse({"id": name, "about": description(path).get("recipe", {}).get("description", ""),
                             "rule": codec.rule, "largest": codec.largest, "learned": codec.graphs,
                             "kinds": list(codec.kinds), "molecules": codec.form == "molecules", "shown": SHOWN})

    @router.post("/studio/graphs/drawings")
    def drawings(body: Wanted) -> JSONResponse:
        codec, found = GraphCodec.load(folder(body.model)), []
        for graph in map(from_plain, body.graphs):
            if odd := codec.foreign(graph):
                raise InputError(f"this graph cannot be drawn: {odd}", fix="send graphs that the model made")
            found.append({"shapes": shapes(graph, codec.kinds), "about": about(graph)})
        return JSONResponse({"side": SIDE, "drawings": found})

    @router.get("/studio/graphs/{output_id}.txt")
    def file(output_id: str) -> Response:
        _, output = works.output(workshop.store, output_id)
        if output.media_type != works.TEXT or output.text is None:
            raise NotFoundError(f"the lines of output '{output_id[:100]}' are not kept", fix="make them again")
        return Response(output.text, media_type="text/plain; charset=utf-8", headers={
            "Cache-Control": "private, max-age=3600",
            "Content-Disposition": f'attachment; filename="{output_id}.txt"'})

    return router
