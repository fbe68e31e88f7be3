"""`POST /v1/graphs/generations`: graphs as objects, or as a file of SMILES or JSON lines.

`pytest tests/server/test_graphs.py` asks for some.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, ClassVar, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bottega.core.request import Controls
from bottega.core.request import Request as Wish
from bottega.server.answers import GraphAnswer, described
from bottega.server.errors import ApiError, answer
from bottega.server.making import ClientGone, Making, unless_gone
from bottega.server.schemas import Body, Count, Number, Origin, as_controls
from bottega.server.state import doors, principal

router = APIRouter(prefix="/v1/graphs", tags=["generation"])
_MOST = 10_000  # graphs of an answer


class GraphBody(Body):
    """Body of `POST /v1/graphs/generations`; ranges are those of the controls (see `bottega generate --help`).

    Attributes:
        rows: how many graphs.
        nodes: of each.
        response_format: objects in JSON, or a file with a line a graph.
    """

    harmless: ClassVar[dict[str, tuple[Any, ...]]] = {"n": (1,)}

    model: str | None = None
    rows: Count = None
    nodes: Count = None
    seed: Count = None
    temperature: Number = None
    response_format: Literal["json", "lines"] | None = None
    bottega: Origin = Origin()

    def wish(self) -> Wish:
        """Return the request as the lower floors know it.

        Raises:
            ApiError: 400 that names the field, its value and what is allowed.
        """
        if self.rows is not None and self.rows > _MOST:
            raise ApiError(400, f"rows: {self.rows:,} are more than {_MOST:,} at a time; ask for fewer with several "
                                "seeds", param="rows")
        wish = {name: getattr(self, name) for name in Controls.model_fields if hasattr(self, name)}
        return Wish(prompt="", controls=as_controls(wish))


NAMES = frozenset(GraphBody.model_fields)


@router.post("/generations", response_model=None, responses=described(GraphAnswer, files=("text/plain",)))
async def generate(body: GraphBody, request: Request) -> Response:
    """Make graphs that keep the model's rule; molecules come with their SMILES."""
    state, wish = doors(request), body.wish()

    async def whole() -> Response:
        making = await Making.open(state, body.model, [wish], body.bottega.door, principal(request), medium="graph")
        text, graphs = await _made(making)
        job = making.jobs[0]
        if body.response_format == "lines":
            return Response(text, media_type="text/plain; charset=utf-8", headers={
                "content-disposition": f'attachment; filename="{job.id}.0.txt"', "x-content-type-options": "nosniff"})
        shown = [{"nodes": list(graph.nodes), "edges": [list(edge) for edge in graph.edges],
                  "smiles": None if line.startswith("{") else line}
                 for graph, line in zip(graphs, text.splitlines(), strict=True)]
        usage = making.usage()
        return await asyncio.to_thread(answer, {
            "created": job.created, "model": job.served.id, "data": shown, "bottega": making.extension(),
            "usage": {**usage, "graphs": usage["completion_tokens"]}})

    try:
        return await unless_gone(request.receive, whole())
    except ClientGone:
        state.metrics.cancelled.inc()
        return Response(status_code=499)  # nobody reads it


async def _made(making: Making) -> tuple[str, list[Any]]:
    """Follow a making to its end and return its lines and its graphs."""
    lines, graphs = list[str](), list[Any]()
    try:
        async with contextlib.aclosing(making.deltas()) as deltas:
            async for delta in deltas:
                lines.append(delta.text)
                graphs += [graph for step in delta.steps for graph in step.data]
    finally:
        await making.cancel()
    return "".join(lines), graphs
