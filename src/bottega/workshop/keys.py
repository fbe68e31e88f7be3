"""API keys: `bottega keys create NAME` shows a secret once; the store keeps its SHA-256 only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import or_, select, update

from bottega.core.errors import BottegaError, InputError, NotFoundError
from bottega.workshop import audit
from bottega.workshop.names import check_name, new_id
from bottega.workshop.schema import KeyRow
from bottega.workshop.store import Store

COOKIE = "bottega_key"  # in which a browser keeps its key
_MARK = "btg-"
_PREFIX = len(_MARK) + 6  # characters of a secret that are shown afterwards
_LONGEST_LIFE = 36500  # days
_NOTED = timedelta(minutes=1)  # the last use is written at most this often


@dataclass(frozen=True)
class KeyInfo:
    """A key without its secret. `active` is false once revoked or expired."""

    id: str
    name: str
    prefix: str
    created: datetime
    created_by: str
    expires: datetime | None
    last_used: datetime | None
    revoked: datetime | None

    @property
    def active(self) -> bool:
        """Whether it opens the door now."""
        return self.revoked is None and (self.expires is None or datetime.now(UTC) < self.expires)


def create(store: Store, name: str, *, days: int | None = None, actor: str) -> tuple[KeyInfo, str]:
    """Make a key and return it with its secret, which cannot be shown again.

    Args:
        store: the workshop's store.
        name: who or what uses it.
        days: how long it is valid; None for ever.
        actor: who makes it.

    Raises:
        InputError: the name or the days are not allowed.
    """
    check_name("key", name)
    if days is not None and not 1 <= days <= _LONGEST_LIFE:
        raise InputError(f"a key for {days} days is not allowed", fix=f"give 1 to {_LONGEST_LIFE}, or none for ever")
    secret = _MARK + secrets.token_urlsafe(32)
    now = datetime.now(UTC)
    row = KeyRow(id=new_id("key"), name=name, prefix=secret[:_PREFIX], digest=_digest(secret), created=now,
                 created_by=actor, expires=None if days is None else now + timedelta(days=days), last_used=None,
                 revoked=None)
    with store.write() as session:
        session.add(row)
        audit.append(session, actor=actor, action="key.create", subject=row.id,
                     detail={"name": name, "prefix": row.prefix, "days": days})
        return _info(row), secret


def check(store: Store, secret: str) -> KeyInfo | None:
    """Return the key of a secret, or None when it is unknown, revoked or expired.

    The secret is looked up by its SHA-256, so that timing says nothing about how much of a guess is right.
    """
    if not secret.startswith(_MARK) or len(secret) > 200:
        return None
    digest, now = _digest(secret), datetime.now(UTC)
    with store.read() as session:
        row = session.scalars(select(KeyRow).where(KeyRow.digest == digest)).first()
        if row is None or not hmac.compare_digest(row.digest, digest):
            return None
        info = _info(row)
    if not info.active:
        return None
    if info.last_used is None or now - info.last_used >= _NOTED:
        # a store that is busy, full or read-only costs the note, never a valid key its entrance
        with suppress(BottegaError), store.write() as session:
            session.execute(update(KeyRow).where(KeyRow.id == info.id).values(last_used=now))
    return info


def revoke(store: Store, id_or_prefix: str, actor: str) -> KeyInfo:
    """Close a key for ever and return it; closing it again changes nothing.

    Raises:
        NotFoundError: there is no such key.
        InputError: several keys begin like this.
    """
    with store.write() as session:
        found = session.scalars(select(KeyRow).where(
            or_(KeyRow.id == id_or_prefix, KeyRow.prefix == id_or_prefix))).all()
        if not found:  # never repeat what may be a whole secret
            raise NotFoundError(f"there is no key '{id_or_prefix[:_PREFIX]}'", fix="see 'bottega keys list'")
        if len(found) > 1:
            raise InputError(f"several keys begin with '{id_or_prefix}'", fix="give the id: see 'bottega keys list'")
        row = found[0]
        if row.revoked is None:
            row.revoked = datetime.now(UTC)
            audit.append(session, actor=actor, action="key.revoke", subject=row.id,
                         detail={"name": row.name, "prefix": row.prefix})
        return _info(row)


def listed(store: Store) -> list[KeyInfo]:
    """Return all keys, newest first, closed ones too."""
    with store.read() as session:
        return [_info(row) for row in session.scalars(select(KeyRow).order_by(KeyRow.created.desc(), KeyRow.id))]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _info(row: KeyRow) -> KeyInfo:
    return KeyInfo(row.id, row.name, row.prefix, row.created, row.created_by, row.expires, row.last_used, row.revoked)
