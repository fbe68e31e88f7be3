"""The closed loop on a real small model: choices, a killed training that goes on, the comparison, the decision."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bottega.core.bundle import Bundle
from bottega.core.errors import CorruptError, InputError, NotFoundError
from bottega.core.lineage import ancestry
from bottega.workshop import audit, improvements, registry, works
from bottega.workshop.improve import approve, improve, reject, resume_improvements, start_improvement
from bottega.workshop.models import Models
from bottega.workshop.store import Store
from bottega.workshop.workshop import Workshop
from tests.workshop.rated import choices, choose, record
from tests.workshops import SmallWorkshop, copy_workshop

CHOICES = 28


def _command(home: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "bottega", *arguments], text=True, cwd=home, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env={**os.environ, "BOTTEGA_HOME": str(home)})


def _wait(what: Any, seconds: float = 100) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.05)
    return found


@pytest.fixture
def store(own_workshop: Path, small_workshop: SmallWorkshop) -> Iterator[Store]:
    """The store of a workshop whose alias `assistant` stands for the small assistant."""
    store = Store.open(copy_workshop(small_workshop, own_workshop))
    Models(own_workshop, store).refresh()
    yield store
    store.close()


def _rate(store: Store, count: int = CHOICES) -> None:
    alias = registry.aliases(store)["assistant"]
    choices(store, count, model=alias.model, digest=alias.model_digest)


def test_the_loop_killed_and_gone_on_makes_a_better_model(own_workshop: Path, store: Store) -> None:
    _rate(store)
    champion = registry.aliases(store)["assistant"]
    first = _command(own_workshop, "improve", "assistant")
    _wait(lambda: first.poll() is not None or list((own_workshop / "runs").glob("*/checkpoints/step-????????")))
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL, first.communicate()[1]
    stopped, = improvements.listed(store, "assistant")
    assert stopped.status == "training"

    second = _command(own_workshop, "improve", "assistant", "--id", stopped.id)
    printed, said = second.communicate(timeout=100)
    assert second.returncode == 0, said
    assert "resumed from step-" in said
    assert f"bottega approve {stopped.id}" in printed
    done = improvements.get(store, stopped.id)
    assert (done.status, done.error) == ("waiting", "")
    assert done.comparison is not None
    change = done.comparison["margin"]["change"]
    assert change["value"] >= 0.02, "the house tone leads by 0.02 a token more than before"
    assert done.comparison["verdict"] == "better", done.comparison["sentence"]
    assert done.comparison["prompts"] == done.dataset["held_out"]
    assert improve(own_workshop, store, "assistant", actor="ada", improvement_id=done.id) == done, "nothing left to do"

    chain = ancestry(own_workshop / "models" / done.challenger, own_workshop)
    assert [(each.kind, each.step) for each in chain][:2] == [("model", "dpo"), ("dataset", "prepare")]
    feedback, = (each for each in chain if each.step == "feedback")
    assert feedback.parameters["digest"] == done.dataset["digest"]
    assert feedback.digest in {parent.digest for parent in chain[1].parents}
    assert [parent.name for parent in feedback.parents] == [champion.model]

    assert registry.aliases(store)["assistant"].model == champion.model, "nothing changes before a decision"
    approve(store, done.id, "ada", "warmer")
    moved = registry.aliases(store)["assistant"]
    assert (moved.model, moved.model_digest, moved.changed_by) == (done.challenger, done.challenger_digest, "ada")
    decision = audit.events(store, action="improvement.approved", subject=done.id)[0]
    assert (decision.actor, decision.detail["reason"]) == ("ada", "warmer")
    for decide in (approve, reject):
        with pytest.raises(InputError, match="is approved by ada"):
            decide(store, done.id, "bob")
    asked = _command(own_workshop, "generate", "My kettle arrived broken.", "--model", "assistant", "--json")
    answer = json.loads(asked.communicate(timeout=100)[0])
    assert answer["model"]["digest"] == done.challenger_digest
    assert works.works(store, limit=1)[0].model_digest == done.challenger_digest
    assert audit.verify(store) > 0


def test_a_server_starts_one_and_goes_on_with_what_was_left(own_workshop: Path, store: Store) -> None:
    workshop = Workshop.open(own_workshop)
    with pytest.raises(InputError, match="0 preference pairs"):
        start_improvement(workshop, "assistant", "ada")
    with pytest.raises(NotFoundError, match="no alias 'assistent'") as error:
        start_improvement(workshop, "assistent", "ada")
    assert "did you mean 'assistant'" in error.value.fix
    assert improvements.listed(store) == []
    _rate(store, 8)
    left = improvements.create(store, alias="assistant", champion=registry.aliases(store)["assistant"].model,
                               champion_digest=registry.aliases(store)["assistant"].model_digest,
                               challenger="assistant-9", actor="ada")  # as a machine that lost its power leaves it
    assert resume_improvements(workshop) == [left.id]
    with pytest.raises(InputError, match="is under way"):
        start_improvement(workshop, "assistant", "bob")
    log = own_workshop / "improvements" / left.id / "log.txt"
    done = _wait(lambda: (found := improvements.get(store, left.id)).status in ("waiting", "failed") and found)
    assert done.status == "waiting", (done.error, log.read_text())
    assert Bundle.open(own_workshop / "models" / "assistant-9").digest == done.challenger_digest
    assert resume_improvements(workshop) == []
    reject(store, done.id, "ada", "too long")
    assert (improvements.get(store, done.id).status, registry.aliases(store)["assistant"].model) == \
        ("rejected", left.champion)
    workshop.store.close()


def _waiting(store: Store, home: Path, champion_digest: str) -> improvements.Improvement:
    """An improvement as `improve` leaves it, with the language model in the challenger's place."""
    challenger = registry.model(store, "small-lm")
    made = improvements.create(store, alias="assistant", champion="small-assistant", champion_digest=champion_digest,
                               challenger=challenger.name, actor="ada")
    return improvements.update(store, made.id, actor="ada", status="waiting", challenger_digest=challenger.digest)


