"""The way of a picture from request to file: label → guard → engine → record → deliver, as texts go it.

Each PNG carries what makes it again: model digest, prompt, controls and seed; `bottega reproduce FILE.png` reads it.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from bottega.core.errors import RefusedError
from bottega.core.request import Request
from bottega.generation.pictures import PictureEngine
from bottega.guard.guard import Guard
from bottega.guard.verdict import Action
from bottega.workshop import works
from bottega.workshop.commission import label, with_texts
from bottega.workshop.job import new_id
from bottega.workshop.models import Served
from bottega.workshop.store import Store
from bottega.workshop.works import Work, WorkOutput


def draw(store: Store, guard: Guard, engine: PictureEngine, served: Served, request: Request, *, door: str,
         principal: str = "local") -> tuple[Work, list[bytes]]:
    """Make a request's pictures as PNG files in memory; recorded when this returns.

    Args:
        store: gets the work; of each picture its SHA-256 is kept, in the work's lineage under `files`.
        guard: checks the prompt.
        engine: of the model.
        served: the model.
        request: its prompt is a class, a caption or empty.
        door, principal: where it was asked, and by whom.

    Raises:
        RefusedError: the guard blocked the prompt.
        ControlError, InputError: as in `PictureEngine.generate`.
    """
    id, came = new_id(), datetime.now(UTC)
    inspection = guard.check_input(label(request))
    request = with_texts(request, inspection.context)
    verdicts = [verdict.plain() for verdict in inspection.verdicts]

    def work(status: works.Status, **more: object) -> Work:
        facts = {"id": id, "created": came, "door": door, "principal": principal, "alias": served.id,
                 "model": served.name, "model_digest": served.digest, "verdicts": verdicts, "status": status,
                 "request": request.model_dump(mode="json", exclude_none=True)}
        return Work(**{**facts, **more})  # type: ignore[arg-type]

    if inspection.action >= Action.ASK:
        works.record(store, work("refused"))
        worst = max(inspection.verdicts, key=lambda verdict: verdict.action)
        raise RefusedError(f"the guard refused the request: {worst.reason}", verdicts=inspection.verdicts)
    result = engine.generate(request)
    controls = result.lineage["controls"]
    files = []
    for number, output in enumerate(result.outputs):
        facts = {"id": f"{id}.{number}", "output": number, "model": {"name": served.name, "digest": served.digest},
                 "prompt": request.prompt, "controls": controls, "lineage": result.lineage["lineage"],
                 "code": result.lineage["code"], "torch": result.lineage["torch"]}
        files.append(engine.codec.png(output.steps[-1].data, facts))
    done = work("done", request={**request.model_dump(mode="json", exclude_none=True), "controls": controls},
                new_tokens=len(files), seed=result.seed, seconds=result.seconds,
                lineage={**result.lineage, "files": [hashlib.sha256(file).hexdigest() for file in files]},
                outputs=[WorkOutput(id=f"{id}.{number}", index=number, text="", finish="end", score=0.0, tokens=[])
                         for number in range(len(files))])
    works.record(store, done)
    return done, files
