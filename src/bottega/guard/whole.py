"""What can only be said of outputs that are finished: their format, and whether they repeat each other."""

from __future__ import annotations

import json
from collections.abc import Sequence


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def not_json(text: str) -> str | None:
    """Return why a text is not JSON, None when it is; NaN and infinities are not."""
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        place = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        return f"the output is not valid JSON{place}"
    return None


def duplicates(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs (output, earlier output it repeats); space at the ends makes no difference."""
    first: dict[str, int] = {}
    seen = [first.setdefault(text.strip(), index) for index, text in enumerate(texts)]
    return [(index, earlier) for index, earlier in enumerate(seen) if earlier < index]
