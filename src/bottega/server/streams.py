"""Server-sent events, and those of texts: the constant part of a chunk is made once, a token costs one `json.dumps`.

`curl -N localhost:8400/v1/chat/completions -d '{"stream": true, …}'` shows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bottega.core.errors import BottegaError
from bottega.core.request import Step
from bottega.server.errors import ApiError, failure, translate
from bottega.server.making import FINISH, Making, cancelled, until_gone

KEEP_ALIVE = 15.0  # seconds of silence after which a comment is sent; proxies give up at 30 to 60
_log = logging.getLogger("bottega.server")


class Shape(Protocol):
    """How the choices of one route look in JSON."""

    kind: str  # the value of "object" in a chunk
    opening: str | None  # the delta that opens a choice, as JSON

    def part(self, number: int, text: str, steps: tuple[Step, ...], finish: str | None) -> str:
        """Return the keys of choice `number` in a chunk, without `index`, as JSON without braces."""
        ...


class EventStream(Response):
    """A making as events; when the client leaves, the making is cancelled at once.

    Args:
        making: what to follow.
        left: called when the client went away before the end.
    """

    media_type = "text/event-stream"
    silence = ": keep-alive\n\n"  # what is sent when nothing else is; nothing where it would be read as content

    def __init__(self, making: Making, left: Callable[[], None]) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._making, self._left, self._sent = making, left, 0.0

    @abstractmethod
    async def follow(self, send: Send) -> None:
        """Send the events of the making to its end.

        Raises:
            BottegaError, ApiError: told as the last event.
        """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; ends early when the client has gone."""
        writer = asyncio.create_task(self._write(send, scope["state"]["request_id"]))
        gone = asyncio.create_task(until_gone(receive))
        try:
            while not writer.done() and not gone.done():
                waits = self._sent and self.silence
                wait = max(0.01, self._sent + KEEP_ALIVE - time.monotonic()) if waits else KEEP_ALIVE
                await asyncio.wait({writer, gone}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if self.silence and not writer.done() and not gone.done() \
                        and time.monotonic() - self._sent >= KEEP_ALIVE:
                    await self._send(send, self.silence)
            if writer.done():
                writer.result()
            else:
                self._left()
        finally:
            await cancelled(writer, gone)
            await self._making.cancel()

    async def _send(self, send: Send, text: str) -> None:
        self._sent = time.monotonic()
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

    async def _write(self, send: Send, request_id: str) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        self._sent = time.monotonic()
        try:
            await self.follow(send)
        except ApiError as told:
            await self._send(send, f"data: {json.dumps(told.body())}\n\n")
        except BottegaError as error:
            problem = translate(error) or failure(request_id)
            _log.error("request %s: %s", request_id, error)
            await self._send(send, f"data: {json.dumps(problem.body())}\n\n")
        except OSError:
            return  # the connection broke while something was sent
        except Exception:
            _log.exception("request %s failed in its stream", request_id)
            await self._send(send, f"data: {json.dumps(failure(request_id).body())}\n\n")
        await self._send(send, "data: [DONE]\n\n")
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class ChunkStream(EventStream):
    """The choices of chat and completions.

    Args:
        making, left: see `EventStream`.
        shape: of the choices.
        head: constant keys of every chunk: id, created, model, system_fingerprint.
        include_usage: whether a last chunk tells the tokens.
    """

    def __init__(self, making: Making, shape: Shape, head: dict[str, Any], include_usage: bool,
                 left: Callable[[], None]) -> None:
        super().__init__(making, left)
        self._shape, self._usage = shape, include_usage
        self._open = "data: " + json.dumps({**head, "object": shape.kind}, separators=(",", ":"))[:-1] + ","
        self._close = ',"usage":null}\n\n' if include_usage else "}\n\n"

    async def follow(self, send: Send) -> None:
        """Send a chunk for each delta; the last finish waits for what is told at the end."""
        shape, opened, held = self._shape, set[int](), ""
        async with contextlib.aclosing(self._making.deltas()) as deltas:
            async for delta in deltas:
                text, number = held, delta.output
                held = ""
                if shape.opening and number not in opened:
                    opened.add(number)
                    text += self._chunk(number, shape.opening)
                if delta.text or delta.steps:
                    part = shape.part(number, delta.text, delta.steps, None)
                    if part:
                        text += self._chunk(number, part)
                if delta.finish:
                    held = self._chunk(number, shape.part(number, "", (), FINISH[delta.finish]))
                if text:
                    await self._send(send, text)
        extra = ',"bottega":' + json.dumps(self._making.extension(), separators=(",", ":"))
        if self._usage:
            usage = json.dumps(self._making.usage(), separators=(",", ":"))
            held += f'{self._open}"choices":[],"usage":{usage}{extra}}}\n\n'
        else:
            held = held.removesuffix("}\n\n") + extra + "}\n\n"
        await self._send(send, held)

    def _chunk(self, number: int, part: str) -> str:
        return f'{self._open}"choices":[{{"index":{number},{part}}}]{self._close}'
