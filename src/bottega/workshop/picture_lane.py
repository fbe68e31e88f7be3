"""One picture on its way from the engine to a reader: pixels become a PNG file that carries how it was made.

`bottega reproduce FILE.png` reads what `facts` writes: model digest, prompt, controls with the seed, digests of the
pictures it started from. The bytes follow from these facts and the pixels alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from bottega.codecs.image import ImageCodec
from bottega.core.request import Output, Request, Step
from bottega.guard.verdict import Action, Verdict
from bottega.workshop.lane import Delta
from bottega.workshop.models import Served


class PictureLane:
    """See the module. It has the shape of `workshop.lane.Lane`.

    Args:
        output: its number.
        facts: see `facts`.
        previews: whether anyone wants to see it grow.

    Attributes:
        finish: why the picture ended: `end`, or `filtered` by a check of the model's own.
        made: 1 once the picture is there.
        file: the PNG file.
    """

    media_type = "image/png"
    text, score = "", 0.0

    def __init__(self, output: int, facts: dict[str, Any], *, previews: bool) -> None:
        self.output, self._facts, self._previews = output, facts, previews
        self.finish: str | None = None
        self.made, self.file = 0, None  # type: tuple[int, bytes | None]
        self.tokens: list[int] = []
        self.verdicts: list[Verdict] = []

    def encode(self, step: Step) -> Step | None:
        """Return a step with a PNG file as its data, None for a preview nobody wants; called in the model's thread."""
        if step.data is None:
            return step
        if step.finish:
            return dataclasses.replace(step, data=ImageCodec.png(step.data, self._facts))
        return dataclasses.replace(step, data=ImageCodec.png(step.data)) if self._previews else None

    def push(self, steps: list[Step]) -> Delta | None:
        """Take new steps, encoded, and return the latest picture of them."""
        if self.finish or not steps:
            return None
        step = steps[-1]
        if step.finish:
            self.finish, self.file, self.made = step.finish, step.data, 1
        if step.finish == "filtered":
            self.verdicts.append(Verdict("model", "picture", Action.BLOCK, "output", "the model's own check held a "
                                         "picture back", where=f"output {self.output}"))
        return Delta(self.output, "", (), step.finish, step.data, step.index)

    def result(self) -> Output:
        """Return the finished output; its one step holds the PNG file."""
        steps = [Step(self.output, 0, kind="frame", data=self.file)] if self.file is not None else []
        return Output(steps=steps, finish=self.finish or "")

    def plain_steps(self) -> list[dict[str, Any]]:
        """Return nothing: previews are made again when someone looks inside."""
        return []


def facts(id: str, output: int, request: Request, served: Served, lineage: dict[str, Any]) -> dict[str, Any]:
    """Return what a PNG file says of its making, ready for JSON.

    Args:
        id: of the work.
        output: number of the picture.
        request: with its controls settled.
        served: the model.
        lineage: what the engine signed.
    """
    given = {name: hashlib.sha256(data).hexdigest()
             for name, data in (("image", request.image), ("mask", request.mask)) if data is not None}
    toward = {} if request.toward is None else {"toward": request.toward}
    return {"id": f"{id}.{output}", "output": output, "model": {"name": served.name, "digest": served.digest},
            "prompt": request.prompt, **toward, **given, "controls": lineage["controls"],
            "lineage": lineage.get("lineage"), "code": lineage["code"], "torch": lineage["torch"]}
