"""One commission under way: tokens come from the model's thread, pass the stream guard, are recorded, are delivered.

`pytest tests/workshop/test_commission.py` follows jobs to their ends, early and late ones.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from bottega.core.errors import BottegaError, Interrupted
from bottega.core.request import Request, Result, Step
from bottega.guard.guard import Guard
from bottega.guard.verdict import Action, Verdict, join
from bottega.workshop import works
from bottega.workshop.graph_lane import GraphLane
from bottega.workshop.lane import Delta, Lane
from bottega.workshop.models import Served
from bottega.workshop.picture_lane import PictureLane, facts
from bottega.workshop.release import Standing
from bottega.workshop.store import Store
from bottega.workshop.table_lane import TableLane
from bottega.workshop.works import Status, Work, WorkOutput

if TYPE_CHECKING:
    from bottega.generation.delivery import Maker


@dataclass(frozen=True)
class Order:
    """What someone wants: a request to a model (an alias, a name, or None for the default), and who asks where.

    Attributes:
        medium: what is to be made, `text`, `image`, `table` or `graph`; a model that makes something else is refused.
        previews: deliver pictures as they grow, too.
    """

    model: str | None
    request: Request
    door: str
    principal: str = "local"
    medium: Literal["text", "image", "table", "graph"] = "text"
    previews: bool = False


@dataclass(frozen=True)
class Done:
    """How a job ended: the work as it was recorded, all verdicts, and the result in the order of its outputs."""

    work: Work
    verdicts: list[Verdict]
    result: Result


def new_id() -> str:
    """Return the id of a new work."""
    return "bt-" + base64.b32encode(secrets.token_bytes(15)).decode().lower()


class Job:
    """One commission under way. Iterate over it for the deltas; leaving the iteration early cancels it.

    Attributes:
        id: of the work; its outputs are `{id}.0`, `{id}.1` …
        created: seconds since 1970.
        served: the model.
        seed: that makes the same bytes again.
        prompt_tokens: tokens of the prompt.
        controls: settled ones, once it is queued.
        standing: of a model of a table before the release gate.
        done: how it ended, once the last delta was delivered.
    """

    def __init__(self, id: str, order: Order, served: Served, guard: Guard, store: Store) -> None:
        self.id, self.order, self.served = id, order, served
        self._came = datetime.now(UTC)
        self.created, self.seed, self.prompt_tokens = int(self._came.timestamp()), 0, 0
        self.controls = order.request.controls
        self._guard, self._store = guard, store
        self._loop = asyncio.get_running_loop()
        self._start = time.perf_counter()
        self._first: float | None = None
        self._buffer: deque[Delta] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._error: BottegaError | None = None
        self._over = False
        self.lanes: list[Lane] | list[PictureLane] | list[TableLane] | list[GraphLane] = []
        self.verdicts: list[Verdict] = []
        self.standing = Standing()
        self._request: Request = order.request
        self._maker: Maker | None = None
        self._ticket: Any = None
        self._ended = asyncio.Event()
        self._finishing: asyncio.Task[None] | None = None
        self._done: Done | None = None

    @property
    def done(self) -> Done:
        """How it ended.

        Raises:
            RuntimeError: it has not.
        """
        if self._done is None:
            raise RuntimeError("the job is not over")
        return self._done

    def begin(self, maker: Maker, request: Request) -> None:
        """Queue the guarded request; called from a worker thread.

        Raises:
            ControlError, InputError, BusyError: as in `Maker.prepare` and `Maker.submit`.
        """
        self._request, self._maker = request, maker
        self._ticket = maker.prepare(request, self._deliver)
        plan = self._ticket.plan
        self.seed, self.prompt_tokens, self.controls = plan.seed, len(plan.prompt), plan.controls
        if self.served.medium == "graph":
            self.lanes = [GraphLane(number) for number in range(plan.wanted)]
        elif self.served.medium != "text":
            signed = maker.engine.sign(plan)
            told = [{**facts(self.id, number, plan.request, self.served, signed), **self.standing.plain()}
                    for number in range(plan.wanted)]
            self.lanes = [TableLane(number, said, self.standing.notes) for number, said in enumerate(told)] \
                if self.served.medium == "table" else \
                [PictureLane(number, said, previews=self.order.previews) for number, said in enumerate(told)]
        else:
            self.lanes = [Lane(number, self._guard.stream(number)) for number in range(plan.wanted)]
        maker.submit(self._ticket)

    def _deliver(self, steps: list[Step], end: Result | BottegaError | None) -> None:
        """Take news from the model's thread to the event loop."""
        if self.served.medium != "text":
            steps = [shown for step in steps if not isinstance(lane := self.lanes[step.output], Lane)
                     and (shown := lane.encode(step)) is not None]
        try:
            self._loop.call_soon_threadsafe(self._receive, steps, end)
        except RuntimeError:  # the loop is closed: nobody is there to be told
            return

    def _receive(self, steps: list[Step], end: Result | BottegaError | None) -> None:
        if self._over or self._finishing is not None:
            return
        if steps and self._first is None:
            self._first = time.perf_counter() - self._start
        deltas = [delta for lane in self.lanes
                  if (delta := lane.push([step for step in steps if step.output == lane.output])) is not None]
        blocked = bool(self.lanes) and all(lane.finish for lane in self.lanes)
        if end is None and not blocked:
            if deltas:
                self._buffer += deltas
                self._notify()
            return
        if end is None:
            self.leave()
        self._finishing = self._loop.create_task(self._finish(deltas, end))

    async def _finish(self, deltas: list[Delta], end: Result | BottegaError | None) -> None:
        """Check whole outputs, record the work, then let the last deltas go."""
        try:
            failed = end if isinstance(end, BottegaError) else None
            status: Status = "cancelled" if isinstance(failed, Interrupted) else "failed" if failed else "done"
            form = self._request.controls.format
            texts = [lane.text for lane in self.lanes]
            whole = self._guard.check_outputs(texts, expects_json=form is not None and form.json_schema is not None) \
                if status == "done" and self.served.medium == "text" else []
            self.verdicts += [verdict for lane in self.lanes for verdict in lane.verdicts] + whole
            if join(whole) >= Action.ASK:  # most of the text has gone, but nobody shall take it for a good answer
                deltas = [replace(delta, text="", steps=(), finish=delta.finish and "filtered") for delta in deltas]
                for lane in self.lanes:
                    lane.finish = "filtered"
            work = self._work(status, failed.problem if failed else "")
            await asyncio.to_thread(works.record, self._store, work)
            self._done = Done(work, self.verdicts, Result(
                outputs=[lane.result() for lane in self.lanes], prompt_tokens=work.prompt_tokens,
                new_tokens=work.new_tokens, seed=self.seed, seconds=work.seconds, model=work.model_digest,
                lineage=work.lineage))
            self._buffer += deltas
            self._error = failed
        except BottegaError as error:
            self._error = error
        except Exception as error:  # what cannot be recorded is not delivered as if it were
            self._error = BottegaError(f"the work could not be recorded: {type(error).__name__}",
                                       fix="see the server's log")
            raise
        finally:
            self._over = True
            self._notify()
            self._ended.set()

    def _work(self, status: Status, error: str) -> Work:
        request = self._request.model_dump(mode="json", exclude_none=True)
        controls = self.controls if self._ticket else self._request.controls
        request["controls"] = controls.model_dump(mode="json", exclude_none=True)
        lineage = self._maker.engine.sign(self._ticket.plan) if self._maker and self._ticket else {}
        lineage |= self.standing.plain()
        if any(lane.file for lane in self.lanes):
            lineage["files"] = [hashlib.sha256(lane.file).hexdigest() if lane.file else None for lane in self.lanes]
        return Work(
            id=self.id, created=self._came, door=self.order.door,
            principal=self.order.principal, alias=self.served.id, model=self.served.name,
            model_digest=self.served.digest, request=request, status=status, error=error,
            prompt_tokens=self.prompt_tokens, new_tokens=sum(lane.made for lane in self.lanes), seed=self.seed,
            seconds=time.perf_counter() - self._start, first_token_seconds=self._first, lineage=lineage,
            verdicts=[verdict.plain() for verdict in self.verdicts],
            outputs=[WorkOutput(id=f"{self.id}.{lane.output}", index=lane.output, text=lane.text,
                                finish=lane.finish or "cancelled", score=lane.score, tokens=lane.tokens,
                                steps=lane.plain_steps(), media_type=lane.media_type, file=lane.file)
                     for lane in self.lanes])

    def refused(self, request: Request, verdicts: list[Verdict]) -> Work:
        """Return the work of a request that the guard or the release gate refused."""
        self._request, self.verdicts = request, verdicts
        return self._work("refused", "; ".join(v.reason for v in verdicts if v.action >= Action.ASK))

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def leave(self) -> None:
        """Free the places without waiting; what was made is recorded."""
        if self._maker is not None and self._ticket is not None and not self._over:
            self._maker.cancel(self._ticket)

    async def __aiter__(self) -> AsyncIterator[Delta]:
        """Yield deltas until the job is over.

        Raises:
            BottegaError: it failed on the way.
        """
        try:
            while True:
                while self._buffer:
                    yield self._buffer.popleft()
                if self._over:
                    break
                self._wake = self._loop.create_future()
                await self._wake
            if self._error is not None:
                raise self._error
        finally:
            self.leave()

    async def cancel(self) -> None:
        """Stop making, free the places, and return once what was made is recorded."""
        self.leave()
        await self._ended.wait()

    async def ended(self) -> None:
        """Return once the work is recorded, or could not be."""
        await self._ended.wait()
