"""Places for work that fills a thread, embeddings and moderations; `pytest tests/server/test_places.py` crowds them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bottega.core.errors import BusyError

Result = TypeVar("Result")
RUNNING = 4  # more would only take turns on the processor, and the threads that the store needs would be gone


class Places:
    """A few works run, some wait for their turn, more are told to come back.

    Args:
        queue: how many may wait.
        running: how many may run at once.
    """

    def __init__(self, queue: int, running: int = RUNNING) -> None:
        self._queue, self._waiting, self._free = queue, 0, asyncio.Semaphore(running)

    async def run(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Do some work in a place of its own, which it keeps until it has ended, also after it was cancelled.

        Raises:
            BusyError: too many wait already.
        """
        if self._free.locked() and self._waiting >= self._queue:
            raise BusyError(f"all places are taken and {self._waiting} requests wait", retry_after=1.0)
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            return await work()
        finally:
            self._free.release()
