"""Built-in source `python-stdlib`: the source code of this Python's standard library, without tests. PSF-2.0."""

from __future__ import annotations

from collections.abc import Iterator

from bottega.data.builtin.stdlib import LICENCE, source_files
from bottega.data.record import Record


def records() -> Iterator[Record]:
    """Yield one text record a file."""
    for name, text in source_files():
        if text.strip():
            yield Record("text", f"builtin:python-stdlib/{name}", text, LICENCE)
