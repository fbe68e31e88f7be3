"""Which models the workshop has seen, and which one a name that people ask for stands for; `/v1/models` shows both."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from bottega.core.errors import InputError, NotFoundError, suggest
from bottega.workshop import audit
from bottega.workshop.schema import AliasRow, ModelRow
from bottega.workshop.store import Store

_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class ModelInfo:
    """A model folder as it was last seen.

    Attributes:
        answers: whether it answers conversations, rather than only continue text.
        meta: more about it, as given.
        registered: when it was first seen; `seen` is the last time.
    """

    name: str
    digest: str
    path: Path
    family: str
    objective: str
    answers: bool
    meta: dict[str, Any]
    registered: datetime
    seen: datetime


@dataclass(frozen=True)
class AliasInfo:
    """What a name stands for, since when, and who said so."""

    name: str
    model: str
    model_digest: str
    changed: datetime
    changed_by: str


def register(store: Store, *, name: str, digest: str, path: Path, family: str, objective: str, answers: bool,
             meta: dict[str, Any]) -> None:
    """Note a model, or that it was seen again; the newest digest of a name is the one that `model` returns."""
    now = datetime.now(UTC)
    with store.write() as session:
        row = session.get(ModelRow, (name, digest))
        if row is None:
            row = ModelRow(name=name, digest=digest, registered=now)
            session.add(row)
        row.path, row.family, row.objective, row.answers = str(path), family, objective, answers
        row.meta, row.seen = meta, now


def models(store: Store) -> list[ModelInfo]:
    """Return each name's newest model, sorted by name."""
    with store.read() as session:
        newest = {row.name: row for row in session.scalars(select(ModelRow).order_by(ModelRow.seen))}
        return [_model(newest[name]) for name in sorted(newest)]


def model(store: Store, name_or_digest: str) -> ModelInfo:
    """Return a model by name (its newest) or by digest.

    Raises:
        NotFoundError: there is none; the message names the nearest.
    """
    with store.read() as session:
        row = session.scalars(select(ModelRow).where(
            or_(ModelRow.name == name_or_digest, ModelRow.digest == name_or_digest))
            .order_by((ModelRow.name == name_or_digest).desc(), ModelRow.seen.desc()).limit(1)).first()
        if row is None:
            raise _unknown(session, name_or_digest)
        return _model(row)


def aliases(store: Store) -> dict[str, AliasInfo]:
    """Return all aliases by name."""
    with store.read() as session:
        return {row.name: _alias(row) for row in session.scalars(select(AliasRow).order_by(AliasRow.name))}


def alias(session: Session, name: str) -> AliasInfo | None:
    """Return what a name stands for, as seen by a transaction; None when it is no alias."""
    row = session.get(AliasRow, name)
    return None if row is None else _alias(row)


def point(store: Store, alias: str, model_name: str, model_digest: str, *, actor: str, reason: str) -> None:
    """Let an alias stand for a registered model from now on; the audit keeps what it stood for before.

    Raises:
        InputError: the alias is not allowed as a name.
        NotFoundError: this model is not registered.
    """
    with store.write() as session:
        move(session, alias, model_name, model_digest, actor=actor, reason=reason)


def move(session: Session, alias: str, model_name: str, model_digest: str, *, actor: str, reason: str) -> None:
    """Do what `point` does inside the caller's transaction, from `store.write()`."""
    if not _ALIAS.fullmatch(alias):
        raise InputError(f"the alias {alias[:100]!r} is not allowed",
                         fix="use letters, digits, dots, dashes and underscores, at most 100")
    if session.get(ModelRow, (model_name, model_digest)) is None:
        raise _unknown(session, model_name)
    row = session.get(AliasRow, alias)
    if row is not None and (row.model, row.model_digest) == (model_name, model_digest):
        return
    before = {"model": row.model, "model_digest": row.model_digest} if row else None
    session.merge(AliasRow(name=alias, model=model_name, model_digest=model_digest, changed=datetime.now(UTC),
                           changed_by=actor))
    audit.append(session, actor=actor, action="alias", subject=alias, detail={
        "before": before, "after": {"model": model_name, "model_digest": model_digest}, "reason": reason})


def history(store: Store, alias: str, limit: int = 100) -> list[audit.Event]:
    """Return how an alias moved, newest first: `detail` has `before`, `after` and `reason`."""
    return audit.events(store, limit=limit, action="alias", subject=alias)


def _unknown(session: Session, name: str) -> NotFoundError:
    known = session.scalars(select(ModelRow.name).distinct()).all()
    return NotFoundError(f"the model '{name[:100]}' is not registered", fix=suggest(name[:100], known))


def _alias(row: AliasRow) -> AliasInfo:
    return AliasInfo(row.name, row.model, row.model_digest, row.changed, row.changed_by)


def _model(row: ModelRow) -> ModelInfo:
    return ModelInfo(row.name, row.digest, Path(row.path), row.family, row.objective, row.answers, row.meta,
                     row.registered, row.seen)
