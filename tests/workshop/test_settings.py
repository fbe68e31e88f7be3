"""Settings have defaults, are checked, and each change is in the audit."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from bottega.core.errors import InputError
from bottega.workshop import audit, settings
from bottega.workshop.store import Store


def test_defaults_stand_until_changed(store: Store) -> None:
    assert settings.all(store) == {"retention_days": -1, "guard": {}}
    settings.put(store, "retention_days", 30, "ada")
    settings.put(store, "retention_days", 30, "bob")  # changes nothing
    assert settings.get(store, "retention_days") == 30
    assert settings.get(store, "guard") == {}
    assert settings.all(store) == {"retention_days": 30, "guard": {}}
    settings.put(store, "retention_days", -1, "bob")
    assert [(event.actor, event.subject, event.detail) for event in audit.events(store)] == [
        ("bob", "retention_days", {"before": 30, "after": -1}), ("ada", "retention_days", {"before": -1, "after": 30})]


@pytest.mark.parametrize("value", [-2, 36501, 1.5, "soon", None, float("nan"), 10**30])
def test_a_bad_value_is_refused(store: Store, value: Any) -> None:
    with pytest.raises(InputError, match="retention_days"):
        settings.put(store, "retention_days", value, "ada")
    assert settings.get(store, "retention_days") == -1
    assert audit.events(store) == []


def test_several_change_together_or_not_at_all(store: Store) -> None:
    with pytest.raises(InputError, match="guard"):
        settings.put_all(store, {"retention_days": 7, "guard": {"max_message": 1}}, "ada")
    assert settings.all(store) == {"retention_days": -1, "guard": {}}
    settings.put_all(store, {"retention_days": 7, "guard": {"max_messages": 1}}, "ada")
    assert settings.all(store) == {"retention_days": 7, "guard": {"max_messages": 1}}


def test_blocked_strings_in_the_audit_cannot_be_guessed(store: Store) -> None:
    for texts in (["4711"], ["4711", "4712"]):
        settings.put(store, "guard", {"blocked_strings": texts}, "ada")
    second, first = audit.events(store)
    guess = hashlib.sha256(b"4711").hexdigest()
    for digest in second.detail["after"]["blocked_strings"]:
        assert digest[:8] not in guess
    assert second.detail["before"] == first.detail["after"], "the same text has the same digest"
    assert len(set(second.detail["after"]["blocked_strings"])) == 2


def test_the_secret_is_one_and_no_setting(open_store: Callable[[], Store]) -> None:
    secret = settings.secret(open_store())
    assert len(secret) == 32
    assert settings.secret(open_store()) == secret
    assert set(settings.all(open_store())) == {"retention_days", "guard"}
    with pytest.raises(InputError, match="no setting 'secret'"):
        settings.get(open_store(), "secret")
    with pytest.raises(InputError, match="secret"):
        settings.put(open_store(), "secret", "00", "ada")


def test_an_unknown_setting_is_named(store: Store) -> None:
    with pytest.raises(InputError, match="did you mean 'retention_days'"):
        settings.put(store, "retention_day", 1, "ada")
    with pytest.raises(InputError, match="no setting 'x'"):
        settings.get(store, "x")


def test_the_guards_policy_is_checked(store: Store) -> None:
    policy = {"actions": {"card": "BLOCK"}, "max_messages": 10, "blocked_strings": ["zebra-canary"]}
    settings.put(store, "guard", policy, "ada")
    assert settings.get(store, "guard") == policy
    assert "zebra" not in str(audit.events(store))
    for bad in ({"actions": {"card": "explode"}}, {"actions": {"no-such": "BLOCK"}}, {"max_message": 1},
                {"blocked_strings": [" "]}, [], "x"):
        with pytest.raises(InputError):
            settings.put(store, "guard", bad, "ada")
    assert settings.get(store, "guard") == policy
