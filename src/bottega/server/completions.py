"""`POST /v1/completions`: prompts are continued, or a gap before `suffix` is filled, whole or as a stream."""

from __future__ import annotations

import secrets

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bottega.core.request import Request as Wish
from bottega.server.answers import CompletionAnswer, described
from bottega.server.errors import ApiError
from bottega.server.respond import respond
from bottega.server.schemas import CompletionBody
from bottega.server.shapes import TextShape

router = APIRouter(prefix="/v1", tags=["generation"])
_MOST_CHOICES = 128


@router.post("/completions", response_model=None, responses=described(CompletionAnswer, streams=True))
async def complete(body: CompletionBody, request: Request) -> Response:
    """Continue each prompt; the choices are counted through all prompts."""
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    controls = body.controls()
    if len(prompts) * (controls.n or 1) > _MOST_CHOICES:
        raise ApiError(400, f"{len(prompts)} prompts with n {controls.n} are more than {_MOST_CHOICES} choices; "
                       "send fewer at a time", param="prompt")
    if controls.seed is None:  # one seed for all, so that the answer can name it
        controls = controls.model_copy(update={"seed": secrets.randbits(53)})
    wishes = [Wish(prompt=prompt, suffix=body.suffix, controls=controls,
                   alternatives=max(body.logprobs or 0, body.bottega.alternatives)) for prompt in prompts]
    return await respond(body, request, wishes, lambda pieces: TextShape(body.logprobs), "text_completion")
