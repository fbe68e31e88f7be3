"""Everything that was made: the request, its outputs, the glass box, and the verdicts of the guard, until forgotten.

`record` keeps a finished work in one transaction with its audit event; `forget` applies the retention setting.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import literal, or_, select, update
from sqlalchemy.orm import Session, selectinload

from bottega.core.errors import InputError, NotFoundError
from bottega.workshop import audit, settings
from bottega.workshop.schema import FeedbackRow, Json, OutputRow, WorkRow
from bottega.workshop.store import Store

Status = Literal["done", "cancelled", "failed", "refused"]
TEXT = "text/plain"  # media type of outputs that are no files
_AT_ONCE = 200  # works that are forgotten in one transaction
_CONTENT = ("prompt", "messages", "suffix", "toward", "image", "mask")  # keys of a request
_CONTENT_CONTROLS = ("stop", "format", "logit_bias", "negative_prompt", "conditions", "balance", "fair")  # words


@dataclass(frozen=True)
class WorkOutput:
    """One output. `steps` is None when none were recorded, are forgotten or were not asked for.

    Attributes:
        media_type: `text/plain`, or that of the file: then `text` is empty, and None once the file is forgotten.
        file: what was delivered, to be recorded; `file` below reads it back.
    """

    id: str
    index: int
    text: str | None
    finish: str
    score: float
    tokens: list[int]
    steps: list[dict[str, Any]] | None = None
    media_type: str = TEXT
    file: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Work:
    """Everything about one request that came to an end.

    Attributes:
        door: where it came in: `api`, `studio`, `cli` or `job`.
        principal: who asked.
        alias: the name asked for; `model` and `model_digest` say what it stood for.
        request: the request as plain JSON, the seed resolved; without content once that is forgotten.
        lineage: birth certificate of the outputs; names and digests only, no content.
        verdicts: of the guard; never the words that were found.
    """

    id: str
    created: datetime
    door: str
    principal: str
    alias: str
    model: str
    model_digest: str
    request: dict[str, Any]
    status: Status
    error: str = ""
    prompt_tokens: int = 0
    new_tokens: int = 0
    seed: int = 0
    seconds: float = 0.0
    first_token_seconds: float | None = None
    lineage: dict[str, Any] = field(default_factory=dict)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[WorkOutput] = field(default_factory=list)


def record(store: Store, work: Work) -> None:
    """Keep a work; durable when this returns. With a retention of 0 days its content is never written.

    Raises:
        InputError: a work of this id is there already.
    """
    steps = {output.id: _packed(output.steps) for output in work.outputs}  # compressed before it is our turn to write
    with store.write() as session:
        if session.get(WorkRow, work.id) is not None:
            raise InputError(f"work {work.id} is recorded already", fix="give each work an id of its own")
        kept = settings.retention(session) != 0
        session.add(WorkRow(
            id=work.id, created=work.created, door=work.door, principal=work.principal, alias=work.alias,
            model=work.model, model_digest=work.model_digest, kept=kept, status=work.status,
            request=work.request if kept else _without_content(work.request), error=work.error if kept else "",
            prompt_tokens=work.prompt_tokens, new_tokens=work.new_tokens, seed=work.seed, seconds=work.seconds,
            first_token_seconds=work.first_token_seconds,
            lineage=work.lineage if kept else _without_content(work.lineage), verdicts=work.verdicts,
            outputs=[OutputRow(id=output.id, place=output.index, finish=output.finish, score=output.score,
                               text=output.text if kept else None, tokens=output.tokens if kept else [],
                               steps=steps[output.id] if kept else None, media_type=output.media_type,
                               file=output.file if kept else None) for output in work.outputs]))
        audit.append(session, actor=work.principal, action="request", subject=work.id, detail={
            "door": work.door, "alias": work.alias, "model": work.model, "model_digest": work.model_digest,
            "status": work.status, "outputs": len(work.outputs), "prompt_tokens": work.prompt_tokens,
            "new_tokens": work.new_tokens, "verdicts": work.verdicts})


def work(store: Store, id: str) -> Work:
    """Return a work with its steps.

    Raises:
        NotFoundError: there is none of this id.
    """
    with store.read() as session:
        row = session.get(WorkRow, id)
        if row is None:
            raise NotFoundError(f"there is no work '{id[:100]}'", fix="check the id; the answer to a request names it")
        return _work(row, steps=True)


def output(store: Store, output_id: str) -> tuple[Work, WorkOutput]:
    """Return an output with its steps, and the work it belongs to.

    Raises:
        NotFoundError: there is none of this id.
    """
    with store.read() as session:
        row = find_output(session, output_id)
        found = _work(row.parent, steps=True)
    return found, next(entry for entry in found.outputs if entry.id == output_id)


def file(store: Store, output_id: str) -> tuple[str, bytes]:
    """Return the media type and the bytes of an output that is a file.

    Raises:
        NotFoundError: there is no such output, it is a text, or its file is forgotten.
    """
    with store.read() as session:
        row = find_output(session, output_id)
        media_type, data = row.media_type, row.file
    if data is None:
        raise NotFoundError(f"output '{output_id[:100]}' has no file", fix="it is a text" if media_type == TEXT
                            else "it was forgotten, as the workshop's retention setting says; make it again")
    return media_type, data


def find_output(session: Session, output_id: str) -> OutputRow:
    """Return the row of an output.

    Raises:
        NotFoundError: there is none of this id.
    """
    row = session.get(OutputRow, output_id)
    if row is None:
        raise NotFoundError(f"there is no output '{output_id[:100]}'",
                            fix="give the id of a work, a dot and the output's number, as in bt-….0")
    return row


def works(store: Store, *, limit: int = 50, before: datetime | None = None, alias: str | None = None) -> list[Work]:
    """Return works without their steps, newest first.

    Args:
        store: the workshop's store.
        limit: at most this many.
        before: only works created earlier.
        alias: only works asked for by this name.

    Raises:
        InputError: `limit` is below 1.
    """
    query = select(WorkRow).order_by(WorkRow.created.desc(), WorkRow.id.desc()).limit(audit.bounded(limit))
    if before is not None:
        query = query.where(WorkRow.created < before)
    if alias is not None:
        query = query.where(WorkRow.alias == alias)
    with store.read() as session:
        return [_work(row, steps=False) for row in session.scalars(query.options(selectinload(WorkRow.outputs)))]


def forget(store: Store, now: datetime) -> int:
    """Delete content older than the retention setting and return the number of works that lost theirs.

    Gone are prompts, messages, controls that hold words, outputs, tokens, steps, error messages, and the words and
    reasons of feedback. Who asked which model when, with which numbers and verdicts, stays. SQLite overwrites the bytes
    on the disk; on PostgreSQL its vacuum does, in its own time.
    """
    total = 0
    while number := _forget_some(store, now):
        total += number
    store.compact()
    return total


def made_from(request: dict[str, Any]) -> dict[str, Any]:
    """Return what the outputs of a request answer: prompt, messages, suffix, pictures; empty once forgotten."""
    return {key: request[key] for key in _CONTENT if request.get(key) is not None}


def _forget_some(store: Store, now: datetime) -> int:
    """Forget the oldest works in one transaction, few enough that other writers need not wait."""
    with store.write() as session:
        days = settings.retention(session)
        if days < 0:
            return 0
        limit = now - timedelta(days=days)
        old = session.scalars(select(WorkRow).where(WorkRow.kept, WorkRow.created <= limit)
                              .order_by(WorkRow.created).limit(_AT_ONCE)).all()
        for row in old:
            row.request, row.error, row.kept = _without_content(row.request), "", False
            row.lineage = _without_content(row.lineage)  # its controls are the request's
        session.execute(update(OutputRow).where(OutputRow.work.in_([row.id for row in old]))
                        .values(text=None, tokens=[], steps=None, file=None),
                        execution_options={"synchronize_session": False})
        said = or_(FeedbackRow.text.is_not(None), FeedbackRow.reasons != literal([], Json),
                   FeedbackRow.aspect.is_not(None), FeedbackRow.span.is_not(None))
        nothing: dict[str, Any] = {"text": None, "reasons": [], "aspect": None, "span": None}
        session.execute(update(FeedbackRow).where(FeedbackRow.created <= limit, said).values(nothing),
                        execution_options={"synchronize_session": False})
        if old:
            audit.append(session, actor="retention", action="forget", subject="works",
                         detail={"works": len(old), "older_than": limit.isoformat()})
        return len(old)


def _without_content(request: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in request.items() if key not in _CONTENT}
    if isinstance(kept.get("controls"), dict):
        kept["controls"] = {key: value for key, value in kept["controls"].items() if key not in _CONTENT_CONTROLS}
    return kept


def _packed(steps: list[dict[str, Any]] | None) -> bytes | None:
    return None if steps is None else zlib.compress(json.dumps(steps, separators=(",", ":")).encode(), 6)


def _work(row: WorkRow, *, steps: bool) -> Work:
    return Work(
        id=row.id, created=row.created, door=row.door, principal=row.principal, alias=row.alias, model=row.model,
        model_digest=row.model_digest, request=row.request, status=row.status,  # type: ignore[arg-type]
        error=row.error, prompt_tokens=row.prompt_tokens, new_tokens=row.new_tokens, seed=row.seed,
        seconds=row.seconds, first_token_seconds=row.first_token_seconds, lineage=row.lineage, verdicts=row.verdicts,
        outputs=[WorkOutput(output.id, output.place, output.text, output.finish, output.score, output.tokens,
                            json.loads(zlib.decompress(output.steps)) if steps and output.steps is not None else None,
                            output.media_type)
                 for output in row.outputs])
