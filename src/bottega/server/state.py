"""What every route shares, kept on the app; `bottega serve` fills it in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from starlette.requests import Request

from bottega.server.metrics import Metrics
from bottega.server.places import Places

if TYPE_CHECKING:
    from bottega.workshop.workshop import Workshop


@dataclass
class Doors:
    """The workshop behind the routes, and how they are guarded.

    Attributes:
        workshop: where models, works and keys are.
        keys_required: whether a request must carry a key.
        allowed_hosts: host names that requests may carry; `*` allows all.
        places: for work that fills a thread.
        draining: set when the server is stopping: what runs is finished, what is new gets 503.
        active: requests under way, streams included.
        metrics: what `/metrics` shows.
    """

    workshop: Workshop
    keys_required: bool
    allowed_hosts: list[str]
    places: Places
    draining: bool = False
    active: int = 0
    metrics: Metrics = field(default_factory=Metrics)


def doors(request: Request) -> Doors:
    """Return what the app of a request holds."""
    return cast(Doors, request.app.state.doors)


def principal(request: Request) -> str:
    """Return who asks: the name of the key, or `local` where no key is needed."""
    return cast(str, request.state.principal)
