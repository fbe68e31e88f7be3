"""Many pieces of work at once in the event loop, that a person can stop; `bottega compare` asks and judges so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Found = TypeVar("Found")
_LOOK = 0.1  # seconds between looks at whether somebody stops


async def together(work: Sequence[Callable[[], Awaitable[None]]], at_once: int, stopping: Sequence[int]) -> None:
    """Do pieces of work, some at a time, until all are done, one fails, or somebody stops; the rest is cancelled.

    Args:
        work: starts each piece.
        at_once: pieces under way at most.
        stopping: see `training.interrupt.stop_requests`; not empty: stop.

    Raises:
        Exception: what the first piece that failed raised.
    """
    places = asyncio.Semaphore(at_once)

    async def one(start: Callable[[], Awaitable[None]]) -> None:
        async with places:
            if not stopping:
                await start()

    async def watch() -> None:
        while not stopping:
            await asyncio.sleep(_LOOK)
        for task in tasks:
            task.cancel()

    tasks = [asyncio.ensure_future(one(start)) for start in work]
    watching = asyncio.ensure_future(watch())
    try:
        await asyncio.gather(*tasks)
    except asyncio.CancelledError:
        if not stopping:
            raise
    finally:
        watching.cancel()
        for task in tasks:
            task.cancel()


async def in_thread(call: Callable[[], Found]) -> Found:
    """Return what a blocking call returns, made in a thread that the end of the program does not wait for.

    The threads of `asyncio.to_thread` are waited for, and who stops shall not wait for an address that hangs.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Found] = loop.create_future()

    def tell(result: Found | None, error: Exception | None) -> None:
        if found.done():  # cancelled meanwhile
            return
        if error is not None:
            found.set_exception(error)
        else:
            found.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        try:
            told: tuple[Found | None, Exception | None] = (call(), None)
        except Exception as error:
            told = (None, error)
        try:
            loop.call_soon_threadsafe(tell, *told)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    threading.Thread(target=work, daemon=True).start()
    return await found
