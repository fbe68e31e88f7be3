"""`GET /healthz` for whatever restarts servers, `GET /metrics` for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

import bottega
from bottega.server.errors import answer
from bottega.server.state import doors

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=None)
async def health(request: Request) -> Response:
    """Say whether requests are taken: 503 while the server stops."""
    state = doors(request)
    content = {"status": "stopping" if state.draining else "ok", "version": bottega.__version__,
               "models": sorted(batcher.engine.lineage["name"] for batcher in state.workshop.models.loaded().values())}
    return answer(content, 503 if state.draining else 200)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Return all figures in Prometheus' text format."""
    state = doors(request)
    text = state.metrics.text(state.workshop.models.loaded(), state.active)
    return PlainTextResponse(text, headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})
