"""One loaded model of pictures shared by many: requests take turns at each step, and can be left at any step.

`bottega serve` runs one `Easel` a model of pictures; `pytest tests/generation/test_easel.py` drives one. Turns, not a
common batch: a picture's bytes must not depend on what is drawn beside it, and a network at work fills the processor.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from bottega.core.errors import BottegaError, BusyError, InputError, Interrupted
from bottega.core.request import Request, Result, Step
from bottega.generation.delivery import Deliver, tell
from bottega.generation.pictures import PictureEngine, PicturePlan

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class PictureTicket:
    """One request on its way; `plan` is the settled request."""

    plan: PicturePlan
    deliver: Deliver
    started: float = 0.0
    steps: Iterator[list[Step]] | None = None
    made: list[Step] = field(default_factory=list)
    cancelled: bool = False
    ended: bool = False


class Easel:
    """A thread that draws the requests of one model.

    Args:
        engine: the model.
        slots: pictures that are drawn in turns at the same time.
        queue: requests that may wait.
    """

    def __init__(self, engine: PictureEngine, *, slots: int = 64, queue: int = 256) -> None:
        self.engine, self.slots, self._limit = engine, slots, queue
        self._wake = threading.Condition()
        self._waiting: deque[PictureTicket] = deque()
        self._running: deque[PictureTicket] = deque()
        self._closing = False
        self._pace = 1.0  # seconds a request takes, a running mean
        self._thread = threading.Thread(target=self._run, name="easel", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Pictures being drawn."""
        return sum(ticket.plan.wanted for ticket in tuple(self._running))

    @property
    def waiting(self) -> int:
        """Requests without a place."""
        return len(self._waiting)

    def prepare(self, request: Request, deliver: Deliver) -> PictureTicket:
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
        return PictureTicket(plan, deliver)

    def submit(self, ticket: PictureTicket) -> None:
        """Queue a prepared request.

        Raises:
            BusyError: the queue is full, or the easel is closing.
        """
        with self._wake:
            if self._closing:
                raise BusyError("the model is being put away", retry_after=5.0)
            if len(self._waiting) >= self._limit:
                raise BusyError(f"{len(self._waiting)} requests wait", retry_after=max(1.0, self._pace))
            self._waiting.append(ticket)
            self._wake.notify()

    def cancel(self, ticket: PictureTicket) -> None:
        """Leave a request at the next step; its `deliver` gets `Interrupted`, unless it is over already."""
        with self._wake:
            ticket.cancelled = True
            self._wake.notify()

    def close(self, *, drain: bool = True) -> None:
        """Stop taking requests, finish (or with `drain=False` abandon) those at hand, and end the thread."""
        with self._wake:
            self._closing = True
            if not drain:
                for ticket in (*self._waiting, *self._running):
                    ticket.cancelled = True
            self._wake.notify()
        self._thread.join()

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

    def _turn(self, ticket: PictureTicket) -> bool:
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
