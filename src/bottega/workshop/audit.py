"""What was done, by whom: a chain in which each event's hash covers the one before; `bottega audit` lists it.

Never raw content: an event says which work, which key, which check, not what was written.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from bottega.core.errors import CorruptError, InputError
from bottega.core.files import canonical_json
from bottega.workshop.schema import AuditHeadRow, AuditRow
from bottega.workshop.store import Store

_START = "0" * 64  # what stands before the first event
_LONGEST = 1000  # characters of an actor, an action or a subject


@dataclass(frozen=True)
class Event:
    """One line of the audit. `hash` is the SHA-256 of the hash before and the canonical JSON of the rest."""

    sequence: int
    created: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    hash: str


def append(session: Session, *, actor: str, action: str, subject: str, detail: dict[str, Any]) -> None:
    """Add an event inside the caller's transaction, from `store.write()`: both become durable or neither.

    Raises:
        InputError: a name is too long, or the detail is not plain JSON.
    """
    for name, value in (("actor", actor), ("action", action), ("subject", subject)):
        if len(value) > _LONGEST:
            raise InputError(f"the audit's {name} '{value[:40]}…' has {len(value)} characters",
                             fix=f"at most {_LONGEST}")
    try:
        text = canonical_json(detail)
    except (TypeError, ValueError) as error:
        raise InputError(f"the detail of '{action}' cannot be written to the audit: {error}",
                         fix="give plain numbers, texts, lists and dictionaries") from error
    head = session.get(AuditHeadRow, 1)
    if head is None:
        head = AuditHeadRow(id=1, sequence=0, hash=_START)
        session.add(head)
    row = AuditRow(sequence=head.sequence + 1, created=datetime.now(UTC), actor=actor, action=action, subject=subject,
                   detail=text)
    row.hash = _hash(row, head.hash)
    head.sequence, head.hash = row.sequence, row.hash
    session.add(row)
    session.flush()


def events(store: Store, *, limit: int = 100, before: int | None = None, action: str | None = None,
           subject: str | None = None) -> list[Event]:
    """Return events, newest first.

    Args:
        store: the workshop's store.
        limit: at most this many.
        before: only events with a lower sequence number.
        action: only this action.
        subject: only about this subject.

    Raises:
        InputError: `limit` is below 1.
    """
    query = select(AuditRow).order_by(AuditRow.sequence.desc()).limit(bounded(limit))
    if before is not None:
        query = query.where(AuditRow.sequence < max(0, min(before, 2**63 - 1)))
    if action is not None:
        query = query.where(AuditRow.action == action)
    if subject is not None:
        query = query.where(AuditRow.subject == subject)
    with store.read() as session:
        return [_event(row) for row in session.scalars(query)]


def verify(store: Store) -> int:
    """Recompute the whole chain and return the number of events.

    Raises:
        CorruptError: an event was changed, removed or put in; the message names the first that does not fit.
    """
    count, before = 0, _START
    with store.read() as session:
        for row in session.scalars(select(AuditRow).order_by(AuditRow.sequence).execution_options(yield_per=1000)):
            count += 1
            if row.sequence != count:
                raise _broken(count, "is missing")
            if row.hash != _hash(row, before):
                raise _broken(count, "does not match its hash")
            before = row.hash
        head = session.get(AuditHeadRow, 1)
    if (head.sequence, head.hash) != (count, before) if head else count > 0:
        raise _broken(count + 1 if head and head.sequence > count else count, "does not fit the chain's recorded end")
    return count


def bounded(limit: int) -> int:
    """Return a limit that both databases understand.

    Raises:
        InputError: it is below 1.
    """
    if limit < 1:
        raise InputError(f"limit {limit} is not allowed", fix="give 1 or more")
    return min(limit, 2**31 - 1)


def _hash(row: AuditRow, before: str) -> str:
    event = [row.sequence, row.created.astimezone(UTC).isoformat(timespec="microseconds"), row.actor, row.action,
             row.subject, row.detail]
    return hashlib.sha256(f"{before}{canonical_json(event)}".encode("utf-8", "surrogatepass")).hexdigest()


def _event(row: AuditRow) -> Event:
    return Event(row.sequence, row.created, row.actor, row.action, row.subject, json.loads(row.detail), row.hash)


def _broken(sequence: int, what: str) -> CorruptError:
    return CorruptError(f"event {sequence} of the audit {what}: the log was changed outside Bottega",
                        fix="compare with a copy of the database from before")
