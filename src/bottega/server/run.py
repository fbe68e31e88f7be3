"""Runs the application: binds the port, says when it is ready, and stops without breaking a stream.

`kill -TERM` lets what runs finish for `GRACE` seconds; what is new gets 503; a second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from bottega.core.errors import BottegaError, InputError
from bottega.server.state import Doors

if TYPE_CHECKING:
    from bottega.workshop.models import Served

GRACE = 30.0  # seconds
_FIRST_PAGE = 1.0  # seconds in which a browser gets its first page before a model's loading takes the processor
_LAST_WORDS = 2.0  # seconds for telling what is ended
_log = logging.getLogger("bottega.server")


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; `port` 0 takes a free one.

    Raises:
        InputError: the address is not one of this machine, or the port is taken or reserved.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise InputError(f"cannot listen on {host} port {port}: {error.strerror or error}",
                         fix="stop what uses it, or choose another with --port (0 takes a free one)") from None


def address(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """A server that finishes what it has begun.

    Args:
        app: from `create_app`.
        ready: called once requests are answered.
        load: models to load meanwhile, so that the first who asks does not wait for it.
    """

    def __init__(self, app: FastAPI, ready: Callable[[], None], load: Sequence[Served]) -> None:
        super().__init__(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on",
                                        timeout_graceful_shutdown=2, server_header=False, timeout_keep_alive=60))
        self._doors: Doors = app.state.doors
        self._ready, self._load, self._deadline = ready, load, 0.0
        self._loading: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if self.started:
            self._ready()
            self._loading = asyncio.create_task(self._load_all())

    async def _load_all(self) -> None:
        await asyncio.sleep(_FIRST_PAGE)
        for served in self._load:
            try:
                await self._doors.workshop.models.maker(served)
            except BottegaError as error:
                _log.error("%s cannot be loaded: %s", served.id, error)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop at the first signal, stop at the second."""
        if self._doors.draining:
            self.should_exit = self.force_exit = True
        else:
            self._doors.draining, self._deadline = True, time.monotonic() + GRACE

    async def on_tick(self, counter: int) -> bool:
        """Stop once nothing is under way; what still runs when the grace is over is ended and told so."""
        if self._doors.draining:
            late = time.monotonic() - self._deadline
            if late >= 0 and self._ending is None:
                self._ending = asyncio.create_task(self._doors.workshop.commission.drain(0.0))
            if not self._doors.active or late >= _LAST_WORDS:
                self.should_exit = True
        return await super().on_tick(counter)
