"""What the families' configurations share: derived values, and keys that other parts of a recipe decide."""

from __future__ import annotations

from typing import Any

from bottega.core.errors import RecipeError


def mlp_width(width: int) -> int:
    """Return 8/3 of the width, rounded up to a multiple of 64: as many weights as an ungated MLP of 4 widths."""
    return -(-8 * width // (3 * 64)) * 64


def pick(overrides: dict[str, Any], key: str, default: int) -> int:
    """Return an override that other values derive from, or the default where it is not a positive integer.

    The odd value itself is refused later, by the family's Config, with a message that names it.
    """
    value = overrides.get(key, default)
    return value if isinstance(value, int) and value > 0 else default


def refuse_foreign(overrides: dict[str, Any], family: str) -> None:
    """Refuse generator keys that other parts of a recipe decide.

    Raises:
        RecipeError: naming the key and the place where it belongs.
    """
    for key, place in (("vocab_size", "codec.vocab_size"), ("context", "training.context"), ("special", "the codec")):
        if key in overrides:
            raise RecipeError(f"'{key}' of a {family} is decided elsewhere", where="generator",
                              fix=f"leave it out; set {place}" if "." in place else f"leave it out; {place} sets it")
