"""Strict typed settings: an unknown key or a bad value is an error that names it and the fix."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bottega.core.errors import BottegaError, RecipeError, suggest


class Strict(BaseModel):
    """Base of every settings model: unknown keys are refused, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=BaseModel)


def _known_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys allowed at the place in `model` that `path` points into."""
    current: Any = model
    for part in path:
        field = current.model_fields.get(part) if isinstance(part, str) else None
        inner = field.annotation if field else None
        candidates = [inner, *getattr(inner, "__args__", ())]
        current = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if current is None:
            return []
    return list(current.model_fields)


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
        raise error(f"{key}: {fault['input']!r} is not allowed", where=where, fix=message[0].lower() + message[1:]) from None
