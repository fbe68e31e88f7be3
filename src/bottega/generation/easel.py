"""One loaded model of pictures, a table or graphs shared by many: requests take turns, and can be left at any step.

`bottega serve` runs one `Easel` for each; `pytest tests/generation/test_easel.py` drives one. Turns, not a
common batch: a picture's bytes must not depend on what is drawn beside it, and a network at work fills the processor.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bottega.core.errors import BottegaError, InputError, Interrupted
from bottega.core.request import Request, Result, Step
from bottega.generation.delivery import Deliver, Maker, tell
from bottega.generation.graphs import GraphEngine
from bottega.generation.pictures import PictureEngine
from bottega.generation.tables import TableEngine

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class EaselTicket:
    """One request on its way; `plan` is the settled request."""

    plan: Any  # a `PicturePlan`, `TablePlan` or `GraphPlan`, of the engine that made it
    deliver: Deliver
    started: float = 0.0
    steps: Iterator[list[Step]] | None = None
    made: list[Step] = field(default_factory=list)
    cancelled: bool = False
    ended: bool = False


class Easel(Maker):
    """A thread that draws the requests of one model.

    Args:
        engine: the model.
        slots: pictures that are drawn in turns at the same time.
        queue: requests that may wait.
    """

    engine: PictureEngine | TableEngine | GraphEngine
    _waiting: deque[EaselTicket]

    def __init__(self, engine: PictureEngine | TableEngine | GraphEngine, *, slots: int = 64, queue: int = 256) -> None:
        super().__init__(engine, slots, queue)
        self._running: deque[EaselTicket] = deque()
        self._thread.start()

    @property
    def running(self) -> int:
        """Pictures being drawn."""
        return sum(ticket.plan.wanted for ticket in tuple(self._running))

    def prepare(self, request: Request, deliver: Deliver) -> EaselTicket:
        """Settle a request, to be queued by `submit`.

        Args:
            request: what is wanted.
            deliver: gets previews and pictures as they are made; its last call carries the `Result`, or the error.

        Raises:
            ControlError, InputError: as in `PictureEngine.settle`; more pictures than there are slots.
        """
        plan = self.engine.plan(request)
        if plan.wanted > self.slots:
            raise InputError(f"{plan.wanted} pictures are more than are made at a time ({self.slots})", where="n",
                             fix=f"ask for at most {self.slots}")
        return EaselTicket(plan, deliver)

    def _at_work(self) -> Iterable[EaselTicket]:
        return tuple(self._running)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._waiting or self._running or self._closing):
                    self._wake.wait()
                if self._closing and not (self._waiting or self._running):
                    return
                while self._waiting and (not self._running or
                                         self.running + self._waiting[0].plan.wanted <= self.slots):
                    ticket = self._waiting.popleft()
                    ticket.started = time.perf_counter()
                    self._running.append(ticket)
            ticket = self._running[0]
            if self._turn(ticket):
                self._running.popleft()
            elif self.engine.takes_turns:
                self._running.rotate(-1)

    def _turn(self, ticket: EaselTicket) -> bool:
        """Take one step of a request; return whether it is over."""
        if ticket.cancelled:
            ticket.steps = None  # closes it: a pipeline at work stops
            tell(ticket, [], Interrupted("the request was cancelled"))
            return True
        try:
            if ticket.steps is None:
                ticket.steps = self.engine.steps(ticket.plan)
            steps = next(ticket.steps, None)
        except BottegaError as error:
            tell(ticket, [], error)
            return True
        except Exception as error:  # a fault of one request must not end the service
            _log.exception("a picture failed")
            tell(ticket, [], BottegaError(f"the model failed: {type(error).__name__}", fix="see the server's log"))
            return True
        if steps is not None:
            ticket.made += [step for step in steps if step.finish]  # previews are passed on and forgotten
            tell(ticket, steps, None)
            return False
        seconds = time.perf_counter() - ticket.started
        self._pace += 0.1 * (seconds - self._pace)
        end: Result = self.engine.result(ticket.plan, ticket.made, seconds)
        tell(ticket, [], end)
        return True
