"""The one way from a request to an output: validate → label → guard → engine → stream guard → record → deliver.

The HTTP API, the studio and `bottega generate` all come through here, so nothing goes round the guard or the record.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bottega.core.errors import BusyError, RefusedError, ReleaseError
from bottega.core.request import Message, Request
from bottega.guard.guard import Guard
from bottega.guard.labels import Context, Label, Span, Trust
from bottega.guard.verdict import Action, join
from bottega.workshop import release, works
from bottega.workshop.job import Done, Job, Order, new_id
from bottega.workshop.models import Models, Served
from bottega.workshop.store import Store

if TYPE_CHECKING:
    from bottega.generation.delivery import Maker

# A tool's words are nobody's whom we know; an assistant's turn was made from what came before it.
_TEXTS = ("prompt", "suffix", "toward")
_TRUST = {"system": Trust.SYSTEM, "user": Trust.USER, "assistant": Trust.UNTRUSTED, "tool": Trust.UNTRUSTED}


@dataclass
class Commission:
    """Takes orders to the models of a workshop.

    Attributes:
        active: jobs under way.
        closing: no order is taken any more.
    """

    models: Models
    guard: Guard
    store: Store
    active: set[Job] = field(default_factory=set)
    closing: bool = False

    async def open(self, order: Order) -> Job:
        """Check an order and set it to work.

        Raises:
            NotFoundError: there is no such model.
            RefusedError: the guard blocked the request, or (`ReleaseError`) the gate holds a table's rows back.
            ControlError, InputError: the model cannot do what is asked.
            BusyError: the queue is full, or the workshop is closing.
        """
        if self.closing:
            raise BusyError("the workshop is closing", retry_after=5.0)
        served = await asyncio.to_thread(self.models.resolve, order.model, order.medium)
        maker = await self.models.maker(served)
        job = Job(new_id(), order, served, self.guard, self.store)
        begun = asyncio.ensure_future(asyncio.to_thread(self._begin, job, maker))
        try:
            await asyncio.shield(begun)
        except asyncio.CancelledError:  # who asked has left, but a thread cannot be stopped
            begun.add_done_callback(lambda done: job.leave() if not done.exception() else None)
            raise
        self.active.add(job)
        asyncio.ensure_future(job.ended()).add_done_callback(lambda _: self.active.discard(job))
        return job

    def _begin(self, job: Job, maker: Maker) -> None:
        """Guard and queue; a refused request is recorded too."""
        if job.served.medium == "table":
            try:
                job.standing = release.require(self.store, self.models.home, job.served.name, job.served.digest)
            except ReleaseError as error:
                works.record(self.store, job.refused(job.order.request, error.verdicts))
                raise
        inspection = self.guard.check_input(label(job.order.request))
        request = with_texts(job.order.request, inspection.context)
        if join(inspection.verdicts) >= Action.ASK:
            works.record(self.store, job.refused(request, inspection.verdicts))
            worst = max(inspection.verdicts, key=lambda verdict: verdict.action)
            raise RefusedError(f"the guard refused the request: {worst.reason}", verdicts=inspection.verdicts,
                               fix="change what it names and send it again")
        job.verdicts = list(inspection.verdicts)
        job.begin(maker, request)

    async def make(self, order: Order) -> Done:
        """Carry out an order to its end.

        Raises:
            BottegaError: as in `open`, or it failed on the way.
        """
        job = await self.open(order)
        async for _ in job:
            pass
        return job.done

    async def embed(self, model: str | None, texts: list[str]) -> tuple[list[list[float]], int, Served]:
        """Return a vector for each text (mean of the model's final hidden states), the tokens read, and the model.

        Raises:
            NotFoundError: there is no such model.
            InputError: a text is empty or does not fit the context.
            RefusedError: the guard blocked a text.
        """
        served = await asyncio.to_thread(self.models.resolve, model)
        batcher = await self.models.engine(served)
        left = threading.Event()

        def work() -> tuple[list[list[float]], int]:
            vectors: list[list[float]] = []
            read = 0
            for text in texts:
                if left.is_set():
                    break
                inspection = self.guard.check_input((Span(text, Label(Trust.USER), "prompt"),))
                if inspection.action >= Action.ASK:
                    worst = max(inspection.verdicts, key=lambda verdict: verdict.action)
                    raise RefusedError(f"the guard refused a text: {worst.reason}", verdicts=inspection.verdicts)
                vector, tokens = batcher.engine.embed(inspection.context[0].text)
                vectors.append(vector)
                read += tokens
            return vectors, read

        try:
            return (*await asyncio.to_thread(work), served)
        finally:
            left.set()  # also when who asked has gone: the thread stops at the next text

    async def drain(self, grace: float) -> None:
        """Take no more orders, let those under way finish for `grace` seconds, then cancel the rest."""
        self.closing = True
        if self.active:
            await asyncio.wait([asyncio.ensure_future(job.ended()) for job in self.active], timeout=grace)
        for job in list(self.active):
            await job.cancel()


def label(request: Request) -> Context:
    """Return the texts of a request with what they are and how far they are trusted."""
    if request.messages is not None:
        return tuple(Span(message.content, Label(_TRUST[message.role], origins=frozenset({message.role})), message.role)
                     for message in request.messages)
    parts = [(name, getattr(request, name)) for name in _TEXTS]
    parts.append(("negative_prompt", request.controls.negative_prompt))
    return tuple(Span(text, Label(Trust.USER, origins=frozenset({"user"})), role)
                 for role, text in parts if text is not None)


def with_texts(request: Request, context: Context) -> Request:
    """Return a request with the texts of its context as the guard left them."""
    texts = [span.text for span in context]
    if request.messages is not None:
        turns = [Message(role=old.role, content=text) for old, text in zip(request.messages, texts, strict=True)]
        return request.model_copy(update={"messages": turns})
    changed = {span.role: span.text for span in context}
    away = changed.pop("negative_prompt", None)
    controls = request.controls if away is None else request.controls.model_copy(update={"negative_prompt": away})
    return request.model_copy(update={**changed, "controls": controls})
