"""Ids of rows and names that people give."""

from __future__ import annotations

import secrets
import string

from bottega.core.errors import InputError

_LETTERS = string.ascii_lowercase + string.digits


def new_id(kind: str) -> str:
    """Return an id nobody can guess: the kind and 24 letters or digits."""
    return f"{kind}-{''.join(secrets.choice(_LETTERS) for _ in range(24))}"


def check_name(what: str, name: str) -> str:
    """Return a name people may give to a thing.

    Raises:
        InputError: it is empty, longer than 100 characters, or holds characters that cannot be seen.
    """
    if not name.strip() or name != name.strip() or len(name) > 100 or not name.isprintable():
        raise InputError(f"{what} name {name[:100]!r} is not allowed",
                         fix="give 1 to 100 visible characters, no space at either end")
    return name
