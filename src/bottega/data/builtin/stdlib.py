"""The files of this Python's standard library that are worth reading; shared by `python-docs` and `python-stdlib`."""

from __future__ import annotations

import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

LICENCE = "PSF-2.0"
# Tests, an editor, a frozen copy of old grammar, bundled installers, and help texts that python-docs gives as text.
_LEFT_OUT = frozenset(("test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__",
                       "ensurepip", "turtledemo", "pydoc_data", "idle_test", "__phello__"))


def source_files() -> Iterator[tuple[str, str]]:
    """Yield name (with slashes) and source text of each Python file, in the order of the names."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for name, file in sorted((file.relative_to(root).as_posix(), file) for file in root.rglob("*.py")):
        parts = name.split("/")
        if _LEFT_OUT.isdisjoint(parts) and not parts[0].startswith("config-"):
            try:
                with tokenize.open(file) as handle:
                    yield name, handle.read()
            except (OSError, SyntaxError, UnicodeDecodeError):
                continue  # not source that this Python reads
