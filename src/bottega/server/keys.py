"""Who asks: a key as `Authorization: Bearer btg-…`, or in the studio's cookie. `bottega keys create NAME` makes one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

from bottega.server.errors import ApiError
from bottega.workshop import keys
from bottega.workshop.store import Store

OPEN = ("/healthz", "/login", "/studio/login")  # paths that need no key
PICTURES, TABLES = "/v1/images/files/", "/v1/tables/files/"  # links carry a signature instead: see image_links.py
_ASSETS = "/studio/static/"


def is_open(path: str) -> bool:
    """Return whether a path needs no key: health, the login page and what it is drawn with, signed links."""
    return path in OPEN or path.startswith((_ASSETS, PICTURES, TABLES))


async def identify(store: Store, headers: Mapping[str, str]) -> str:
    """Return the name of the key that a request carries.

    Args:
        store: where the hashes of the keys are.
        headers: of the request, names in lower case.

    Raises:
        ApiError: 401, there is no key or it is not valid.
    """
    secret = _secret(headers)
    known = await asyncio.to_thread(keys.check, store, secret) if secret else None
    if known is None:
        problem = "this key is not known, has expired or was revoked" if secret else "a key is needed"
        raise ApiError(401, f"{problem}; send 'Authorization: Bearer btg-…' with a key that "
                       "'bottega keys create NAME' made", code="invalid_api_key",
                       headers={"www-authenticate": "Bearer"})
    return known.name


def _secret(headers: Mapping[str, str]) -> str:
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret.strip():
        return secret.strip()
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(keys.COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie else ""
