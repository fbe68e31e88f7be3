"""What an administrator sets for the whole workshop, kept in its store; `bottega settings` shows and changes it.

Beside the settings lies a secret of the workshop, made on first use and never shown: with it, names and words are
turned into digests that nobody undoes by guessing.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from bottega.core.errors import InputError, suggest
from bottega.core.validate import Strict, validate
from bottega.guard.policy import Policy
from bottega.workshop import audit
from bottega.workshop.schema import SettingRow
from bottega.workshop.store import Store

_SECRET = "secret"  # the row that holds it; no setting has this name


class Settings(Strict):
    """All settings with their defaults.

    Attributes:
        retention_days: days that content (prompts, outputs, steps, words of feedback) is kept; -1 for ever, 0 never.
        guard: what stands in the guard's policy instead of its defaults (see `guard.policy.Policy`).
    """

    retention_days: int = Field(default=-1, ge=-1, le=36500)
    guard: dict[str, Any] = {}


def get(store: Store, name: str) -> Any:
    """Return one setting.

    Raises:
        InputError: there is no such setting.
    """
    with store.read() as session:
        return _get(session, name)


def all(store: Store) -> dict[str, Any]:
    """Return every setting by name."""
    with store.read() as session:
        changed = {row.name: row.value for row in session.scalars(
            select(SettingRow).where(SettingRow.name.in_(list(Settings.model_fields))))}
    return {**Settings().model_dump(), **changed}


def put(store: Store, name: str, value: Any, actor: str) -> None:
    """Change one setting (see `put_all`)."""
    put_all(store, {name: value}, actor)


def put_all(store: Store, values: Mapping[str, Any], actor: str) -> None:
    """Change settings, all or none; the audit keeps each value before and after, of blocked strings only digests.

    Raises:
        InputError: there is no such setting, or a value is not allowed.
    """
    checked = {name: getattr(validate(Settings, {name: value}, where=f"setting {name}", error=InputError), name)
               for name, value in values.items()}
    if "guard" in checked:
        validate(Policy, checked["guard"], where="setting guard", error=InputError)
    with store.write() as session:
        for name, after in checked.items():
            before = _get(session, name)
            if before == after:
                continue
            session.merge(SettingRow(name=name, value=after, changed=datetime.now(UTC), changed_by=actor))
            audit.append(session, actor=actor, action="setting", subject=name, detail={
                "before": _without_strings(session, before), "after": _without_strings(session, after)})


def retention(session: Session) -> int:
    """Return `retention_days` as seen by a transaction."""
    return int(_get(session, "retention_days"))


def secret(store: Store) -> bytes:
    """Return the workshop's secret of 32 random bytes, the same for every process that uses the store."""
    with store.read() as session:
        row = session.get(SettingRow, _SECRET)
        if row is not None:
            return bytes.fromhex(row.value)
    with store.write() as session:
        return _secret(session)


def keyed(key: bytes, text: str) -> str:
    """Return 16 hex digits that tell texts apart and say nothing about them to whoever lacks the key."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=key, digest_size=8).hexdigest()


def _secret(session: Session) -> bytes:
    """Return the secret inside a transaction that may write."""
    row = session.get(SettingRow, _SECRET)
    if row is None:
        row = SettingRow(name=_SECRET, value=secrets.token_hex(32), changed=datetime.now(UTC), changed_by="bottega")
        session.add(row)
    return bytes.fromhex(row.value)


def _without_strings(session: Session, value: Any) -> Any:
    """Return a value for the audit: texts that must never be shown stand there as keyed digests."""
    if not isinstance(value, dict) or "blocked_strings" not in value:
        return value
    key = _secret(session)
    return {**value, "blocked_strings": [keyed(key, text) for text in value["blocked_strings"]]}


def _get(session: Session, name: str) -> Any:
    if name not in Settings.model_fields:
        raise InputError(f"there is no setting '{name}'", fix=suggest(name, Settings.model_fields))
    row = session.get(SettingRow, name)
    return getattr(Settings(), name) if row is None else row.value
