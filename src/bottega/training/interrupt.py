"""Ctrl-C and SIGTERM as requests: the loop finishes its step, saves a checkpoint and leaves with exit code 130."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bottega.core.progress import say


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list while the block runs; a second one ends the program as usual."""
    requests: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def ask(number: int, frame: Any) -> None:
        requests.append(number)
        say("stopping after this step; once more to stop at once")
        signal.signal(number, before[signal.Signals(number)] or signal.SIG_DFL)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    except ValueError:  # not the main thread: whoever runs us stops us
        pass
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
