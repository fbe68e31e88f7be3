"""Aliases stand for registered models only, and remember where they stood."""

from pathlib import Path
from typing import Any

import pytest

from bottega.core.errors import InputError, NotFoundError
from bottega.workshop import audit, registry
from bottega.workshop.store import Store


def register(store: Store, name: str, digest: str, **changes: Any) -> None:
    registry.register(store, **{"name": name, "digest": digest, "path": Path("models") / name, "family": "transformer",
                                "objective": "sft", "answers": True, "meta": {"context": 512}, **changes})


def test_a_model_is_found_by_name_and_digest(store: Store) -> None:
    register(store, "b-lm", "d1", answers=False, path=Path("/models/ü\udcff"))
    register(store, "a-assistant", "d2")
    found = registry.model(store, "b-lm")
    assert found == registry.model(store, "d1")
    assert (found.path, found.answers, found.meta, found.family) == (
        Path("/models/ü\udcff"), False, {"context": 512}, "transformer")
    assert [model.name for model in registry.models(store)] == ["a-assistant", "b-lm"]
    with pytest.raises(NotFoundError, match="did you mean 'b-lm'"):
        registry.model(store, "blm")


def test_a_model_made_again_under_its_name_is_the_newest(store: Store) -> None:
    register(store, "lm", "d1")
    register(store, "lm", "d2")
    assert registry.model(store, "lm").digest == "d2"
    assert registry.model(store, "d1").digest == "d1"
    before = registry.model(store, "d1")
    register(store, "lm", "d1", objective="dpo")  # the old folder was put back
    again = registry.model(store, "lm")
    assert (again.digest, again.objective, again.registered) == ("d1", "dpo", before.registered)
    assert again.seen > before.seen
    assert [model.digest for model in registry.models(store)] == ["d1"]


def test_an_alias_moves_and_its_history_stays(store: Store) -> None:
    register(store, "one", "d1")
    register(store, "two", "d2")
    registry.point(store, "assistant", "one", "d1", actor="ada", reason="first")
    registry.point(store, "assistant", "two", "d2", actor="bob", reason="won by 62 to 38")
    registry.point(store, "assistant", "two", "d2", actor="eve", reason="nothing new")
    registry.point(store, "other", "one", "d1", actor="ada", reason="")
    alias = registry.aliases(store)["assistant"]
    assert (alias.model, alias.model_digest, alias.changed_by) == ("two", "d2", "bob")
    assert list(registry.aliases(store)) == ["assistant", "other"]
    newest, first = registry.history(store, "assistant")
    assert (newest.actor, newest.detail["reason"]) == ("bob", "won by 62 to 38")
    assert newest.detail["before"] == {"model": "one", "model_digest": "d1"}
    assert newest.detail["after"] == {"model": "two", "model_digest": "d2"}
    assert first.detail["before"] is None
    assert audit.verify(store) == 3


def test_an_alias_needs_a_registered_model_and_a_sound_name(store: Store) -> None:
    register(store, "one", "d1")
    for name, digest in (("one", "d2"), ("two", "d1"), ("\0", "\ud800")):
        with pytest.raises(NotFoundError, match="not registered"):
            registry.point(store, "assistant", name, digest, actor="ada", reason="")
    for alias in ("", "a b", "../x", "a/b", "-x", "x" * 101, "ä", "x\n"):
        with pytest.raises(InputError, match="alias"):
            registry.point(store, alias, "one", "d1", actor="ada", reason="")
    assert registry.aliases(store) == {}
