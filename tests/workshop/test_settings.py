"""Settings have defaults, are checked, and each change is in the audit."""

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
