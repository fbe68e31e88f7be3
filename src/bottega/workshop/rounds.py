"""Blind rounds: people choose between two models' answers without knowing whose they are; `bottega compare --judge
people` opens one, people vote in the studio under /compare, `bottega compare --round ID` counts.

    home/rounds/<id>.json     which questions, whose outputs

A vote is an ordinary choice in the feedback store (of equals two equal thumbs, as in the studio's comparison: both up
or both down), so it can teach later, if its giver consents; what a later vote takes back teaches nothing. Who stands
left differs from rater to rater and from question to question.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from bottega.core.errors import CorruptError, InputError, NotFoundError, suggest
from bottega.core.files import read_json, write_json
from bottega.evaluation.agreement import agreement
from bottega.evaluation.paired import win_rate
from bottega.workshop import audit, feedback, settings, works
from bottega.workshop.feedback import Feedback
from bottega.workshop.models import Served
from bottega.workshop.names import new_id
from bottega.workshop.schema import FeedbackRow
from bottega.workshop.store import Store

Vote = Literal["left", "right", "tie", "bad"]
TIE, BAD = "equally good", "both bad"  # reasons of thumbs that say of two answers that neither is better
_TIES: dict[Vote, tuple[int, str]] = {"tie": (1, TIE), "bad": (-1, BAD)}
_MOST = 500


@dataclass(frozen=True)
class Round:
    """A round.

    Attributes:
        items: of each question its `question` digest, its `messages`, and `outputs`: ids of the champion's and the
            challenger's answer.
        comparison: folder name of the comparison that it belongs to.
    """

    id: str
    created: str
    actor: str
    comparison: str
    champion: str
    champion_digest: str
    challenger: str
    challenger_digest: str
    items: list[dict[str, Any]]


@dataclass(frozen=True)
class Sheet:
    """One item as a rater sees it: no name, no place that tells whose an answer is."""

    number: int
    messages: list[dict[str, str]]
    left: str
    right: str
    voted: Vote | None


def begin(home: Path, store: Store, models: Sequence[Served], items: list[dict[str, Any]], *, comparison: str,
          actor: str) -> Round:
    """Open a round, or return the one of the same comparison and outputs.

    Raises:
        InputError: the workshop keeps no content, there is nothing to vote on, or too much.
    """
    with store.read() as session:
        if settings.retention(session) == 0:
            raise InputError("this workshop keeps no content, so nobody could read the answers",
                             fix="ask the administrator for 'bottega settings retention_days=-1'")
    if not items or len(items) > _MOST:
        raise InputError(f"a round of {len(items)} questions cannot be voted on", fix=f"ask 1 to {_MOST}, with --cases")
    for old in listed(home):
        if old.comparison == comparison and old.items == items:
            return old
    champion, challenger = models
    made = Round(new_id("ro"), datetime.now(UTC).isoformat(timespec="seconds"), actor, comparison, champion.name,
                 champion.digest, challenger.name, challenger.digest, items)
    write_json(home / "rounds" / f"{made.id}.json", vars(made))
    with store.write() as session:
        audit.append(session, actor=actor, action="round.open", subject=made.id, detail={
            "champion": champion.digest, "challenger": challenger.digest, "questions": len(items)})
    return made


def load(home: Path, id: str) -> Round:
    """Return a round.

    Raises:
        NotFoundError: there is none of this id.
        CorruptError: its file is damaged.
    """
    known = [path.stem for path in home.glob("rounds/ro-*.json")]
    if id not in known:  # a name is never a path
        raise NotFoundError(f"there is no round '{id[:100]}'", fix=suggest(id[:100], known))
    path = home / "rounds" / f"{id}.json"
    try:
        return Round(**read_json(path))
    except TypeError as error:
        raise CorruptError(f"{path} is no round: {error}", fix="open a new one with 'bottega compare'") from None


def listed(home: Path) -> list[Round]:
    """Return all rounds, newest first."""
    found = [load(home, path.stem) for path in home.glob("rounds/ro-*.json")]
    return sorted(found, key=lambda each: (each.created, each.id), reverse=True)


def sheets(store: Store, round_: Round, rater: str) -> list[Sheet]:
    """Return the items in this rater's order; those whose answers are forgotten are left out."""
    said = _votes(store, round_)
    found = []
    for number, item in enumerate(round_.items):
        try:
            texts = [works.output(store, id)[1].text for id in item["outputs"]]
        except NotFoundError:
            continue
        if texts[0] is None or texts[1] is None:
            continue
        turned = _turned(round_, number, rater)
        left, right = (texts[1], texts[0]) if turned else (texts[0], texts[1])
        found.append(Sheet(number, item["messages"], left, right, _voted(said.get((number, rater)), turned)))
    return sorted(found, key=lambda sheet: _draw(round_, sheet.number, rater, "order"))


