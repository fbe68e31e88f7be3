"""The jobs behind one HTTP request, followed as one; `curl localhost:8400/v1/completions -d …` starts some.

A client that leaves ends them at once, whatever they wait for: each place it held is free for the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Literal, TypeVar

from starlette.types import Receive

from bottega.core.errors import NotFoundError, RefusedError
from bottega.core.request import Request
from bottega.server.errors import ApiError
from bottega.server.state import Doors
from bottega.workshop.job import Job, Order
from bottega.workshop.lane import Delta

Result = TypeVar("Result")
FINISH = {"stop": "stop", "end": "stop", "length": "length", "filtered": "content_filter"}


class ClientGone(Exception):
    """The client closed the connection before its answer was there."""


async def until_gone(receive: Receive) -> None:
    """Return when the client closes the connection; the body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Do some work, and cancel it when the client goes away.

    Raises:
        ClientGone: it went.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(until_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        await cancelled(task, gone)


async def cancelled(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have ended; what they raise is dropped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Making:
    """The jobs of one request (one a prompt), as one stream of deltas.

    Args:
        doors: of the app.
        jobs: opened ones, in the order of the prompts.
        outputs: outputs a prompt; choice numbers are counted through all prompts.
        started: when the request came in (`time.perf_counter`).
    """

    def __init__(self, doors: Doors, jobs: Sequence[Job], outputs: int, started: float) -> None:
        self.jobs, self._outputs, self._started = list(jobs), outputs, started
        self._metrics, self._model = doors.metrics, jobs[0].served.name
        self._medium = jobs[0].served.medium
        self._ended = False

    @classmethod
    async def open(cls, doors: Doors, model: str | None, requests: Sequence[Request], door: str, principal: str, *,
                   medium: Literal["text", "image", "table", "graph"] = "text", previews: bool = False) -> Making:
        """Commission the requests; all are accepted, or none.

        Args:
            doors: of the app.
            model: that is asked for; None for the default one of the medium.
            requests: one for each prompt.
            door, principal, medium, previews: see `Order`.

        Raises:
            ApiError: 404, there is no such model.
            ControlError, InputError, RefusedError, BusyError: as `Commission.open`.
        """
        started, jobs = time.perf_counter(), list[Job]()
        try:
            for request in requests:
                jobs.append(await doors.workshop.commission.open(
                    Order(model, request, door, principal, medium, previews)))
        except NotFoundError as error:
            raise ApiError(404, f"{error.problem}; {error.fix}", param="model", code="model_not_found") from None
        except RefusedError as error:
            doors.metrics.judged(error.verdicts)
            raise
        finally:
            if len(jobs) < len(requests):
                for job in jobs:
                    await job.cancel()
        return cls(doors, jobs, requests[0].controls.n or 1, started)

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        """Yield what is made, as it is made; `output` is the number of the choice."""
        first = self._medium == "text"
        async for delta in self._merged():
            if first:
                first = False
                self._metrics.first_token.labels(self._model).observe(time.perf_counter() - self._started)
            yield delta
        self._ended = True
        self._count()

    async def cancel(self) -> None:
        """End what is not finished; does nothing after the end."""
        if not self._ended:
            self._ended = True
            for job in self.jobs:
                await job.cancel()

    def usage(self) -> dict[str, int]:
        """Return the tokens read and made, after the end; a picture or a row counts as one that was made."""
        read = sum(job.done.work.prompt_tokens for job in self.jobs)
        made = sum(job.done.work.new_tokens for job in self.jobs)
        return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}

    def extension(self) -> dict[str, Any]:
        """Return what Bottega tells beyond OpenAI's answer, after the end: how to make it again, what the guard found.

        `outputs` are the ids for feedback, in the order of the choices.
        """
        return {"seed": self.jobs[0].seed, "model_digest": self.jobs[0].served.digest,
                "outputs": [output.id for job in self.jobs for output in job.done.work.outputs],
                "verdicts": [verdict.plain() for job in self.jobs for verdict in job.done.verdicts]}

    def _count(self) -> None:
        usage, seconds = self.usage(), time.perf_counter() - self._started
        if self._medium != "text":
            made = self._metrics.pictures if self._medium == "image" else self._metrics.rows
            made.labels(self._model).inc(usage["completion_tokens"])
        else:
            self._metrics.tokens.labels(self._model, "in").inc(usage["prompt_tokens"])
            self._metrics.tokens.labels(self._model, "out").inc(usage["completion_tokens"])
            self._metrics.speed.labels(self._model).observe(usage["completion_tokens"] / max(seconds, 1e-6))
        for job in self.jobs:
            self._metrics.judged(job.done.verdicts)

    async def _merged(self) -> AsyncIterator[Delta]:
        """Yield the deltas of all jobs as they come."""
        if len(self.jobs) == 1:
            async for delta in self.jobs[0]:
                yield delta
            return
        queue: asyncio.Queue[Delta | BaseException | None] = asyncio.Queue()
        tasks = [asyncio.create_task(self._follow(place, queue.put_nowait)) for place in range(len(self.jobs))]
        try:
            running = len(tasks)
            while running:
                item = await queue.get()
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    running -= 1
                else:
                    yield item
        finally:
            await cancelled(*tasks)

    async def _follow(self, place: int, put: Callable[[Delta | BaseException | None], None]) -> None:
        try:
            async for delta in self.jobs[place]:
                put(dataclasses.replace(delta, output=place * self._outputs + delta.output))
        except BaseException as error:
            put(error)
            raise
        put(None)


async def collect(making: Making) -> list[tuple[str, list[Any], str]]:
    """Follow a making to its end and return text, steps and finish reason of each choice."""
    texts: dict[int, list[str]] = {}
    steps: dict[int, list[Any]] = {}
    finish: dict[int, str] = {}
    try:
        async with contextlib.aclosing(making.deltas()) as deltas:
            async for delta in deltas:
                texts.setdefault(delta.output, []).append(delta.text)
                steps.setdefault(delta.output, []).extend(delta.steps)
                if delta.finish:
                    finish[delta.output] = FINISH[delta.finish]
    finally:
        await making.cancel()
    return [("".join(texts[choice]), steps[choice], finish[choice]) for choice in sorted(texts)]
