"""The glass box of a finished output: what else could have come at each token, and what each control did.

What was recorded with the output is shown as it was. An output recorded without alternatives is made again from its
seed, and shown when every token is the same; `bottega serve` shows it under /inside.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bottega.codecs.image import ImageCodec
from bottega.core.errors import BottegaError, InputError
from bottega.core.lineage import Lineage, ancestry
from bottega.core.request import Request, Result, Step
from bottega.core.validate import validate
from bottega.workshop import works
from bottega.workshop.lane import plain_step
from bottega.workshop.models import Served
from bottega.workshop.works import Work, WorkOutput
from bottega.workshop.workshop import Workshop

_TAKEN = ("redact", "ask", "block")


@dataclass(frozen=True)
class Inside:
    """Everything about one output.

    Attributes:
        steps: one a token, as `core.request.Step`, ready for JSON; empty when none can be shown.
        frames: of a picture: PNG files of what it was going to be at each step, the last one the picture itself.
        replayed: steps or frames were found by making the output again, token for token or pixel for pixel the same.
        missing: why steps or alternatives are not there; empty when they are.
        ancestry: the model's lineage back to the data, nearest first; empty when the model is gone.
    """

    work: Work
    output: WorkOutput
    steps: list[dict[str, Any]] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    replayed: bool = False
    missing: str = ""
    ancestry: list[Lineage] = field(default_factory=list)


async def inside(workshop: Workshop, output_id: str, alternatives: int = 8) -> Inside:
    """Open the box of one output.

    Raises:
        NotFoundError: there is no such output.
    """
    work, output = await asyncio.to_thread(works.output, workshop.store, output_id)
    served = await asyncio.to_thread(_maker, workshop, work)
    chain = await asyncio.to_thread(_ancestry, served.path, workshop.home) if served is not None else []
    steps = output.steps or []
    if any(step["alternatives"] for step in steps):
        return Inside(work, output, steps, ancestry=chain)
    missing = ""
    if output.text is None:
        missing = "the content of this output was forgotten, as the workshop's retention setting says"
    elif output.media_type == "text/plain" and not output.tokens:
        missing = "the output has no tokens that can be shown"
    elif work.status != "done":
        missing = f"the output was {work.status} on the way, so its making cannot be repeated"
    elif any(verdict["stage"] == "output" and verdict["action"] in _TAKEN for verdict in work.verdicts):
        missing = "the guard took words out of it, and what was taken out is not shown again"
    elif served is None:
        missing = f"the model that made it ({work.model}, {work.model_digest[:12]}) is not in the workshop any more"
    if missing:
        return Inside(work, output, steps, missing=missing, ancestry=chain)
    assert served is not None
    try:
        fresh = (await replay(workshop, served, work, alternatives)).get(output.index, [])
    except BottegaError as error:
        return Inside(work, output, steps, missing=f"it could not be made again: {error.problem}", ancestry=chain)
    picture = output.media_type != "text/plain"
    if not (await asyncio.to_thread(_same_picture, workshop, output_id, fresh) if picture else
            [step.token for step in fresh] == output.tokens):
        return Inside(work, output, steps, ancestry=chain, missing="made again it came out differently, "
                      "so only what was recorded is shown (code, torch or processor may have changed since)")
    if picture:
        frames = await asyncio.to_thread(lambda: [ImageCodec.png(step.data) for step in fresh])
        return Inside(work, output, frames=frames, replayed=True, ancestry=chain)
    return Inside(work, output, [plain_step(step) for step in fresh], replayed=True, ancestry=chain)


def _maker(workshop: Workshop, work: Work) -> Served | None:
    """Return the very model that made a work, if the workshop still has it."""
    return next((served for served in workshop.models.served() if served.digest == work.model_digest), None)


def _same_picture(workshop: Workshop, output_id: str, fresh: list[Step]) -> bool:
    """Return whether the last step has the pixels of the recorded file."""
    _, file = works.file(workshop.store, output_id)
    return bool(fresh) and np.array_equal(ImageCodec.pixels_of(file), fresh[-1].data)


def _ancestry(path: Path, home: Path) -> list[Lineage]:
    try:
        return ancestry(path, home)
    except BottegaError:
        return []


async def replay(workshop: Workshop, served: Served, work: Work, alternatives: int = 0) -> dict[int, list[Step]]:
    """Make a work's outputs again and return the steps of each by its number; nothing is recorded.

    Raises:
        BottegaError: the request cannot be read any more, the queue is full, or the model failed.
    """
    request = validate(Request, work.request, where=f"work {work.id}", error=InputError)
    request = request.model_copy(update={"alternatives": alternatives})
    maker = await workshop.models.maker(served)
    loop = asyncio.get_running_loop()
    made: asyncio.Future[None] = loop.create_future()
    steps: dict[int, list[Step]] = {}

    def settle(end: Result | BottegaError) -> None:
        if isinstance(end, BottegaError) and not made.done():
            made.set_exception(end)
        elif not made.done():
            made.set_result(None)

    def deliver(fresh: list[Step], end: Result | BottegaError | None) -> None:
        for step in fresh:
            steps.setdefault(step.output, []).append(step)
        if end is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, end)

    ticket = await asyncio.to_thread(maker.prepare, request, deliver)
    maker.submit(ticket)
    try:
        await made
    finally:
        maker.cancel(ticket)
    return steps
