"""What a worker does for one slice or one group of slices; `python -m bottega.data.tasks HOME` is such a worker.

A worker reads one JSON task a line from standard input and answers with one JSON line, until its input ends: when the
main process dies, however it dies, its workers end too. Nothing is pickled and no main module is imported again.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import bottega.core.errors as errors
from bottega.core.errors import BottegaError
from bottega.data.store import Done, Steps

Task = dict[str, Any]


def _plain(done: Done) -> dict[str, Any]:
    return {"path": str(done.path), "sha256": done.sha256, "facts": done.facts}


def read_slice(steps: Steps, task: Task) -> dict[str, Any]:
    """Extract and measure one slice; return both steps.

    Args:
        steps: where finished steps lie.
        task: `slice` (`Slice.plain`), `text_field`, `licence`, `limit`, `banding` ([bands, rows] or None), `forbidden`
            (path and digest of the sequences not wanted, or None), `measure` (false: extract only).
    """
    from bottega.data.dedupe import Banding
    from bottega.data.extract import extract
    from bottega.data.measure import measure_slice, overlap_slice
    from bottega.data.sources import Slice

    piece = Slice.of(task["slice"])
    settings = {name: task[name] for name in ("text_field", "licence", "limit")}
    texts = steps.make("extract", steps.key("extract", [piece.digest], settings),
                       lambda path: extract(piece, **settings, path=path))
    found = {"text": _plain(texts)}
    if task["measure"]:
        banding = Banding(*task["banding"]) if task["banding"] else None
        key = steps.key("measure", [texts.sha256], {"banding": task["banding"]})
        found["measure"] = _plain(steps.make("measure", key, lambda path: measure_slice(texts.path, banding, path)))
    if task["forbidden"]:
        forbidden, digest = task["forbidden"]
        key = steps.key("overlap", [texts.sha256, digest], {})
        found["overlap"] = _plain(steps.make("overlap", key,
                                             lambda path: overlap_slice(texts.path, Path(forbidden), path)))
    return found


def write_slices(steps: Steps, task: Task) -> dict[str, Any]:
    """Write one file of the dataset; return the step.

    Args:
        steps: where finished steps lie.
        task: `key`, lists `texts`, `measures`, `overlaps` and `sources`, and `decisions`.
    """
    from bottega.data.write import write_group

    def write(path: Path) -> dict[str, Any]:
        texts, measures, overlaps = ([Path(name) for name in task[part]] for part in ("texts", "measures", "overlaps"))
        return write_group(texts, measures, overlaps, task["sources"], Path(task["decisions"]), path)

    return _plain(steps.make("write", task["key"], write))


TASKS = {"read": read_slice, "write": write_slices}


def run(steps: Steps, task: Task) -> dict[str, Any]:
    """Do one task by its name in `task["do"]`."""
    return TASKS[task["do"]](steps, task)


def pack_error(error: BottegaError) -> dict[str, str]:
    """Return an error as JSON-ready data."""
    return {"error": type(error).__name__, "problem": error.problem, "where": error.where, "fix": error.fix}


def unpack_error(data: dict[str, str]) -> BottegaError:
    """Return the error that a worker met."""
    kind = getattr(errors, data["error"], BottegaError)
    if not (isinstance(kind, type) and issubclass(kind, BottegaError)) or kind is errors.MissingExtraError:
        kind = BottegaError
    return kind(data["problem"], where=data["where"], fix=data["fix"])


def main() -> None:
    """Serve tasks until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the main process ends us
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not mix with the answers
    steps = Steps(Path(sys.argv[1]))
    for line in sys.stdin:
        try:
            answer = run(steps, json.loads(line))
        except BottegaError as error:
            answer = pack_error(error)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
