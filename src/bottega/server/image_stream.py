"""Pictures as events, as OpenAI's clients read them: each is shown some times while it grows, then whole.

`curl -N localhost:8400/v1/images/generations -d '{"stream": true, "partial_images": 3, "prompt": "a red star"}'`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import struct
from collections.abc import Callable
from typing import Any

from starlette.types import Send

from bottega.core.request import Controls
from bottega.server.errors import ApiError
from bottega.server.making import Making
from bottega.server.streams import EventStream


class ImageStream(EventStream):
    """The pictures of one request.

    Args:
        making, left: see `EventStream`.
        kind: what the events' names begin with, `image_generation` or `image_edit`.
        partial: how often each picture is shown before it is whole, as far as it takes enough steps.
    """

    def __init__(self, making: Making, kind: str, partial: int, left: Callable[[], None]) -> None:
        super().__init__(making, left)
        self._kind, self._partial = kind, partial

    async def follow(self, send: Send) -> None:
        """Send previews and pictures; the last picture waits for what is told at the end."""
        job, held, shown = self._making.jobs[0], "", dict[int, int]()
        places = preview_steps(job.controls, self._partial)
        async with contextlib.aclosing(self._making.deltas()) as deltas:
            async for delta in deltas:
                count = shown.get(delta.output, 0)
                if delta.png is None:
                    continue
                if delta.finish:
                    if held:
                        await self._send(send, held)
                    held = self._event("completed", delta.png, delta.output, usage=usage(1))
                elif count < len(places) and delta.index >= places[count]:
                    shown[delta.output] = count + 1
                    await self._send(send, self._event("partial_image", delta.png, delta.output,
                                                       partial_image_index=count))
        if not held:
            raise held_back(self._making)
        extra = json.dumps(told(self._making), separators=(",", ":"))
        await self._send(send, held.removesuffix("}}\n\n") + "," + extra[1:] + "}\n\n")

    def _event(self, name: str, png: bytes, output: int, **more: Any) -> str:
        """Return an event; `bottega` stands last in it, so that more can be added to it."""
        kind = f"{self._kind}.{name}"
        facts = {"type": kind, "b64_json": base64.b64encode(png).decode(), "background": "opaque",
                 "created_at": self._making.jobs[0].created, "output_format": "png", "quality": "auto",
                 "size": size_of(png), **more, "bottega": {"output": output}}
        return f"event: {kind}\ndata: {json.dumps(facts, separators=(',', ':'))}\n\n"


def preview_steps(controls: Controls, partial: int) -> list[int]:
    """Return after which steps (from 0) a picture is shown, spread evenly; the first ones where steps are unknown."""
    if controls.steps is None:
        return list(range(partial))
    # how many steps a family takes without strength is its own matter: then the last preview may be missing
    steps = math.ceil(controls.steps * (1.0 if controls.strength is None else controls.strength))
    places = {max(0, round((number + 1) * steps / (partial + 1)) - 1) for number in range(partial)}
    return sorted(place for place in places if place < steps - 1)


def size_of(png: bytes) -> str:
    """Return WIDTHxHEIGHT as a PNG file's first chunk says it."""
    width, height = struct.unpack(">II", png[16:24])
    return f"{width}x{height}"


def usage(pictures: int) -> dict[str, Any]:
    """Return what is told of tokens: a picture counts as one that was made."""
    made, read = {"image_tokens": pictures, "text_tokens": 0}, {"image_tokens": 0, "text_tokens": 0}
    return {"input_tokens": 0, "input_tokens_details": read, "output_tokens": pictures, "output_tokens_details": made,
            "total_tokens": pictures}


def told(making: Making) -> dict[str, Any]:
    """Return what Bottega tells beyond OpenAI's answer; `outputs` are the pictures that were delivered."""
    delivered = [output.id for job in making.jobs for output in job.done.work.outputs if output.finish == "end"]
    return {**making.extension(), "outputs": delivered}


def held_back(making: Making) -> ApiError:
    """Return the answer when a check of the model's own held every picture back."""
    return ApiError(400, "the model's own check held back every picture; change the prompt or the seed",
                    code="content_policy_violation", extra={"bottega": told(making)})
