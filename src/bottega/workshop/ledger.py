"""Finished pieces of long work, a line each, so that whatever ends the process loses none: `bottega compare` goes on.

A line is on the disk before it counts; a torn last line, as a power cut leaves it, is cut off.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bottega.core.files import canonical_json, clear_disk_errors


class Ledger:
    """Values by key in a JSONL file; equal keys are written once.

    Args:
        path: the file; it and its folder are made when the first value comes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Any] = {}
        if not path.is_file():
            return
        data = path.read_bytes()
        whole = data[:data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            key, value = json.loads(line)
            self._known[key] = value
        if len(whole) < len(data):
            with clear_disk_errors(path):
                os.truncate(path, len(whole))

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Any:
        """Return a value, or None."""
        return self._known.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keep a value (plain JSON); durable when this returns.

        Raises:
            ResourceError: the disk is full.
        """
        if key in self._known:
            return
        line = f"{canonical_json([key, value])}\n".encode("utf-8", "backslashreplace")
        with clear_disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        self._known[key] = value
