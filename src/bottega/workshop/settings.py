"""What an administrator sets for the whole workshop, kept in its store: how long content stays, what the guard does."""

from __future__ import annotations

import hashlib
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
        changed = {row.name: row.value for row in session.scalars(select(SettingRow))}
    return {**Settings().model_dump(), **changed}


def put(store: Store, name: str, value: Any, actor: str) -> None:
    """Change one setting; the audit keeps the value before and after, of blocked strings only digests.

    Raises:
        InputError: there is no such setting, or the value is not allowed.
    """
    checked = getattr(validate(Settings, {name: value}, where=f"setting {name}", error=InputError), name)
    if name == "guard":
        validate(Policy, checked, where="setting guard", error=InputError)
    with store.write() as session:
        before = _get(session, name)
        if before == checked:
            return
        session.merge(SettingRow(name=name, value=checked, changed=datetime.now(UTC), changed_by=actor))
        audit.append(session, actor=actor, action="setting", subject=name, detail={
            "before": _without_strings(before), "after": _without_strings(checked)})


def retention(session: Session) -> int:
    """Return `retention_days` as seen by a transaction."""
    return int(_get(session, "retention_days"))


def _without_strings(value: Any) -> Any:
    """Return a value for the audit: texts that must never be shown stand there as the start of their SHA-256."""
    if not isinstance(value, dict) or "blocked_strings" not in value:
        return value
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
               for text in value["blocked_strings"]]
    return {**value, "blocked_strings": digests}


def _get(session: Session, name: str) -> Any:
    if name not in Settings.model_fields:
        raise InputError(f"there is no setting '{name}'", fix=suggest(name, Settings.model_fields))
    row = session.get(SettingRow, name)
    return getattr(Settings(), name) if row is None else row.value
