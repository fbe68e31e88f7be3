"""Checks that need no model: is this answer right, is this JSON of that schema? `pytest tests/data/test_checks.py`.

Rewards of reinforcement learning and held-out figures use the same functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from bottega.core.errors import RecipeError, suggest

_MARKED = re.compile(r"####[ \t]*([^\n]*)|<answer>(.*?)</answer>|\\boxed\{([^{}]*)\}", re.DOTALL)
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?|[-+]?\.\d+")
_SPACES = re.compile(r"\s+")


def marked_answer(text: str) -> str | None:
    r"""Return what an answer marks as its result: after the last `####`, in `<answer>…</answer>` or in `\boxed{…}`.

    None where nothing is marked, or the mark is empty.
    """
    found = None
    for match in _MARKED.finditer(text):
        found = next(group for group in match.groups() if group is not None).strip()
    return found or None


def last_number(text: str) -> str | None:
    """Return the last number that a text spells, None where there is none."""
    found = _NUMBER.findall(text)
    return found[-1] if found else None


def normal_answer(text: str) -> str:
    """Return a result as it is compared: numbers without thousands' commas and trailing zeros, words in lower case.

    `1,250.0` and `$1250.` are both `1250`; spaces run together; a full stop at the end and quotes around go.
    """
    plain = _SPACES.sub(" ", text.strip().strip("\"'`").rstrip(".").strip()).casefold()
    bare = plain.removeprefix("$").removesuffix("%").strip()
    if _NUMBER.fullmatch(bare):
        try:
            value = Decimal(bare.replace(",", ""))
            return format(value.normalize() if value else Decimal(0), "f")
        except InvalidOperation:
            return plain
    return plain


def same_answer(one: str | None, other: str | None) -> bool:
    """Return whether two results are equal once normalised; nothing equals nothing no more than it equals a number."""
    return one is not None and other is not None and normal_answer(one) == normal_answer(other)


_TYPES: dict[str, tuple[type, ...]] = {"object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,),
                                       "integer": (int,), "number": (int, float), "null": (type(None),)}
_KEYWORDS = frozenset((
    "type", "enum", "const", "properties", "required", "additionalProperties", "items", "minItems", "maxItems",
    "minLength", "maxLength", "pattern", "minimum", "maximum", "anyOf", "title", "description", "$schema"))


def check_schema(schema: Any, where: str = "schema") -> None:
    """Refuse a JSON schema that `json_fault` would not judge completely.

    Raises:
        RecipeError: an unknown keyword or type, or an expression that does not compile; the message names it.
    """
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise RecipeError(f"a schema is a mapping, this is {schema!r}", where=where, fix="write {type: object, …}")
    for word in schema:
        if word not in _KEYWORDS:
            raise RecipeError(f"the schema keyword '{word}' is not understood", where=where,
                              fix=suggest(str(word), _KEYWORDS))
    for kind in _listed(schema.get("type", [])):
        if kind not in _TYPES:
            raise RecipeError(f"unknown type '{kind}'", where=where, fix=suggest(str(kind), _TYPES))
    try:
        re.compile(schema.get("pattern", ""))
    except re.error as error:
        raise RecipeError(f"the pattern {schema['pattern']!r} does not compile: {error}", where=where,
                          fix="correct the regular expression") from None
    for name, inner in schema.get("properties", {}).items():
        check_schema(inner, f"{where}.properties.{name}")
    for word in ("items", "additionalProperties"):
        if word in schema:
            check_schema(schema[word], f"{where}.{word}")
    for number, inner in enumerate(schema.get("anyOf", [])):
        check_schema(inner, f"{where}.anyOf[{number}]")


def json_fault(text: str, schema: Any = True) -> str:
    """Return what is wrong with a text as one JSON value of a schema, empty when nothing is.

    Args:
        text: must be JSON from end to end (no fence, no words around it; no NaN, no key twice).
        schema: JSON Schema of the keywords in `check_schema`; True accepts every value.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        return f"no JSON: {error}"
    return value_fault(value, schema)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is given twice")
    return dict(pairs)


def value_fault(value: Any, schema: Any, path: str = "$") -> str:
    """Return the first fault of a parsed value under a schema (see `json_fault`), empty when there is none."""
    if isinstance(schema, bool):
        return "" if schema else f"{path} may not be there"
    kinds = _listed(schema.get("type", []))
    if kinds and not any(_is(value, kind) for kind in kinds):
        return f"{path} is no {' or '.join(kinds)}"
    if "const" in schema and not _equal(value, schema["const"]):
        return f"{path} is not {schema['const']!r}"
    if "enum" in schema and not any(_equal(value, one) for one in schema["enum"]):
        return f"{path} is none of {schema['enum']!r}"
    if "anyOf" in schema and all(value_fault(value, one, path) for one in schema["anyOf"]):
        return f"{path} fits none of the alternatives"
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            return f"{path} has {len(value)} characters"
        return "" if re.search(schema.get("pattern", ""), value) else f"{path} does not match the pattern"
    if isinstance(value, int | float) and not isinstance(value, bool):
        inside = schema.get("minimum", value) <= value <= schema.get("maximum", value)
        return "" if inside else f"{path} is {value}"
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return f"{path} has {len(value)} items"
        faults = (value_fault(one, schema.get("items", True), f"{path}[{n}]") for n, one in enumerate(value))
        return next(filter(None, faults), "")
    if isinstance(value, dict):
        missing = [name for name in schema.get("required", []) if name not in value]
        if missing:
            return f"{path} lacks '{missing[0]}'"
        known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        faults = (value_fault(one, known.get(name, rest), f"{path}.{name}") for name, one in value.items())
        return next(filter(None, faults), "")
    return ""


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
