"""What people see while a model trains: loss, speed, share of the machine's peak, time and energy left.

A live panel on a terminal; a plain line every ten seconds elsewhere; nothing under `--json`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING

from bottega.core.progress import is_quiet, say

if TYPE_CHECKING:
    from rich.live import Live

ITEMS = {"pictures": "pictures", "tables": "rows", "graphs": "graphs"}  # what an objective counts, if not tokens
_BARS = "▁▂▃▄▅▆▇█"
_LIVE_SECONDS, _LINE_SECONDS = 0.25, 10.0


def sparkline(values: list[float], width: int = 40) -> str:
    """Return a row of bars, one for each of at most `width` equal stretches of the values."""
    if not values:
        return ""
    width = min(width, len(values))
    edges = [round(i * len(values) / width) for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges) if b > a]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(_BARS[round((mean - low) / span * (len(_BARS) - 1))] for mean in means)


def duration(seconds: float) -> str:
    """Return seconds as people write them: 42 s, 3:07, 2:05:00."""
    if seconds < 60:
        return f"{max(0.0, seconds):.0f} s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


class Display:
    """The view of one run; a context manager.

    Args:
        title: name of the run.
        peak: measured FLOP/s of the machine in the run's precision, 0 when not known.
        flops: training FLOP a token.
        items: what is counted: tokens, pictures, rows.
    """

    def __init__(self, title: str, *, peak: float, flops: float, items: str = "tokens") -> None:
        self.title, self.peak, self.flops, self.items = title, peak, flops, items
        self._losses: list[float] = []
        self._last = time.perf_counter()
        self._live: Live | None = None

    def __enter__(self) -> Display:
        if sys.stderr.isatty() and not is_quiet():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def share(self, rate: float) -> float:
        """Return the share (0..1) of the machine's peak that a rate in tokens a second makes use of."""
        return rate * self.flops / self.peak if self.peak else 0.0

    def update(self, *, step: int, progress: float, loss: float, rate: float, seconds: float,
               watt_hours: Callable[[], float]) -> None:
        """Show a finished step; redrawn a few times a second at most.

        Args:
            step: number of steps done.
            progress: used share of the budget.
            loss: mean loss of the step.
            rate: tokens a second.
            seconds: time used.
            watt_hours: returns the energy used, upper bound; asked only when something is drawn.
        """
        self._losses.append(loss)
        if len(self._losses) >= 4096:  # halve the history: the sparkline needs no more
            self._losses = [sum(pair) / 2 for pair in zip(self._losses[::2], self._losses[1::2], strict=False)]
        now = time.perf_counter()
        if now - self._last < (_LIVE_SECONDS if self._live else _LINE_SECONDS) or is_quiet():
            return
        self._last = now
        recent = self._losses[-20:]
        left = seconds / progress - seconds if progress > 0 else 0.0
        peak = f"  {self.share(rate):.0%} of peak" if self.peak else ""
        line = (f"{self.title} {progress:4.0%}  step {step}  loss {sum(recent) / len(recent):.3f}  "
                f"{rate:,.0f} {self.items}/s{peak}")
        rest = f"{duration(left)} left  ≤{watt_hours():.2f} Wh"
        if self._live is None:
            say(f"{line}  {rest}")
            return
        from rich.text import Text

        self._live.update(Text(f"{line}\n{sparkline(self._losses)}  {rest}", no_wrap=True, overflow="ellipsis"),
                          refresh=True)

    def note(self, text: str) -> None:
        """Print a lasting line (a validation, a sample) above the panel."""
        if self._live is not None:
            from rich.text import Text

            self._live.console.print(Text(text))
        else:
            say(text)
