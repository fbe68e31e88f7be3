"""Answers of a model behind an OpenAI-compatible address, asked over HTTP: `bottega distil … --url http://…/v1`.

Only the standard library. A key comes from an environment variable, goes into one header and is never printed, logged
or kept; redirects are not followed, so that it goes nowhere else.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message as Headers
from http.client import HTTPException, IncompleteRead
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any
from urllib.parse import SplitResult, urlsplit

from bottega.core.errors import ContextError, InputError

_TIMEOUT = 120.0  # seconds without a byte
_TRIES = 4
_PAUSES = (1.0, 4.0, 15.0)  # seconds before each further try
_AGAIN = frozenset({408, 409, 429, 500, 502, 503, 504})
_TOGETHER = 8  # requests under way
_MOST_BYTES = 16 << 20  # of a reply
_MOST_OF_AN_ERROR = 1 << 16


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and whether it ended by itself, not at the limit."""

    text: str
    finished: bool


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Headers,
                         newurl: str) -> None:
        """Follow no redirect: the caller sees its status as an error."""


def _parts(url: str) -> SplitResult | None:
    """Return the parts of an address, None where a bracket does not close or the port is no number."""
    try:
        parts = urlsplit(url)
        return parts if parts.port is None or parts.port > 0 else None
    except ValueError:
        return None


def _too_long(error: urllib.error.HTTPError) -> bool:
    """Whether an answer says that the conversation does not fit, as OpenAI and vLLM say it."""
    if error.code not in (400, 413):
        return False
    try:
        said = error.read(_MOST_OF_AN_ERROR).decode("utf-8", "replace").lower()
    except (OSError, HTTPException):
        return False
    return "context_length_exceeded" in said or "maximum context length" in said


class ServedModel:
    """One model at an OpenAI-compatible address.

    Args:
        url: up to and including `/v1`.
        model: its name there.
        key_variable: environment variable that holds the key; none is sent where it is not set.
        where: what errors say the address came from.

    Raises:
        InputError: the address is not http or https, or the key cannot stand in a header.
    """

    def __init__(self, url: str, model: str, key_variable: str = "OPENAI_API_KEY", *,
                 where: str = "--url") -> None:
        parts = _parts(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.username \
                or parts.query or not (url.isascii() and url.isprintable() and " " not in url):
            said = f"{parts.scheme}://{parts.hostname or ''}" if parts else ""
            raise InputError(f"'{said}' is not an address of a model", where=where,
                             fix="write it like https://host/v1, without a key in it")
        self.url, self.model, self.host, self._where = url.rstrip("/"), model, parts.netloc, where
        key = os.environ.get(key_variable, "").strip()  # files of keys end with a line break
        if not (key.isascii() and key.isprintable()):  # http.client would refuse it, and spell it out
            raise InputError("the key holds a character that no header can carry", where=key_variable,
                             fix="copy it again, without line breaks")
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        self._open = urllib.request.build_opener(_Stay).open

    def answer(self, messages: Sequence[Mapping[str, str]], **controls: Any) -> str:
        """Return the text of an answer; see `reply`."""
        return self.reply(messages, **controls).text

    def reply(self, messages: Sequence[Mapping[str, str]], **controls: Any) -> Reply:
        """Return the answer to a conversation.

        Args:
            messages: turns with `role` and `content`.
            controls: of the request: `temperature`, `max_tokens`, `seed`, `top_p`; None is left out.

        Raises:
            ContextError: the address says that the conversation is too long for the model.
            InputError: the address cannot be reached, refuses, or does not answer in the right shape.
        """
        body = json.dumps({"model": self.model, "messages": list(messages),
                           **{name: value for name, value in controls.items() if value is not None}}).encode()
        request = urllib.request.Request(f"{self.url}/chat/completions", body, self._headers, method="POST")
        for attempt in range(_TRIES):
            try:
                with self._open(request, timeout=_TIMEOUT) as reply:
                    data = reply.read(_MOST_BYTES)
                    if reply.length and len(data) < _MOST_BYTES:  # `read` of so many does not say that it was cut off
                        raise IncompleteRead(data, reply.length)
                    return self._read(data)
            except urllib.error.HTTPError as error:
                problem = f"{self.host} answered {error.code} ({error.reason})"
                if _too_long(error):
                    raise ContextError(f"the conversation is too long for {self.model} at {self.host}",
                                       where=self._where, fix="shorten it, or take a model with a longer "
                                                              "context") from None
                if error.code not in _AGAIN:
                    raise InputError(problem, where=self._where, fix="check the address, the model's name and the "
                                                                      "key in its environment variable") from None
            except (OSError, HTTPException) as error:  # refused, reset, cut off, timed out, unknown host
                problem = f"{self.host} cannot be reached: {getattr(error, 'reason', error)}"
            if attempt < len(_PAUSES):
                time.sleep(_PAUSES[attempt])
        raise InputError(f"{problem}, {_TRIES} times", where=self._where, fix="try again later")

    def replies(self, conversations: Sequence[Sequence[Mapping[str, str]]], *, seeds: Sequence[int],
                **controls: Any) -> Iterator[tuple[int, Reply]]:
        """Yield the answers to many conversations as they come, each with its place; some are asked for at a time.

        Args:
            conversations: see `reply`.
            seeds: one a conversation.
            controls: see `reply`.

        Raises:
            InputError: see `reply`; what else is under way is given up, as when the caller stops early.
        """
        told: SimpleQueue[tuple[int, Reply | BaseException]] = SimpleQueue()
        left = deque(range(len(conversations)))

        def work() -> None:
            with suppress(IndexError):  # nothing is left
                while True:
                    place = left.popleft()
                    try:
                        told.put((place, self.reply(conversations[place], seed=seeds[place], **controls)))
                    except BaseException as error:
                        told.put((place, error))

        # daemons: a program that is stopped does not wait for what a slow address is still thinking of
        for _ in range(min(_TOGETHER, len(left))):
            Thread(target=work, daemon=True).start()
        try:
            for _ in conversations:
                place, found = told.get()
                if isinstance(found, BaseException):
                    raise found
                yield place, found
        finally:
            left.clear()

    def _read(self, data: bytes) -> Reply:
        content, finish = None, None
        try:
            choice = json.loads(data)["choices"][0]
            content, finish = choice["message"]["content"], choice.get("finish_reason")
        except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
            pass
        if not isinstance(content, str):
            raise InputError(f"{self.host} does not answer as OpenAI's chat completions do", where=self._where,
                             fix="give an address that ends in /v1 and speaks this API")
        # half a surrogate pair, which JSON can write, has no UTF-8
        return Reply(content.encode("utf-8", "replace").decode(), finish != "length")
