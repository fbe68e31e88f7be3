"""Data that is found on every install: `bottega data prepare recipes/python-lm.yaml` uses two of these.

Each built-in is a module here with `def records() -> Iterator[Record]`: the same records in the same order each time,
each with an origin of its own that starts with `builtin:NAME/`. It is imported when it is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

from bottega.data.record import Record


def _records(module: str) -> Callable[[], Iterator[Record]]:
    """Return a function that imports a built-in's module and starts its records."""

    def start() -> Iterator[Record]:
        found: Iterator[Record] = importlib.import_module(f"{__name__}.{module}").records()
        return found

    return start


BUILTIN: dict[str, Callable[[], Iterator[Record]]] = {
    "python-docs": _records("python_docs"),
    "python-stdlib": _records("python_stdlib"),
    "python-docs-qa": _records("python_docs_qa"),
    "support-desk": _records("support_desk"),
    "house-tone": _records("house_tone"),
    "grounded-answers": _records("grounded_answers"),
    "code-that-parses": _records("code_that_parses"),
    "arithmetic": _records("arithmetic"),
    "json-cards": _records("json_cards"),
    "long-sums": _records("long_sums"),
}
