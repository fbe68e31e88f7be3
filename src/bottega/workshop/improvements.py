"""Challengers on their way from feedback to a decision; `bottega improve ALIAS` makes one and writes it here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from bottega.core.errors import InputError, NotFoundError, suggest
from bottega.workshop import audit
from bottega.workshop.names import new_id
from bottega.workshop.schema import ImprovementRow
from bottega.workshop.store import Store

Status = Literal["exporting", "training", "comparing", "waiting", "approved", "rejected", "failed"]
_DECIDED = ("approved", "rejected")
_CHANGEABLE = ("challenger", "challenger_digest", "status", "dataset", "comparison", "error", "decided_by", "reason")


@dataclass(frozen=True)
class Improvement:
    """A challenger for the model behind an alias.

    Attributes:
        dataset: digest, number of pairs and of held-out ones, once exported.
        comparison: how champion and challenger did, once compared.
        error: why it failed.
        decided_by, reason: who approved or rejected it, and why.
    """

    id: str
    created: datetime
    updated: datetime
    alias: str
    champion: str
    champion_digest: str
    challenger: str
    challenger_digest: str | None
    status: Status
    dataset: dict[str, Any]
    comparison: dict[str, Any] | None
    error: str
    decided_by: str
    reason: str


def create(store: Store, *, alias: str, champion: str, champion_digest: str, challenger: str, actor: str,
           id: str | None = None) -> Improvement:
    """Begin an improvement in status `exporting`.

    Raises:
        InputError: the id is taken.
    """
    now = datetime.now(UTC)
    with store.write() as session:
        if id is not None and session.get(ImprovementRow, id) is not None:
            raise InputError(f"improvement {id} is there already", fix="go on with it, or leave the id out")
        row = ImprovementRow(id=id or new_id("im"), created=now, updated=now, alias=alias, champion=champion,
                             champion_digest=champion_digest, challenger=challenger, challenger_digest=None,
                             status="exporting", dataset={}, comparison=None, error="", decided_by="", reason="")
        session.add(row)
        audit.append(session, actor=actor, action="improvement.create", subject=row.id, detail={
            "alias": alias, "champion": champion, "champion_digest": champion_digest, "challenger": challenger})
        return _improvement(row)


def update(store: Store, id: str, *, actor: str, **changes: Any) -> Improvement:
    """Change fields and return the whole; a change of status is audited.

    Of two people who decide at the same time one succeeds: what is approved or rejected cannot change again.

    Args:
        store: the workshop's store.
        id: of the improvement.
        actor: who or what changes it.
        **changes: `challenger`, `challenger_digest`, `status`, `dataset`, `comparison`, `error`, `decided_by`,
            `reason`.

    Raises:
        NotFoundError: there is no such improvement.
        InputError: a field or status is not known, or it is decided already.
    """
    with store.write() as session:
        return change(session, id, actor=actor, **changes)


def change(session: Session, id: str, *, actor: str, **changes: Any) -> Improvement:
    """Do what `update` does inside the caller's transaction, from `store.write()`."""
    for name in changes:
        if name not in _CHANGEABLE:
            raise InputError(f"an improvement's '{name}' cannot be changed", fix=suggest(name, _CHANGEABLE))
    status = changes.get("status")
    if status is not None and status not in get_args(Status):
        raise InputError(f"there is no status '{status}'", fix=suggest(str(status), get_args(Status)))
    row = _row(session, id)
    if row.status in _DECIDED:
        raise InputError(f"improvement {id} is {row.status} already, by {row.decided_by or 'someone'}",
                         fix="start a new one")
    before = row.status
    for name, value in changes.items():
        setattr(row, name, value)
    row.updated = datetime.now(UTC)
    if row.status != before:
        audit.append(session, actor=actor, action=f"improvement.{row.status}", subject=id, detail={
            "alias": row.alias, "before": before, "challenger": row.challenger,
            "challenger_digest": row.challenger_digest, "reason": row.reason})
    return _improvement(row)


def get(store: Store, id: str) -> Improvement:
    """Return an improvement.

    Raises:
        NotFoundError: there is none of this id.
    """
    with store.read() as session:
        return _improvement(_row(session, id))


def listed(store: Store, alias: str | None = None) -> list[Improvement]:
    """Return improvements, newest first, of one alias or of all."""
    query = select(ImprovementRow).order_by(ImprovementRow.created.desc(), ImprovementRow.id)
    if alias is not None:
        query = query.where(ImprovementRow.alias == alias)
    with store.read() as session:
        return [_improvement(row) for row in session.scalars(query)]


def _row(session: Session, id: str) -> ImprovementRow:
    row = session.get(ImprovementRow, id)
    if row is None:
        raise NotFoundError(f"there is no improvement '{id[:100]}'", fix="see 'bottega improve --list'")
    return row


def _improvement(row: ImprovementRow) -> Improvement:
    return Improvement(row.id, row.created, row.updated, row.alias, row.champion, row.champion_digest, row.challenger,
                       row.challenger_digest, row.status, row.dataset, row.comparison,  # type: ignore[arg-type]
                       row.error, row.decided_by, row.reason)