def test_no_decision_about_other_models_than_those_compared(own_workshop: Path, store: Store) -> None:
    stale = _waiting(store, own_workshop, "f" * 64)
    with pytest.raises(InputError, match="stands for small-assistant by now"):
        approve(store, stale.id, "ada")
    sound = _waiting(store, own_workshop, registry.aliases(store)["assistant"].model_digest)
    (own_workshop / "models" / "small-lm" / "README.md").unlink()
    with pytest.raises(CorruptError, match="README"):
        approve(store, sound.id, "ada")
    assert registry.aliases(store)["assistant"].model == "small-assistant"
    assert improvements.get(store, sound.id).status == "waiting"


def test_a_decision_that_is_cut_off_is_none(own_workshop: Path, store: Store,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    made = _waiting(store, own_workshop, registry.aliases(store)["assistant"].model_digest)
    move = registry.move
    for place in ("before", "after"):  # the alias has not moved yet, or has and the transaction's end is not reached
        def cut_off(*arguments: Any, after: bool = place == "after", **names: Any) -> None:
            if after:
                move(*arguments, **names)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(registry, "move", cut_off)
            with pytest.raises(KeyboardInterrupt):
                approve(store, made.id, "ada")
        assert (improvements.get(store, made.id).status, registry.aliases(store)["assistant"].model) == \
            ("waiting", "small-assistant")
    approve(store, made.id, "ada")
    assert registry.aliases(store)["assistant"].model == "small-lm"
    with pytest.raises(InputError, match="is approved by ada"):
        approve(store, made.id, "ada")


def test_what_fails_says_so_and_can_be_tried_again(own_workshop: Path, store: Store) -> None:
    alias = registry.aliases(store)["assistant"]
    for number in range(8):  # answers that no context holds
        record(store, f"bt-{number}", f"Question {number}?", f"word {number} " * 1500, "No.", digest=alias.model_digest)
        choose(store, f"bt-{number}.0", f"bt-{number}.1")
    with pytest.raises(Exception, match="longer than the context"):
        improve(own_workshop, store, "assistant", actor="ada")
    failed, = improvements.listed(store)
    assert failed.status == "failed"
    assert "longer than the context" in failed.error
    with pytest.raises(InputError, match="is of 'assistant', not of 'other'"):
        improve(own_workshop, store, "other", actor="ada", improvement_id=failed.id)
    with pytest.raises(Exception, match="longer than the context"):
        improve(own_workshop, store, "assistant", actor="ada", improvement_id=failed.id)


def test_a_model_that_continues_text_is_not_improved(own_workshop: Path, store: Store) -> None:
    lm = registry.model(store, "small-lm")
    registry.point(store, "assistant", lm.name, lm.digest, actor="ada", reason="")
    with pytest.raises(InputError, match="continues text"):
        improve(own_workshop, store, "assistant", actor="ada")
