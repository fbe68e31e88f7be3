"""Built-in source `python-docs-qa`: questions whose answers stand in the installed Python's own library. PSF-2.0.

For each documented public function: what does it do (answer: the summary of its docstring), write its docstring from
its code, write its code from signature and docstring (short functions only). All questions on a function are in one
split, chosen by a hash of its summary.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from bottega.data.builtin.stdlib import LICENCE, source_files
from bottega.data.record import Record, Split

HELD_OUT_SHARE = 0.08
MAX_BODY, MAX_SUMMARY = 320, 240  # characters: rows stay short enough for a context of 256 tokens
WHAT, DESCRIBE, WRITE = "What does {name} do?", "Write the docstring of this function:\n{code}", \
    "Complete this function:\n{head}"


@dataclass(frozen=True, slots=True)
class Function:
    """A documented function: dotted name, head (signature and docstring), body and summary as source text."""

    name: str
    head: str
    body: str
    summary: str

    @property
    def split(self) -> Split:
        """Held out or not, by a hash of the summary: functions documented alike are on one side."""
        number = int.from_bytes(hashlib.sha256(self.summary.encode()).digest()[:4], "big")
        return "validation" if number < HELD_OUT_SHARE * 2**32 else "train"


def summary(docstring: str) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join(inspect.cleandoc(docstring).split("\n\n")[0].split())


def functions() -> Iterator[Function]:
    """Yield the documented public functions and methods of the standard library, in the order of the files."""
    for file, source in source_files():
        module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if any(part.startswith("_") for part in module.split(".")):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in other people's strings
                tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        yield from _inside(tree.body, module, source.split("\n"))


def _inside(body: list[ast.stmt], owner: str, lines: list[str]) -> Iterator[Function]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name.startswith("_"):
            continue
        if isinstance(node, ast.ClassDef):
            yield from _inside(node.body, f"{owner}.{node.name}", lines)
        elif isinstance(node, ast.FunctionDef) and len(node.body) > 1 and (text := ast.get_docstring(node)):
            about = summary(text)
            if not 12 <= len(about) <= MAX_SUMMARY:
                continue
            line = f"def {node.name}({ast.unparse(node.args)}):"
            rest = textwrap.dedent("\n".join(lines[node.body[1].lineno - 1:node.end_lineno])).rstrip()
            code = textwrap.indent(rest, "    ")
            yield Function(f"{owner}.{node.name}", f'{line}\n    """{about}"""', code, about)


def records() -> Iterator[Record]:
    """Yield up to three chats a function; a name that occurs twice counts once."""
    seen: set[str] = set()
    for function in functions():
        if function.name in seen:
            continue
        seen.add(function.name)
        pairs = [("what", WHAT.format(name=function.name), function.summary)]
        if len(function.body) <= MAX_BODY:
            bare = function.head.split("\n")[0] + "\n" + function.body
            pairs += [("describe", DESCRIBE.format(code=bare), function.summary),
                      ("write", WRITE.format(head=function.head), function.body)]
        for task, question, answer in pairs:
            yield Record.chat(f"builtin:python-docs-qa/{function.name}/{task}",
                              [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
                              licence=LICENCE, split=function.split, meta={"task": task, "function": function.name})
