"""The log of a run: `metrics.jsonl`, a line a step, and TensorBoard event files beside it.

Append-only. Resuming cuts off the lines after the resumed step, so that the file reads as one uninterrupted run.
`tensorboard --logdir workshop/runs` shows the curves.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from bottega.core.files import clear_disk_errors, write_atomic
from bottega.core.journal import whole_lines

HISTORY = "metrics.jsonl"
_BOARD_SECONDS = 1.0  # a point a second is plenty for a curve


def read_history(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log, oldest first; a torn last line (after a kill) is left out."""
    path = run / HISTORY
    return whole_lines(path.read_bytes())[0] if path.is_file() else []


class MetricsLog:
    """Writes the log of one run.

    Args:
        run: the run's folder.
        step: the step training goes on from; later lines are removed.
    """

    def __init__(self, run: Path, step: int) -> None:
        from tensorboardX import SummaryWriter

        self.path = run / HISTORY
        kept = [line for line in read_history(run) if line["step"] <= step]
        write_atomic(self.path, "".join(_line(line) for line in kept))
        with clear_disk_errors(self.path):
            self._file = self.path.open("a", encoding="utf-8", buffering=1)
            self._board = SummaryWriter(logdir=str(run / "tensorboard"), purge_step=step or None, flush_secs=30)
        self._shown = 0.0

    def add(self, step: int, **values: Any) -> None:
        """Append one line; values that are None are left out. Numbers go to TensorBoard at most once a second."""
        entry = {"step": step, **{key: value for key, value in values.items() if value is not None}}
        with clear_disk_errors(self.path):
            self._file.write(_line(entry))
            now = time.perf_counter()
            if "validation" in entry or now - self._shown >= _BOARD_SECONDS:
                self._shown = now
                for key, value in entry.items():
                    if isinstance(value, dict):
                        for name, inner in value.items():
                            self._board.add_scalar(f"{key}/{name}", inner, step)
                    elif isinstance(value, int | float) and key != "step":
                        self._board.add_scalar(f"training/{key}", value, step)

    def sync(self) -> None:
        """Make all lines so far survive a power cut; called before each checkpoint."""
        with clear_disk_errors(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close both files; a full disk here loses curve points only."""
        try:
            self._file.close()
            self._board.close()
        except OSError:
            pass


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, separators=(",", ":")) + "\n"
