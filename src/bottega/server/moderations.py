"""`POST /v1/moderations`: what the workshop's guard finds in a text."""

from __future__ import annotations

import asyncio
import secrets
import threading
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bottega.server.errors import answer
from bottega.server.making import ClientGone, unless_gone
from bottega.server.schemas import ModerationBody
from bottega.server.state import doors

if TYPE_CHECKING:
    from bottega.guard.guard import Guard

router = APIRouter(prefix="/v1", tags=["moderation"])


@router.post("/moderations", response_model=None)
async def moderate(body: ModerationBody, request: Request) -> Response:
    """Check each text."""
    inputs = [body.input] if isinstance(body.input, str) else body.input
    texts = [text if isinstance(text, str) else text.text for text in inputs]
    state = doors(request)
    try:
        results = await unless_gone(request.receive, state.places.run(lambda: _results(state.workshop.guard, texts)))
    except ClientGone:
        return Response(status_code=499)  # nobody reads it
    return answer({"id": f"modr-{secrets.token_hex(12)}", "model": "bottega-guard", "results": results})


async def _results(guard: Guard, texts: list[str]) -> list[dict[str, Any]]:
    """Check the texts in a thread; cancelled, it ends when the thread has, at the end of the present text."""
    left = threading.Event()
    thread = asyncio.ensure_future(asyncio.to_thread(
        lambda: [_result(guard, text) for text in texts if not left.is_set()]))
    try:
        return await asyncio.shield(thread)
    finally:
        left.set()
        await asyncio.gather(thread, return_exceptions=True)


def _result(guard: Guard, text: str) -> dict[str, Any]:
    """Return the findings in one text; a check either finds something or not, so scores are 0 or 1."""
    verdicts = guard.moderate(text)
    found = {verdict.category for verdict in verdicts}
    categories = sorted({*guard.categories, *found})
    return {"flagged": bool(found), "categories": {name: name in found for name in categories},
            "category_scores": {name: float(name in found) for name in categories},
            "category_applied_input_types": {name: ["text"] for name in categories},
            "bottega": {"verdicts": [verdict.plain() for verdict in verdicts]}}
