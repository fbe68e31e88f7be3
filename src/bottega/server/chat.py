"""`POST /v1/chat/completions`: a conversation is answered, whole or as a stream."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bottega.core.request import Request as Wish
from bottega.server.answers import ChatAnswer, described
from bottega.server.respond import respond
from bottega.server.schemas import ChatBody
from bottega.server.shapes import ChatShape

router = APIRouter(prefix="/v1", tags=["generation"])


@router.post("/chat/completions", response_model=None, responses=described(ChatAnswer, streams=True))
async def chat(body: ChatBody, request: Request) -> Response:
    """Answer a conversation."""
    shown = (body.top_logprobs or 0) if body.logprobs else None
    wish = Wish(messages=body.turns(), controls=body.controls(),
                alternatives=max(shown or 0, body.bottega.alternatives))
    must = body.forced
    names = list(must.tools) if must else [tool["function"]["name"] for tool in body.offered]
    most = 1 if body.parallel_tool_calls is False else None
    return await respond(body, request, [wish], lambda pieces: ChatShape(shown, pieces, names, most),
                         "chat.completion")
