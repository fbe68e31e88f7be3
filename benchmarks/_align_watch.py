"""What both sides of align.py share: clocks between steps, tokens, memory, the reward of GRPO. Plain Python."""

from __future__ import annotations

import json
import time
from pathlib import Path


def _memory(name: str) -> float:
    """Return a line of /proc/self/status in MB: `VmRSS` now, `VmHWM` at most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def reward(text: str, answer: str) -> float:
    """Return 1 for the right answer, and the share of different characters: random weights earn unequal rewards."""
    return float(text.strip() == answer) + len(set(text)) / max(len(text), 1)


class Watch:
    """Told at the beginning of every step; keeps the `steps` ones after `warm`."""

    def __init__(self, warm: int, steps: int) -> None:
        self.warm, self.steps = warm, steps
        self.marks: list[tuple[float, float]] = []
        self.counted: list[int] = []
        self.drawn: list[int] = []  # GRPO: tokens sampled, part of the others
        self.before = 0.0

    def ready(self) -> None:
        """Model and data are loaded: what memory grows by from here is the steps'."""
        self.before = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew

    def mark(self) -> None:
        """A step begins, and the one before it is over."""
        self.marks.append((time.perf_counter(), time.process_time()))
        self.counted.append(0)
        self.drawn.append(0)

    def tokens(self, count: int, drawn: int = 0) -> None:
        """Count tokens of the step under way."""
        self.counted[-1] += count
        self.drawn[-1] += drawn

    def tell(self, loss: float) -> None:
        """Print what was measured as one JSON line."""
        first, last = self.marks[self.warm], self.marks[self.warm + self.steps]
        peak = _memory("VmHWM")
        counted, drawn = (sum(each[self.warm:self.warm + self.steps]) for each in (self.counted, self.drawn))
        print(json.dumps({"tokens": counted, "drawn": drawn, "seconds": last[0] - first[0],
                          "cpu_seconds": last[1] - first[1], "loss": loss, "peak_mb": peak,
                          "grown_mb": peak - self.before}))
