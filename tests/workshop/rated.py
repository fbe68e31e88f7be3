"""Outputs with choices between them, as people leave them in the studio; used by the tests of the closed loop."""

from datetime import UTC, datetime

from bottega.data.builtin import support_desk
from bottega.workshop import feedback, works
from bottega.workshop.feedback import Feedback
from bottega.workshop.store import Store
from bottega.workshop.works import Work, WorkOutput


def record(store: Store, id: str, prompt: str, *answers: str, model: str = "small-assistant", digest: str = "d" * 64,
           alias: str = "assistant") -> None:
    """Record a work with these outputs, `id.0`, `id.1`, …"""
    works.record(store, Work(
        id=id, created=datetime.now(UTC), door="studio", principal="ada", alias=alias, model=model,
        model_digest=digest, request={"messages": [{"role": "user", "content": prompt}], "controls": {"seed": 1}},
        status="done", outputs=[WorkOutput(f"{id}.{n}", n, text, "stop", -0.1, [1]) for n, text in enumerate(answers)]))


def choose(store: Store, better: str, worse: str, rater: str = "ada", consent: bool = True) -> str:
    """Prefer one output to another and return the feedback's id."""
    return feedback.add(store, Feedback(kind="choice", output=better, rejected=worse, consent=consent), rater)


def choices(store: Store, count: int, *, model: str, digest: str) -> None:
    """Record answers of the support desk in both tones, and a rater who prefers the house tone."""
    for number, (case, message) in enumerate(support_desk.cases("train", count, 77)):
        record(store, f"bt-{number}", message, case.answer("house"), case.answer("curt"), model=model, digest=digest)
        choose(store, f"bt-{number}.0", f"bt-{number}.1")
