"""Finished steps by key: a step is a pure function of its inputs' digests and its settings, done once.

`workshop/data/steps/STEP/ab/KEY.parquet` holds an output and `KEY.json` its manifest row: size, SHA-256 and the facts
counted while making it. The row is written last; an output without a row, or one that does not match its row, is made
again. So `bottega data prepare` goes on after a kill at any moment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bottega.core.errors import BottegaError
from bottega.core.files import (
    TEMPORARY,
    digest_json,
    read_json,
    remove_unfinished,
    sha256_file,
    write_atomic,
    write_json,
)


@dataclass(frozen=True, slots=True)
class Done:
    """A finished step: its output file, the SHA-256 of it, and what was counted."""

    path: Path
    sha256: str
    facts: dict[str, Any]


@cache
def room_digest() -> str:
    """Return the SHA-256 over this folder's own source: other code makes other steps."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


class Unfinished(Exception):
    """A step that would have to be made."""


class Steps:
    """The finished steps of one workshop.

    Args:
        home: the workshop.
        recall: only return what is finished; a step that is not raises `Unfinished`.
    """

    def __init__(self, home: Path, *, recall: bool = False) -> None:
        self.home, self._recall = home, recall
        self._folder = home / "data" / "steps"

    @staticmethod
    def key(step: str, inputs: list[str], settings: dict[str, Any]) -> str:
        """Return the name of a step's output (64 hex digits)."""
        return digest_json({"step": step, "inputs": inputs, "settings": settings, "code": room_digest()})

    def sweep(self) -> None:
        """Delete what killed runs left under temporary names, which may fill a disk."""
        data = self.home / "data"
        for folder in sorted({path.parent for path in data.rglob(f"*{TEMPORARY}*")}):
            remove_unfinished(folder)

    def find(self, step: str, key: str) -> Done | None:
        """Return a finished step whose output still has the recorded size and SHA-256, else None."""
        path = self._path(step, key)
        try:
            row = read_json(path.with_suffix(".json"))
            if path.stat().st_size == row["bytes"] and sha256_file(path) == row["sha256"]:
                return Done(path, row["sha256"], row["facts"])
        except (BottegaError, OSError, KeyError, TypeError):
            pass
        return None

    def make(self, step: str, key: str, write: Callable[[Path], dict[str, Any]]) -> Done:
        """Return a finished step, running `write(temporary file) -> facts` when it is not there yet.

        Raises:
            ResourceError: the disk is full; finished steps stay.
            Unfinished: it is not there, and this object only recalls.
        """
        if done := self.find(step, key):
            return done
        if self._recall:
            raise Unfinished(step)
        path = self._path(step, key)
        facts: dict[str, Any] = {}
        write_atomic(path, lambda temporary: facts.update(write(temporary)))
        row = {"bytes": path.stat().st_size, "sha256": sha256_file(path), "facts": facts}
        write_json(path.with_suffix(".json"), row)
        return Done(path, str(row["sha256"]), facts)

    def _path(self, step: str, key: str) -> Path:
        return self._folder / step / key[:2] / f"{key}.parquet"
