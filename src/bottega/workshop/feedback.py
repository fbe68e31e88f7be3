"""What people say about outputs: thumbs, scores, choices, edits, comments; `POST /v1/feedback` and the studio add them.

Choices and edits become preference pairs, the next training set. A rater's newest word about the same thing counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, aliased

from bottega.core.errors import InputError
from bottega.core.validate import Strict
from bottega.workshop import audit, settings
from bottega.workshop.names import new_id
from bottega.workshop.schema import FeedbackRow, OutputRow, WorkRow
from bottega.workshop.store import Store
from bottega.workshop.works import TEXT, find_output, made_from

Kind = Literal["thumb", "score", "choice", "edit", "comment"]
_WANTED = {"thumb": "value", "score": "score", "choice": "rejected", "edit": "text", "comment": "text"}
_LONGEST = {"edit": 200_000, "comment": 10_000}  # characters
_REASONS, _LONGEST_REASON, _LONGEST_ASPECT = 20, 200, 100


class Feedback(Strict):
    """One person's word about an output.

    Attributes:
        kind: `thumb` (value 1 or -1), `score` (a number on a stated scale), `choice` (output over rejected), `edit`
            (text is the corrected answer) or `comment` (text is the words; with a span or an aspect it is a critique).
        output: id of the output; for a choice, of the preferred one.
        rejected: for a choice, id of the other output.
        value: for a thumb, 1 or -1.
        score: for a score, a number within `scale`.
        scale: for a score, its lowest and highest number: [1, 5].
        text: for an edit or a comment.
        span: for a comment, the first character of the output it is about and the one after the last.
        aspect: for a score or a comment, what it is about, such as "tone".
        reasons: short labels, such as "wrong fact"; a workshop that keeps no content drops them.
        consent: whether it may be used for training.
    """

    kind: Kind
    output: str
    rejected: str | None = None
    value: int | None = None
    score: float | None = None
    scale: tuple[float, float] | None = None
    text: str | None = None
    span: tuple[int, int] | None = None
    aspect: str | None = None
    reasons: list[str] = []
    consent: bool = True


@dataclass(frozen=True)
class Pair:
    """A preferred and a rejected answer to the same conversation."""

    messages: list[dict[str, str]]
    chosen: str
    rejected: str
    feedback_id: str
    rater: str
    created: datetime
    model_digest: str
    source: Literal["choice", "edit"]
    consent: bool


@dataclass(frozen=True)
class Rated:
    """One answer that somebody found good or bad."""

    messages: list[dict[str, str]]
    answer: str
    good: bool
    rater: str
    model_digest: str
    consent: bool


def add(store: Store, feedback: Feedback, rater: str) -> str:
    """Keep one feedback and return its id; durable when this returns.

    Raises:
        NotFoundError: an output is not in the store.
        InputError: a field is missing, too much or too long, a choice is not between two outputs for the same prompt,
            an edit is not of a text, or words were given although the workshop keeps none.
    """
    with store.write() as session:
        return keep(session, feedback, rater)


def keep(session: Session, feedback: Feedback, rater: str) -> str:
    """Keep one feedback within a transaction and return its id; see `add`."""
    _check(feedback)
    _check_outputs(session, feedback)
    keeps = settings.retention(session) != 0
    if feedback.text is not None and not keeps:
        raise InputError(f"this workshop keeps no content, so it cannot keep the words of this {feedback.kind}",
                         fix="give a thumb, or ask the administrator for 'bottega settings retention_days=-1'")
    if feedback.aspect is not None and not keeps:
        raise InputError("this workshop keeps no content, so it cannot keep an aspect",
                         fix="score the whole output")
    id = new_id("fb")
    if feedback.kind != "comment":
        session.execute(_same(feedback, rater).values(replaced_by=id))
    session.add(FeedbackRow(id=id, created=datetime.now(UTC), rater=rater, replaced_by=None,
                            **{**feedback.model_dump(mode="json"), "reasons": feedback.reasons if keeps else []}))
    audit.append(session, actor=rater, action="feedback", subject=id, detail={
        "kind": feedback.kind, "output": feedback.output, "rejected": feedback.rejected, "value": feedback.value,
        "consent": feedback.consent, **({"score": feedback.score, "scale": feedback.scale}
                                        if feedback.kind == "score" else {})})
    return id


def take_back(session: Session, ids: Sequence[str], *, by: str) -> None:
    """Let feedback stand no more because its giver said something else, feedback `by`, about the same thing."""
    session.execute(update(FeedbackRow).where(FeedbackRow.id.in_(list(ids))).values(replaced_by=by))


def listed(store: Store, *, alias: str | None = None, kind: str | None = None, output: str | None = None,
           limit: int = 100) -> list[dict[str, Any]]:
    """Return feedback as plain values with the alias and model it is about, newest first.

    Args:
        store: the workshop's store.
        alias: only about works asked for by this name.
        kind: only of this kind.
        output: only about this output.
        limit: at most this many.

    Raises:
        InputError: `limit` is below 1.
    """
    query = (select(FeedbackRow, WorkRow.alias, WorkRow.model, WorkRow.model_digest)
             .join(OutputRow, FeedbackRow.output == OutputRow.id).join(WorkRow, OutputRow.work == WorkRow.id)
             .order_by(FeedbackRow.created.desc(), FeedbackRow.id.desc()).limit(audit.bounded(limit)))
    if alias is not None:
        query = query.where(WorkRow.alias == alias)
    if kind is not None:
        query = query.where(FeedbackRow.kind == kind)
    if output is not None:
        query = query.where(FeedbackRow.output == output)
    with store.read() as session:
        return [{"id": row.id, "created": row.created.isoformat(), "rater": row.rater, "kind": row.kind,
                 "output": row.output, "rejected": row.rejected, "value": row.value, "score": row.score,
                 "scale": row.scale, "text": row.text, "span": row.span, "aspect": row.aspect,
                 "reasons": row.reasons, "consent": row.consent, "replaced_by": row.replaced_by,
                 "alias": asked, "model": model, "model_digest": digest}
                for row, asked, model, digest in session.execute(query)]


def counts(store: Store, alias: str | None = None) -> dict[str, int]:
    """Return how many thumbs `up` and `down`, `score`, `choice`, `edit` and `comment` stand, without replaced ones."""
    query = select(FeedbackRow.kind, FeedbackRow.value, func.count()).where(
        FeedbackRow.replaced_by.is_(None)).group_by(FeedbackRow.kind, FeedbackRow.value)
    if alias is not None:
        query = (query.join(OutputRow, FeedbackRow.output == OutputRow.id)
                 .join(WorkRow, OutputRow.work == WorkRow.id).where(WorkRow.alias == alias))
    found = dict.fromkeys(("up", "down", "score", "choice", "edit", "comment"), 0)
    with store.read() as session:
        for kind, value, number in session.execute(query):
            found[("up" if value == 1 else "down") if kind == "thumb" else kind] += number
    return found


def pairs(store: Store, model_names: list[str] | tuple[str, ...] | None = None) -> list[Pair]:
    """Return the preferences that stand, oldest first: choices, and edits preferred over what they correct.

    Left out is what cannot teach: forgotten content, equal texts, filled gaps (text before and after), and pictures.

    Args:
        store: the workshop's store.
        model_names: only about outputs of these models.
    """
    good, bad, asked = aliased(OutputRow), aliased(OutputRow), aliased(WorkRow)
    query = (select(FeedbackRow, good.text, bad.text, asked.request, asked.model_digest)
             .join(good, FeedbackRow.output == good.id).join(asked, good.work == asked.id)
             .outerjoin(bad, FeedbackRow.rejected == bad.id)
             .where(FeedbackRow.kind.in_(("choice", "edit")), FeedbackRow.replaced_by.is_(None),
                    good.media_type == TEXT)
             .order_by(FeedbackRow.created, FeedbackRow.id))
    if model_names is not None:
        query = query.where(asked.model.in_(list(model_names)))
    found = []
    with store.read() as session:
        for row, text, other, request, digest in session.execute(query):
            chosen, rejected = (text, other) if row.kind == "choice" else (row.text, text)
            messages = _conversation(request)
            if messages and chosen is not None and rejected is not None and chosen != rejected:
                found.append(Pair(messages, chosen, rejected, row.id, row.rater, row.created, digest, row.kind,
                                  row.consent))
    return found


def rated(store: Store, model_names: Sequence[str] | None = None) -> list[Rated]:
    """Return the texts that thumbs and scores that stand say are good or bad, oldest first.

    A score is good above the middle of its scale and bad below it; one in the middle, or of an aspect, says neither.

    Args:
        store: the workshop's store.
        model_names: only about outputs of these models.
    """
    query = (select(FeedbackRow, OutputRow.text, WorkRow.request, WorkRow.model_digest)
             .join(OutputRow, FeedbackRow.output == OutputRow.id).join(WorkRow, OutputRow.work == WorkRow.id)
             .where(FeedbackRow.kind.in_(("thumb", "score")), FeedbackRow.replaced_by.is_(None),
                    FeedbackRow.aspect.is_(None), OutputRow.media_type == TEXT)
             .order_by(FeedbackRow.created, FeedbackRow.id))
    if model_names is not None:
        query = query.where(WorkRow.model.in_(list(model_names)))
    found = []
    with store.read() as session:
        for row, text, request, digest in session.execute(query):
            messages = _conversation(request)
            lean = row.value if row.kind == "thumb" else row.score - sum(row.scale) / 2
            if messages and text is not None and text.strip() and lean:
                found.append(Rated(messages, text, lean > 0, row.rater, digest, row.consent))
    return found


def _conversation(request: dict[str, Any]) -> list[dict[str, str]]:
    """Return the turns a request asks to continue; a prompt is one user turn."""
    content = made_from(request)
    if "messages" in content:
        return [{"role": turn["role"], "content": turn["content"]} for turn in content["messages"]]
    if "prompt" in content and "suffix" not in content:
        return [{"role": "user", "content": content["prompt"]}]
    return []


def _check(feedback: Feedback) -> None:
    """Refuse a feedback whose fields do not fit its kind."""
    kind = feedback.kind
    wanted = (_WANTED[kind], "scale") if kind == "score" else (_WANTED[kind],)
    allowed = {"comment": ("span", "aspect"), "score": ("aspect",)}.get(kind, ())
    for name in ("value", "score", "scale", "rejected", "text", "span", "aspect"):
        given = getattr(feedback, name) is not None
        if given != (name in wanted) and not (given and name in allowed):
            verb = "needs" if name in wanted else "has no"
            raise InputError(f"feedback of kind '{kind}' {verb} '{name}'", where="feedback",
                             fix=f"give output and {' and '.join(wanted)}")
    if kind == "thumb" and feedback.value not in (1, -1):
        raise InputError(f"a thumb of {feedback.value} is not allowed", where="feedback", fix="give 1 or -1")
    if feedback.text is not None and not (feedback.text.strip() and len(feedback.text) <= _LONGEST[kind]):
        raise InputError(f"the text of this {kind} has {len(feedback.text)} characters", where="feedback",
                         fix=f"write something, at most {_LONGEST[kind]} characters")
    if feedback.score is not None and feedback.scale is not None:
        low, high = feedback.scale
        if not low <= feedback.score <= high or low == high:
            raise InputError(f"a score of {feedback.score:g} on the scale from {low:g} to {high:g} is not allowed",
                             where="feedback", fix='give a score within its scale: "score": 4, "scale": [1, 5]')
    if feedback.aspect is not None and not 0 < len(feedback.aspect.strip()) <= len(feedback.aspect) <= _LONGEST_ASPECT:
        raise InputError("the aspect is empty or too long", where="feedback",
                         fix=f"a word or two, at most {_LONGEST_ASPECT} characters")
    if len(feedback.reasons) > _REASONS or any(len(reason) > _LONGEST_REASON for reason in feedback.reasons):
        raise InputError("the reasons are too many or too long", where="feedback",
                         fix=f"at most {_REASONS} of {_LONGEST_REASON} characters")


def _check_outputs(session: Session, feedback: Feedback) -> None:
    output = find_output(session, feedback.output)
    if feedback.kind == "edit" and output.media_type != TEXT:
        raise InputError(f"output {output.id} is no text, so its words cannot be corrected", where="feedback",
                         fix="give a thumb, a choice or a comment")
    if feedback.span is not None:
        start, end = feedback.span
        length = len(output.text) if output.media_type == TEXT and output.text is not None else 0
        if not 0 <= start < end <= length:
            raise InputError(f"the span from {start} to {end} is not within the {length} characters of {output.id}",
                             where="feedback", fix="give the first character and the one after the last")
    if feedback.rejected is None:
        return
    other = find_output(session, feedback.rejected)
    if other.media_type != output.media_type:
        raise InputError(f"outputs {output.id} and {other.id} are not of one kind",
                         fix="choose between two texts or two pictures")
    if other is output:
        raise InputError(f"the choice names output {output.id} twice", fix="name the preferred and the rejected one")
    if output.work == other.work:
        return
    if not (output.parent.kept and other.parent.kept):
        raise InputError(f"the prompts of {output.id} and {other.id} are no longer kept",
                         fix="compare outputs of one request, or newer ones")
    if made_from(output.parent.request) != made_from(other.parent.request):
        raise InputError(f"outputs {output.id} and {other.id} answer different prompts",
                         fix="choose between answers to the same prompt")


def _same(feedback: Feedback, rater: str) -> Any:
    """Return the update of what this rater said before about the same output, or the same two."""
    if feedback.kind == "score":  # one score for each aspect
        return update(FeedbackRow).where(FeedbackRow.rater == rater, FeedbackRow.kind == "score",
                                         FeedbackRow.replaced_by.is_(None), FeedbackRow.output == feedback.output,
                                         FeedbackRow.aspect.is_not_distinct_from(feedback.aspect))
    ids = [feedback.output] if feedback.rejected is None else [feedback.output, feedback.rejected]
    query = update(FeedbackRow).where(FeedbackRow.rater == rater, FeedbackRow.kind == feedback.kind,
                                      FeedbackRow.replaced_by.is_(None), FeedbackRow.output.in_(ids))
    return query if feedback.rejected is None else query.where(FeedbackRow.rejected.in_(ids))
