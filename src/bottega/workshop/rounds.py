"""Blind rounds: people choose between two models' answers without knowing whose they are; `bottega compare --judge
people` opens one, people vote in the studio under /compare, `bottega compare --round ID` counts.

    home/rounds/<id>.json     which questions, whose outputs

A vote is an ordinary choice in the feedback store (a tie: two equal thumbs, as in the studio's comparison), so it can
teach later, if its giver consents. Who stands left differs from rater to rater and from question to question.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import or_, select

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

Vote = Literal["left", "right", "tie"]
TIE = "equally good"
_TIES = (TIE, "both bad")  # reasons of thumbs that say of two answers that neither is better
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
        outcome = said.get((number, rater), (None, False))[0]
        voted: Vote | None = None if outcome is None else "tie" if outcome == 0.5 else \
            "right" if (outcome == 1) != turned else "left"
        found.append(Sheet(number, item["messages"], left, right, voted))
    return sorted(found, key=lambda sheet: _draw(round_, sheet.number, rater, "order"))


def vote(store: Store, round_: Round, number: int, choice: Vote, rater: str, *, consent: bool = True) -> None:
    """Keep a rater's word; a later one about the same item takes its place.

    Raises:
        InputError: there is no such item, or the store refuses the feedback.
    """
    if not 0 <= number < len(round_.items):
        raise InputError(f"round {round_.id} has no item {number}", fix=f"give 0 to {len(round_.items) - 1}")
    outputs = round_.items[number]["outputs"]
    if choice == "tie":
        for output in outputs:
            feedback.add(store, Feedback(kind="thumb", output=output, value=1, reasons=[TIE], consent=consent), rater)
        return
    challenger = (choice == "right") != _turned(round_, number, rater)
    chosen, rejected = outputs[::-1] if challenger else outputs
    feedback.add(store, Feedback(kind="choice", output=chosen, rejected=rejected, consent=consent), rater)


def result(store: Store, round_: Round) -> dict[str, Any]:
    """Return what people said so far: `win_rate` (None without votes), `agreement`, `consent`, `questions`, `voted`."""
    said = _votes(store, round_)
    outcomes = [outcome for outcome, _ in said.values()]
    return {"round": round_.id, "questions": len(round_.items), "voted": len({number for number, _ in said}),
            "win_rate": win_rate(outcomes, [number for number, _ in said]) if said else None,
            "agreement": agreement((number, rater, outcome) for (number, rater), (outcome, _) in said.items()),
            "consent": {"given": sum(consent for _, consent in said.values()),
                        "withheld": sum(not consent for _, consent in said.values())}}


def _votes(store: Store, round_: Round) -> dict[tuple[int, str], tuple[float, bool]]:
    """Return (item, rater) → (outcome, consent): each rater's newest word about two outputs."""
    places = {output: (number, side) for number, item in enumerate(round_.items)
              for side, output in enumerate(item["outputs"])}
    newest: dict[tuple[int, str], tuple[datetime, float, bool]] = {}
    ids = list(places)
    with store.read() as session:
        rows = [row for first in range(0, len(ids), 500) for row in session.scalars(select(FeedbackRow).where(
            FeedbackRow.output.in_(ids[first:first + 500]), FeedbackRow.replaced_by.is_(None),
            or_(FeedbackRow.kind == "choice", FeedbackRow.kind == "thumb")))]
    for row in rows:
        number, side = places[row.output]
        if row.kind == "choice":
            if places.get(row.rejected or "") != (number, 1 - side):
                continue
            outcome = float(side)
        elif set(row.reasons) & set(_TIES):
            outcome = 0.5
        else:
            continue
        if row.created >= newest.get((number, row.rater), (row.created, 0.0, False))[0]:
            newest[number, row.rater] = (row.created, outcome, row.consent)
    return {key: (outcome, consent) for key, (_, outcome, consent) in sorted(newest.items())}


def _turned(round_: Round, number: int, rater: str) -> bool:
    """Return whether the challenger stands left."""
    return _draw(round_, number, rater, "side") % 2 == 1


def _draw(round_: Round, number: int, rater: str, what: str) -> int:
    text = json.dumps([round_.id, number, rater, what])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
