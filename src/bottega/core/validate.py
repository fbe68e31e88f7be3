"""Strict typed settings: an unknown key or a bad value is an error that names it and the fix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from bottega.core.errors import BottegaError, RecipeError, suggest


class Strict(BaseModel):
    """Base of every settings model: unknown keys, NaN and infinity are refused, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models inside an annotation such as `list[Message] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _known_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys allowed at the place in `model` that `path` points into."""
    current = model
    for part in path:
        if isinstance(part, int):
            continue  # a place in a list: the list's annotation named the model already
        field = current.model_fields.get(part)
        inner = next(_models(field.annotation), None) if field else None
        if inner is None:
            return []
        current = inner
    return list(current.model_fields)


def _short(value: Any) -> str:
    """Return a value as text of bearable length."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:180]}… ({len(text)} characters)"


def validate(model: type[Model], data: Any, *, where: str, error: type[BottegaError] = RecipeError) -> Model:
    """Build `model` from plain data; the first fault becomes one readable error.

    Args:
        model: the pydantic model.
        data: what was read from YAML, JSON or the command line.
        where: the file or option, for the message.
        error: the class to raise.

    Raises:
        BottegaError: of class `error`, naming key, value and fix.
    """
    try:
        return model.model_validate(data)
    except ValidationError as invalid:
        fault = invalid.errors()[0]
        path = tuple(fault["loc"])
        key = ".".join(str(part) for part in path) or model.__name__
        if fault["type"] == "extra_forbidden":
            raise error(f"unknown key '{key}'", where=where,
                        fix=suggest(str(path[-1]), _known_keys(model, path[:-1]))) from None
        if fault["type"] == "missing":
            raise error(f"'{key}' is missing", where=where, fix=f"add '{path[-1]}: …'") from None
        message = fault["msg"].removeprefix("Value error, ")
        raise error(f"{key}: {_short(fault['input'])} is not allowed", where=where,
                    fix=message[0].lower() + message[1:]) from None
