"""Which addresses a browser may reach the server under; against DNS rebinding and forged requests of other sites."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_READING = ("GET", "HEAD", "OPTIONS")


def names(url: str, public: Sequence[str]) -> list[str]:
    """Return the names that requests may carry to a server on a loopback address.

    Args:
        url: where the server listens.
        public: names under which a proxy passes requests on.
    """
    return [*LOOPBACK, *(_name(name) for name in (urlsplit(url).netloc, *public))]


def refusal(method: str, host: str, origin: str | None, allowed: Sequence[str]) -> str | None:
    """Return why a request is refused, or None.

    Args:
        method: of the request.
        host: the Host header.
        origin: the Origin header, which browsers send with whatever changes something.
        allowed: names in lower case without ports; `*` allows all.
    """
    if "*" not in allowed and _name(host) not in allowed:
        return f"requests for the host {host[:80]!r} are not answered here; use {allowed[0]}"
    if method not in _READING and origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return f"a page of {origin[:80]!r} must not change anything here"
    return None


def _name(host: str) -> str:
    """Return a Host header without its port."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()
