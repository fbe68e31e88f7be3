"""How news of a request leave the thread that makes it; `Batcher` (texts) and `Easel` (pictures) both tell this way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from bottega.core.errors import BottegaError
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


class Maker(Protocol):
    """A loaded model that many share; a ticket is one request on its way, its `plan` the settled request."""

    engine: Any

    @property
    def running(self) -> int:
        """Outputs being made."""

    @property
    def waiting(self) -> int:
        """Requests without a place."""

    def prepare(self, request: Request, deliver: Deliver) -> Any:
        """Settle a request and return its ticket."""

    def submit(self, ticket: Any) -> None:
        """Queue a ticket."""

    def cancel(self, ticket: Any) -> None:
        """Leave a request at its next step."""

    def close(self, *, drain: bool = True) -> None:
        """Take no more requests, finish or abandon those at hand, and end."""


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
