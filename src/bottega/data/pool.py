"""Several processes for the slices of one preparation; the result does not depend on how many. Used by `pipeline`."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bottega.core.errors import ResourceError
from bottega.data.store import Steps, Unfinished
from bottega.data.tasks import Task, run, unpack_error

_MOST = 8


def default_jobs() -> int:
    """Return the number of processors this process may use, at most 8."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(usable, _MOST))


class Pool:
    """Runs tasks in `jobs` worker processes, or in this one when `jobs` is 1. A context manager.

    Args:
        home: the workshop.
        jobs: processes; they start with the first tasks that are worth it.
    """

    def __init__(self, home: Path, jobs: int) -> None:
        self._steps, self._finished, self.jobs = Steps(home), Steps(home, recall=True), jobs
        self._workers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            for pipe in (worker.stdin, worker.stdout):
                if pipe:
                    with contextlib.suppress(OSError):  # the worker may be gone with a task half written
                        pipe.close()
            worker.wait()

    def map(self, tasks: list[Task], *, alone: bool = False) -> Iterator[dict[str, Any]]:
        """Yield the results of tasks in their order.

        Args:
            tasks: see `tasks.run`.
            alone: do them in this process (little work).

        Raises:
            BottegaError: what a task raised.
            ResourceError: a worker died, most likely for want of memory.
        """
        if alone or self.jobs < 2 or len(tasks) < 2:
            for task in tasks:
                yield run(self._steps, task)
            return
        waiting: dict[int, dict[str, Any]] = {}
        for index, task in enumerate(tasks):
            with contextlib.suppress(Unfinished):
                waiting[index] = run(self._finished, task)
        left = [(index, task) for index, task in enumerate(tasks) if index not in waiting]
        if len(left) == 1:
            index, task = left.pop()
            waiting[index] = run(self._steps, task)
        while len(self._workers) < min(self.jobs, len(left)):
            self._workers.append(self._start())
        todo: queue.SimpleQueue[tuple[int, Task]] = queue.SimpleQueue()
        answers: queue.SimpleQueue[tuple[int, dict[str, Any] | None, int]] = queue.SimpleQueue()
        for numbered in left:
            todo.put(numbered)
        for worker in self._workers:
            threading.Thread(target=_feed, args=(worker, todo, answers), daemon=True).start()
        for index in range(len(tasks)):
            while index not in waiting:
                number, answer, code = answers.get()
                if answer is None:
                    raise ResourceError(f"a worker process ended with code {code}", where="data preparation",
                                        fix="free some memory and run the same command again: it goes on where it "
                                            "stopped")
                if "error" in answer:
                    raise unpack_error(answer)
                waiting[number] = answer
            yield waiting.pop(index)

    def _start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                       "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-m", "bottega.data.tasks", str(self._steps.home)], text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, encoding="utf-8")


def _feed(worker: subprocess.Popen[str], todo: queue.SimpleQueue[tuple[int, Task]],
          answers: queue.SimpleQueue[tuple[int, dict[str, Any] | None, int]]) -> None:
    """Give one worker task after task until none is left or it dies."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    while True:
        try:
            number, task = todo.get_nowait()
        except queue.Empty:
            return
        try:
            worker.stdin.write(json.dumps(task) + "\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
        except (OSError, ValueError):
            line = ""
        if not line:
            answers.put((number, None, worker.wait()))
            return
        answers.put((number, json.loads(line), 0))
