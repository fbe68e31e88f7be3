"""What makers of texts (`Batcher`) and of pictures (`Easel`) share: a queue, a thread, and how news leave it."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

from bottega.core.errors import BottegaError, BusyError
from bottega.core.request import Request, Result, Step

# new steps of one request, and how it ended (None: it goes on); called from the model's thread
Deliver: TypeAlias = Callable[[list[Step], Result | BottegaError | None], None]
_log = logging.getLogger(__name__)


class Told(Protocol):
    """A request on its way."""

    cancelled: bool
    ended: bool

    @property
    def deliver(self) -> Deliver:
        """Who gets its news."""


class Maker(ABC):
    """A loaded model that many share: requests wait in a queue, a thread makes their outputs.

    A subclass keeps its tickets (requests on their way, each with its settled request as `plan`) and starts the thread.

    Args:
        engine: the model.
        slots: outputs made at the same time.
        queue: requests that may wait for a place.
    """

    engine: Any
    _waiting: deque[Any]

    def __init__(self, engine: Any, slots: int, queue: int) -> None:
        self.engine, self.slots, self._limit = engine, slots, queue
        self._wake = threading.Condition()
        self._waiting = deque()
        self._closing = False
        self._pace = 1.0  # seconds a request takes once it has a place, a running mean
        self._thread = threading.Thread(target=self._run, name=type(self).__name__.lower(), daemon=True)

    @property
    @abstractmethod
    def running(self) -> int:
        """Outputs being made."""

    @property
    def waiting(self) -> int:
        """Requests without a place."""
        return len(self._waiting)

    @abstractmethod
    def prepare(self, request: Request, deliver: Deliver) -> Any:
        """Settle a request and return its ticket, to be queued by `submit`.

        Raises:
            ControlError, InputError: the model cannot do what is asked, or it is more than there are slots.
        """

    def submit(self, ticket: Any) -> None:
        """Queue a prepared request.

        Raises:
            BusyError: the queue is full, or the model is being put away.
        """
        with self._wake:
            if self._closing:
                raise BusyError("the model is being put away", retry_after=5.0)
            if len(self._waiting) >= self._limit:
                wait = max(1.0, self._pace * len(self._waiting) / self.slots)
                raise BusyError(f"all {self.slots} places are taken and {len(self._waiting)} requests wait",
                                retry_after=wait)
            self._waiting.append(ticket)
            self._wake.notify()

    def cancel(self, ticket: Any) -> None:
        """Leave a request at its next step; its `deliver` gets `Interrupted`, unless it is over already."""
        with self._wake:
            ticket.cancelled = True
            self._wake.notify()

    def close(self, *, drain: bool = True) -> None:
        """Stop taking requests, finish (or with `drain=False` abandon) those at hand, and end the thread."""
        with self._wake:
            self._closing = True
            if not drain:
                for ticket in (*self._waiting, *self._at_work()):
                    ticket.cancelled = True
            self._wake.notify()
        self._thread.join()

    @abstractmethod
    def _at_work(self) -> Iterable[Any]:
        """Return the tickets that have a place."""

    @abstractmethod
    def _run(self) -> None:
        """Work until `_closing` and nothing is left: the thread's own function."""


def tell(ticket: Told, steps: list[Step], end: Result | BottegaError | None) -> None:
    """Deliver; the end only once. A receiver at fault harms nobody else."""
    if ticket.ended:
        return
    ticket.ended = end is not None
    try:
        ticket.deliver(steps, end)
    except Exception:
        _log.exception("a receiver failed")
        ticket.cancelled = True
