"""May rows of a model of a table leave? Not against its last verdict, unless a person says why.

The override is the event that `bottega table release` adds to the audit: it holds for one verdict on one model, there
is none that the chain does not show, and taking it back is a later event. Rows of a model that was never judged may
leave, with a note that says so: a training always judges.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bottega.core.errors import InputError, ReleaseError
from bottega.evaluation.table_verdict import TableVerdict, last_verdict
from bottega.guard.verdict import Action, Verdict
from bottega.workshop import audit, works
from bottega.workshop.store import Store
from bottega.workshop.table_lane import PARQUET

RELEASE, WITHDRAW = "release", "withdraw"  # actions in the audit; the subject is the model's digest
_LONGEST = 2000  # characters of a reason


@dataclass(frozen=True)
class Standing:
    """How a model of a table stands before the gate.

    Attributes:
        verdict: the last one; None when the model was never judged.
        override: the event with which a person released the model against this verdict.
    """

    verdict: TableVerdict | None = None
    override: audit.Event | None = None

    @property
    def reasons(self) -> list[str]:
        """What speaks against a release."""
        return self.verdict.reasons if self.verdict is not None else []

    @property
    def refused(self) -> bool:
        """Whether no row may leave."""
        return bool(self.reasons) and self.override is None

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever gets the rows has to know."""
        if self.verdict is None:
            return ("nobody has judged yet whether these rows give anyone away: bottega evaluate NAME",)
        if self.override is None:
            return ()
        return (f"these rows were released by a person against the gate: {'; '.join(self.reasons)}",)

    def plain(self) -> dict[str, Any]:
        """Return what rows made under an override say of it, ready for JSON; empty without one."""
        if self.override is None:
            return {}
        return {"release": {"against": self.reasons, "audit_event": self.override.sequence,
                            "audit_hash": self.override.hash}}


def standing(store: Store, home: Path, digest: str) -> Standing:
    """Return how a model stands before the gate.

    Raises:
        CorruptError: its verdict cannot be read.
    """
    verdict = last_verdict(home, digest)
    if verdict is None or not verdict.reasons:
        return Standing(verdict)
    last = next(iter(audit.events(store, limit=1, subject=digest)), None)
    holds = last is not None and last.action == RELEASE and last.detail.get("verdict") == verdict.digest
    return Standing(verdict, last if holds else None)


def require(store: Store, home: Path, name: str, digest: str) -> Standing:
    """Return how a model stands whose rows are about to leave.

    Raises:
        ReleaseError: its last verdict has reasons and nobody overrode it.
        CorruptError: its verdict cannot be read.
    """
    found = standing(store, home, digest)
    if found.refused:
        raise ReleaseError(f"rows of '{name}' are not released: {'; '.join(found.reasons)}", verdicts=[
            Verdict("release", "privacy", Action.BLOCK, "output", reason) for reason in found.reasons], fix=(
            f"train it anew for less long or on more rows; a person who answers for it can override: "
            f'bottega table release {name} --reason "…"'))
    return found


def file(store: Store, home: Path, output_id: str) -> tuple[str, bytes]:
    """Return the media type and the bytes of an output that is a file, as `works.file`; tables pass the gate.

    Raises:
        NotFoundError: see `works.file`.
        ReleaseError, CorruptError: see `require`.
    """
    media_type, data = works.file(store, output_id)
    if media_type == PARQUET:
        work, _ = works.output(store, output_id)
        require(store, home, work.model, work.model_digest)
    return media_type, data


def release(store: Store, home: Path, name: str, digest: str, *, actor: str, reason: str) -> Standing:
    """Let rows of a model leave against its last verdict, until that changes or `withdraw`.

    Args:
        store: whose audit keeps it.
        home: the workshop.
        name, digest: of the model.
        actor: the person who answers for it; `reason`: theirs, not empty.

    Raises:
        InputError: the reason is empty or too long, the model was never judged, or nothing speaks against it.
        CorruptError: its verdict cannot be read.
    """
    verdict = last_verdict(home, digest)
    if verdict is None:
        raise InputError(f"'{name}' was never judged: there is nothing to override",
                         fix=f"judge it first: bottega evaluate {name}")
    if not verdict.reasons:
        raise InputError(f"nothing speaks against rows of '{name}': there is nothing to override",
                         fix=f"make some: bottega generate {name} --rows 1000 -o rows.parquet")
    if not reason.strip():
        raise InputError(f"'{reason}' is no reason to release '{name}' against: {'; '.join(verdict.reasons)}",
                         fix='say why it may be done all the same: --reason "…"')
    if len(reason) > _LONGEST:
        raise InputError(f"the reason has {len(reason)} characters", fix=f"use at most {_LONGEST}")
    with store.write() as session:
        audit.append(session, actor=actor, action=RELEASE, subject=digest, detail={
            "model": name, "verdict": verdict.digest, "against": verdict.reasons, "reason": reason.strip()})
    return standing(store, home, digest)


def withdraw(store: Store, home: Path, name: str, digest: str, *, actor: str, reason: str = "") -> Standing:
    """Take an override back.

    Raises:
        InputError: there is none that holds.
        CorruptError: the model's verdict cannot be read.
    """
    found = standing(store, home, digest)
    if found.override is None:
        raise InputError(f"no override holds for '{name}'", fix="bottega audit --action release lists those of before")
    with store.write() as session:
        audit.append(session, actor=actor, action=WITHDRAW, subject=digest, detail={
            "model": name, "event": found.override.sequence, "reason": reason.strip()})
    return standing(store, home, digest)
