"""Finished parts of long work, a line of JSON each, so that a stopped run goes on: `bottega distil … --resume`.

The first line holds the facts that the parts depend on. A part is on the disk before `add` returns; a line that a kill
cut short is dropped.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from bottega.core.errors import CorruptError, InputError
from bottega.core.files import clear_disk_errors


def whole_lines(data: bytes) -> tuple[list[Any], int]:
    """Return the values of JSON lines up to the first one that is not whole, and the bytes that these take."""
    values, size = list[Any](), 0
    for line in data.split(b"\n")[:-1]:
        try:
            values.append(json.loads(line))
        except ValueError:
            break
        size += len(line) + 1
    return values, size


def differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return in words which facts differ, at most five; empty when none does."""
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return "; ".join(f"{key} was {old.get(key)!r}, is {new.get(key)!r}" for key in changed[:5])


class Journal:
    """The finished parts of one run, in a file that no other process writes meanwhile.

    Args:
        path: the file; what is in it of a run that was stopped is kept.
        facts: JSON that the parts depend on.
        resume: go on with the parts that are there.

    Attributes:
        parts: those that were there and those that were added, in their order.

    Raises:
        InputError: there are parts and `resume` is false, they were made from other facts, or another process is at
            work on the file.
        CorruptError: a line before the last one is damaged.
        ResourceError: the disk is full.
    """

    def __init__(self, path: Path, facts: dict[str, Any], *, resume: bool) -> None:
        self.path = path
        with clear_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        try:
            self.parts = self._open(facts, resume)
            if not self.parts:
                self._write(facts)
        except BaseException:
            self._file.close()
            raise

    def _open(self, facts: dict[str, Any], resume: bool) -> list[Any]:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process is at work on {self.path}", fix="wait until it is done, or write to "
                                                                               "another name") from None
        data = self.path.read_bytes()
        lines, size = whole_lines(data)
        if b"\n" in data[size:]:
            raise CorruptError(f"line {len(lines) + 1} is damaged", where=str(self.path),
                               fix="delete it and all lines after it, and go on with --resume")
        parts = lines[1:]
        if parts and not resume:
            raise InputError(f"{self.path} holds {len(parts):,} finished parts of a run that was stopped",
                             where="--resume", fix="add --resume to go on, or remove the file to begin anew")
        changed = differences(lines[0], facts) if parts else ""
        if changed:
            raise InputError(f"this is not the run that was stopped: {changed}", where="--resume",
                             fix=f"undo the change, or remove {self.path} to begin anew")
        with clear_disk_errors(self.path):
            self._file.truncate(size if parts else 0)
        return parts

    def add(self, part: Any) -> None:
        """Keep a part; it survives a kill and a power cut from now on."""
        self._write(part)
        self.parts.append(part)

    def _write(self, value: Any) -> None:
        with clear_disk_errors(self.path):
            # ASCII: half a surrogate pair of a model's answer has no UTF-8
            left = memoryview((json.dumps(value, separators=(",", ":")) + "\n").encode())
            while left:  # a disk that becomes full takes a part of them and says so only at the next write
                left = left[self._file.write(left):]
            os.fsync(self._file.fileno())

    def count(self) -> int:
        """Return how many parts the file holds."""
        return max(0, len(whole_lines(self.path.read_bytes())[0]) - 1)

    def close(self) -> None:
        """Let another process go on with the file."""
        self._file.close()

    def remove(self) -> None:
        """Delete the file: the work is finished, or there is nothing in it."""
        self.path.unlink(missing_ok=True)
        self._file.close()
