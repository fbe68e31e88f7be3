"""Progress on the terminal for long work, silent under `--json` and plain when output is not a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
_quiet = False


def set_quiet(quiet: bool) -> None:
    """Silence all progress (for `--json`)."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Return whether progress is silenced."""
    return _quiet


def say(text: str) -> None:
    """Print one line for people on stderr, unless quiet."""
    if not _quiet:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def timed(title: str) -> Iterator[None]:
    """Say what starts, and when it ended how long it took."""
    start = time.perf_counter()
    say(f"{title} …")
    yield
    say(f"{title}: {time.perf_counter() - start:.1f} s")


def track(items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items, showing a bar with rate and time left where stderr is a terminal."""
    if _quiet or not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, description=title, total=total)
