"""One loaded model shared by many: requests join the running batch as places free up, and leave when they are done.

`bottega serve` runs one `Batcher` a model; `pytest tests/generation/test_batcher.py` drives one from many threads. A
long prompt is read in pieces between the steps of those already running, so that it stalls nobody for long.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from bottega.core.errors import BottegaError, InputError, Interrupted
from bottega.core.request import Request, Result, Step
from bottega.generation.decode import Decoder, Sequence
from bottega.generation.delivery import Deliver, Maker, tell
from bottega.generation.engine import Engine, Plan
from bottega.generation.runner import PIECE, Reading

# Seconds between two deliveries to one request: a reader sees a flow, and many readers share what a server can tell.
_PAUSE, _SHARE = 0.03, 0.0025
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Ticket:
    """One request on its way.

    Attributes:
        plan: the settled request.
        submitted: when it came, by `time.perf_counter()`; started: when its prompt began to be read.
    """

    plan: Plan
    sequences: list[Sequence]
    deliver: Deliver
    submitted: float
    started: float = 0.0
    reading: Reading | None = None
    cancelled: bool = False
    ended: bool = False
    told: float = 0.0  # when steps were delivered last
    sent: list[int] = field(default_factory=list)


class Batcher(Maker):
    """A thread that steps all requests of one model together.

    Args:
        engine: the model.
        slots: outputs made at the same time.
        queue: requests that may wait for a place.
    """

    engine: Engine
    _waiting: deque[Ticket]

    def __init__(self, engine: Engine, *, slots: int = 64, queue: int = 256) -> None:
        super().__init__(engine, slots, queue)
        self._reading: list[Ticket] = []
        self._running: list[Ticket] = []
        self.tokens = 0  # made so far, by all requests
        self._thread.start()

    @property
    def running(self) -> int:
        """Outputs being made."""
        return sum(len(ticket.sequences) for ticket in self._at_work())

    def prepare(self, request: Request, deliver: Deliver) -> Ticket:
        """Settle a request, to be queued by `submit`.

        Args:
            request: what is wanted.
            deliver: gets the steps as they are made; its last call carries the `Result`, or the error. It must not
                raise.

        Raises:
            ControlError, InputError: as in `Engine.generate`; more outputs than there are slots.
        """
        plan = self.engine.plan(request)
        if plan.outputs > self.slots:
            raise InputError(f"{plan.outputs} outputs are more than are made at a time ({self.slots})",
                             where="n, best_of", fix=f"ask for at most {self.slots}")
        ticket = Ticket(plan, self.engine.sequences(plan), deliver, time.perf_counter())
        ticket.sent = [0] * plan.outputs
        return ticket

    def _at_work(self) -> Iterable[Ticket]:
        return (*self._running, *self._reading)

    def _run(self) -> None:
        decoder = self.engine.decoder()
        while True:
            with self._wake:
                while not (self._waiting or self._reading or self._running or self._closing):
                    self._wake.wait()
                if self._closing and not (self._waiting or self._reading or self._running):
                    return
            try:
                self._drop(decoder)
                self._admit(decoder)
                decoder.round()
                for ticket in list(self._running):
                    self._pass_on(ticket)
            except Exception as error:  # a fault of one batch must not end the service
                _log.exception("a batch failed")
                self._fail(BottegaError(f"the model failed: {type(error).__name__}", fix="see the server's log"))
                decoder = self.engine.decoder()

    def _drop(self, decoder: Decoder) -> None:
        """Take out what was cancelled."""
        with self._wake:
            gone = [ticket for ticket in self._waiting if ticket.cancelled]
            for ticket in gone:
                self._waiting.remove(ticket)
        gone += [ticket for ticket in self._reading if ticket.cancelled]
        self._reading = [ticket for ticket in self._reading if not ticket.cancelled]
        leaving = [ticket for ticket in self._running if ticket.cancelled]
        if leaving:
            decoder.drop({id(sequence) for ticket in leaving for sequence in ticket.sequences})
            self._running = [ticket for ticket in self._running if not ticket.cancelled]
        for ticket in (*gone, *leaving):
            self._end(ticket, Interrupted("the request was cancelled"))

    def _admit(self, decoder: Decoder) -> None:
        """Read about a piece's worth of prompts, short ones together, and let the finished ones join."""
        with self._wake:
            planned = sum(ticket.reading.remaining for ticket in self._reading if ticket.reading)
            while self._waiting and planned < PIECE and self._room(self._waiting[0]):
                ticket = self._waiting.popleft()
                ticket.started, ticket.reading = time.perf_counter(), self.engine.begin(ticket.plan)
                self._reading.append(ticket)
                planned += len(ticket.plan.prompt)
        if not self._reading:
            return
        self.engine.advance([ticket.reading for ticket in self._reading if ticket.reading])
        for ticket in list(self._reading):
            if ticket.reading is not None and not ticket.reading.remaining:
                decoder.add(ticket.reading, ticket.sequences)
                ticket.reading = None
                self._running.append(ticket)
                self._reading.remove(ticket)

    def _room(self, ticket: Ticket) -> bool:
        return self.running + len(ticket.sequences) <= self.slots

    def _pass_on(self, ticket: Ticket) -> None:
        """Deliver a request's new steps when it is time, and its result when all its outputs are over."""
        failed = next((sequence.error for sequence in ticket.sequences if sequence.error), None)
        over = failed is not None or all(sequence.over for sequence in ticket.sequences)
        now = time.perf_counter()
        if not over and now - ticket.told < max(_PAUSE, _SHARE * len(self._running)):
            return
        ticket.told = now
        fresh: list[Step] = []
        ranked = ticket.plan.outputs > ticket.plan.wanted  # nothing can be shown before the best are known
        for place, sequence in enumerate(ticket.sequences):
            new = sequence.steps[ticket.sent[place]:]
            ticket.sent[place] += len(new)
            self.tokens += len(new)
            if not ranked:
                fresh += new
        if not over:
            if fresh:
                tell(ticket, fresh, None)
            return
        seconds = now - ticket.started
        self._pace += 0.1 * (seconds - self._pace)
        end: Result | BottegaError
        if failed is None:
            end = self.engine.result(ticket.plan, ticket.sequences, seconds)
            fresh = [step for output in end.outputs for step in output.steps] if ranked else fresh
            self._running.remove(ticket)
        else:
            end, ticket.cancelled = failed, True  # the outputs still under way leave at the next step
        tell(ticket, fresh, end)

    def _fail(self, error: BottegaError) -> None:
        """End everything under way with an error; what waits stays."""
        broken = [*self._running, *self._reading]
        self._running, self._reading = [], []
        for ticket in broken:
            self._end(ticket, error)

    def _end(self, ticket: Ticket, error: BottegaError) -> None:
        ticket.reading = None
        tell(ticket, [], error)
