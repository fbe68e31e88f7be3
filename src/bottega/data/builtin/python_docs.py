"""Built-in source `python-docs`: the documentation that every Python carries. PSF-2.0.

The help topics of the language reference (`pydoc_data.topics`), and a page for each public module of the standard
library with its docstring and those of its public classes, functions and methods, read with `ast`: no module is run.
"""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import Iterator

from bottega.data.builtin.stdlib import LICENCE, source_files
from bottega.data.record import Record

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def records() -> Iterator[Record]:
    """Yield one text record a help topic and one a documented module."""
    from pydoc_data.topics import topics

    for topic, text in sorted(topics.items()):
        yield Record("text", f"builtin:python-docs/topics/{topic}", text.strip() + "\n", LICENCE)
    for name, source in source_files():
        module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if any(part.startswith("_") and part != "__future__" for part in module.split(".")):
            continue
        if page := module_page(module, source):
            yield Record("text", f"builtin:python-docs/modules/{module}", page, LICENCE)


def module_page(module: str, source: str) -> str:
    """Return the documentation page of a module from its source, or '' when it documents nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    blocks = list(_documented(tree.body, module))
    about = inspect.cleandoc(ast.get_docstring(tree) or "")
    if not about and not blocks:
        return ""
    return "\n\n".join([f"Module {module}", *([about] if about else []), *blocks]) + "\n"


def _documented(body: list[ast.stmt], owner: str) -> Iterator[str]:
    """Yield signature and docstring of each public definition that has one; methods follow their class."""
    for node in body:
        if not isinstance(node, _Definition) or node.name.startswith("_"):
            continue
        text = ast.get_docstring(node)
        if text:
            yield f"{signature(node, owner)}\n\n{_indented(text)}"
        if isinstance(node, ast.ClassDef):
            yield from _documented(node.body, f"{owner}.{node.name}")


def signature(node: _Definition, owner: str) -> str:
    """Return the line that introduces a definition: `json.dumps(obj, *, indent=None)` or `class json.JSONDecoder`."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {owner}.{node.name}" + (f"({bases})" if bases else "")
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    kind = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"{kind}{owner}.{node.name}({ast.unparse(node.args)}){result}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line.strip() else "" for line in text.strip().split("\n"))