def vote(store: Store, round_: Round, number: int, choice: Vote, rater: str, *, consent: bool = True) -> None:
    """Keep a rater's word; a later one about the same item takes its place.

    Raises:
        InputError: there is no such item, or the store refuses the feedback.
    """
    if not 0 <= number < len(round_.items):
        raise InputError(f"round {round_.id} has no item {number}", fix=f"give 0 to {len(round_.items) - 1}")
    outputs = round_.items[number]["outputs"]
    if choice in _TIES:
        value, reason = _TIES[choice]
        words = [Feedback(kind="thumb", output=output, value=value, reasons=[reason], consent=consent)
                 for output in outputs]
    else:
        challenger = (choice == "right") != _turned(round_, number, rater)
        chosen, rejected = outputs[::-1] if challenger else outputs
        words = [Feedback(kind="choice", output=chosen, rejected=rejected, consent=consent)]
    with store.write() as session:  # all at once: of two votes at the same moment one stands
        newest = [feedback.keep(session, word, rater) for word in words]
        old = [row.id for row, said in _words(session, round_) if row.rater == rater and said.number == number
               and row.id not in newest]
        feedback.take_back(session, old, by=newest[-1])


def result(store: Store, round_: Round) -> dict[str, Any]:
    """Return what people said so far: `win_rate` (None without votes), `agreement`, `consent`, `questions`, `voted`."""
    said = _votes(store, round_)
    outcomes = [word.outcome for word in said.values()]
    return {"round": round_.id, "questions": len(round_.items), "voted": len({number for number, _ in said}),
            "win_rate": win_rate(outcomes, [number for number, _ in said]) if said else None,
            "agreement": agreement((number, rater, word.outcome) for (number, rater), word in said.items()),
            "consent": {"given": sum(word.consent for word in said.values()),
                        "withheld": sum(not word.consent for word in said.values())}}


class _Word(NamedTuple):
    """A rater's word about item `number`: 1 for the challenger, 0 for the champion, 0.5 where both are alike."""

    number: int
    outcome: float
    bad: bool  # both are
    consent: bool


def _votes(store: Store, round_: Round) -> dict[tuple[int, str], _Word]:
    """Return (item, rater) → each rater's newest word."""
    with store.read() as session:
        words = sorted(_words(session, round_), key=lambda each: each[0].created)
    newest = {(word.number, row.rater): word for row, word in words}
    return dict(sorted(newest.items()))


def _words(session: Session, round_: Round) -> list[tuple[FeedbackRow, _Word]]:
    """Return all that stands in the store about two outputs of an item, in no order."""
    places = {output: (number, side) for number, item in enumerate(round_.items)
              for side, output in enumerate(item["outputs"])}
    ids, found = list(places), []
    rows = [row for first in range(0, len(ids), 500) for row in session.scalars(select(FeedbackRow).where(
        FeedbackRow.output.in_(ids[first:first + 500]), FeedbackRow.replaced_by.is_(None),
        or_(FeedbackRow.kind == "choice", FeedbackRow.kind == "thumb")))]
    for row in rows:
        number, side = places[row.output]
        if row.kind == "choice" and places.get(row.rejected or "") == (number, 1 - side):
            found.append((row, _Word(number, float(side), False, row.consent)))
        elif row.kind == "thumb" and {TIE, BAD} & set(row.reasons):
            found.append((row, _Word(number, 0.5, BAD in row.reasons, row.consent)))
    return found


def _voted(word: _Word | None, turned: bool) -> Vote | None:
    """Return a word as the vote of someone who sees the challenger left (`turned`) or right."""
    if word is None:
        return None
    if word.outcome == 0.5:
        return "bad" if word.bad else "tie"
    return "right" if (word.outcome == 1) != turned else "left"


def _turned(round_: Round, number: int, rater: str) -> bool:
    """Return whether the challenger stands left."""
    return _draw(round_, number, rater, "side") % 2 == 1


def _draw(round_: Round, number: int, rater: str, what: str) -> int:
    text = json.dumps([round_.id, number, rater, what])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
