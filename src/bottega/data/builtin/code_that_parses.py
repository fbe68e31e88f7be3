"""Built-in source `code-that-parses`: a function body that is Python against one that is not. PSF-2.0.

The rejected body is the real one with a fault that small models make: a bracket lost, a line indented wrongly, a colon
forgotten, a string left open. Each is checked with `ast` to be broken.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator

from bottega.data.builtin.python_docs_qa import MAX_BODY, WRITE, functions
from bottega.data.builtin.stdlib import LICENCE
from bottega.data.record import Record


def parses(head: str, body: str) -> bool:
    """Return whether a function of this head (signature and docstring) and body is Python."""
    try:
        ast.parse(f"{head}\n{body}\n")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def broken(head: str, body: str, rng: random.Random) -> str | None:
    """Return the body with a fault that keeps it from parsing, None where no fault took."""
    for _ in range(8):
        lines = body.split("\n")
        fault = rng.choice(("bracket", "indent", "colon", "quote"))
        if fault == "indent":
            number = rng.randrange(len(lines))
            lines[number] = lines[number][rng.choice((1, 2, 3)):] if lines[number].startswith("    ") \
                else "   " + lines[number]
            wrong = "\n".join(lines)
        else:
            letters = {"bracket": ")]}", "colon": ":", "quote": "'\""}[fault]
            places = [index for index, letter in enumerate(body) if letter in letters]
            if not places:
                continue
            place = rng.choice(places)
            wrong = body[:place] + body[place + 1:]
        if not parses(head, wrong):
            return wrong
    return None


def records() -> Iterator[Record]:
    """Yield a pair for each short documented function, split as in python-docs-qa."""
    seen: set[str] = set()
    for function in functions():
        if function.name in seen or len(function.body) > MAX_BODY or not parses(function.head, function.body):
            continue
        seen.add(function.name)
        wrong = broken(function.head, function.body, random.Random(function.name))
        if wrong is not None:
            yield Record.preference(f"builtin:code-that-parses/{function.name}",
                                    [{"role": "user", "content": WRITE.format(head=function.head)}], function.body,
                                    wrong, licence=LICENCE, split=function.split)
