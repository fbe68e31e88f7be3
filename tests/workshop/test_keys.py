"""A key opens the door until it is revoked or expires; its secret is nowhere in the store."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bottega.core.errors import InputError, NotFoundError
from bottega.workshop import audit, database, keys
from bottega.workshop.store import Store
from tests.workshop.conftest import sql


def test_a_secret_opens_and_nothing_else_does(store: Store) -> None:
    info, secret = keys.create(store, "notebook", actor="ada")
    keys.create(store, "another", actor="ada")
    found = keys.check(store, secret)
    assert found is not None
    assert (found.id, found.name, found.created_by, found.active) == (info.id, "notebook", "ada", True)
    assert secret.startswith(info.prefix)
    assert len(secret) == 4 + 43
    for guess in ("", "btg-", secret[:-1], secret + "x", secret.swapcase(), info.prefix, info.id, f" {secret}", "\0",
                  "btg-\ud800", "btg-" + "x" * 10**6):
        assert keys.check(store, guess) is None


def test_the_secret_is_not_in_the_store(store: Store, own_workshop: Path) -> None:
    _, secret = keys.create(store, "notebook", actor="ada")
    keys.check(store, secret)
    assert secret[10:] not in str(sql(store, "SELECT * FROM keys")) + str(audit.events(store))
    assert secret[10:].encode() not in b"".join(file.read_bytes() for file in own_workshop.glob("workshop.db*"))


@pytest.mark.parametrize("by", ["id", "prefix"])
def test_a_revoked_key_stays_closed(store: Store, by: str) -> None:
    info, secret = keys.create(store, "notebook", actor="ada")
    revoked = keys.revoke(store, getattr(info, by), "bob")
    assert (revoked.id, revoked.active) == (info.id, False)
    assert keys.check(store, secret) is None
    assert keys.revoke(store, info.id, "eve") == revoked
    assert [(event.actor, event.action) for event in audit.events(store)] == [
        ("bob", "key.revoke"), ("ada", "key.create")]


def test_an_unknown_key_is_not_repeated_whole(store: Store) -> None:
    _, secret = keys.create(store, "notebook", actor="ada")
    with pytest.raises(NotFoundError) as error:
        keys.revoke(store, secret, "ada")
    assert secret not in str(error.value)
    for id in ("", "\0", "key-x"):
        with pytest.raises(NotFoundError):
            keys.revoke(store, id, "ada")


def test_an_ambiguous_prefix_is_refused(store: Store) -> None:
    for name in ("one", "two"):
        keys.create(store, name, actor="ada")
    sql(store, "UPDATE keys SET prefix = 'btg-same'")
    with pytest.raises(InputError, match="several keys"):
        keys.revoke(store, "btg-same", "ada")


def test_a_key_expires(store: Store) -> None:
    info, secret = keys.create(store, "notebook", days=1, actor="ada")
    assert info.expires is not None
    assert timedelta(hours=23) < info.expires - datetime.now(UTC) <= timedelta(days=1)
    assert keys.check(store, secret) is not None
    sql(store, "UPDATE keys SET expires = created")
    assert keys.check(store, secret) is None
    assert not keys.listed(store)[0].active


@pytest.mark.parametrize("days", [0, -1, 36501, 10**30])
def test_a_senseless_life_is_refused(store: Store, days: int) -> None:
    with pytest.raises(InputError, match=f"{days} days"):
        keys.create(store, "notebook", days=days, actor="ada")
    with pytest.raises(InputError, match="key name"):
        keys.create(store, "", actor="ada")
    assert keys.listed(store) == []


def test_the_last_use_is_noted_once_a_minute(store: Store) -> None:
    _, secret = keys.create(store, "notebook", actor="ada")
    assert keys.listed(store)[0].last_used is None
    keys.check(store, secret)
    first = keys.listed(store)[0].last_used
    assert first is not None
    keys.check(store, secret)
    assert keys.listed(store)[0].last_used == first
    with store.write() as session:
        session.get_one(keys.KeyRow, keys.listed(store)[0].id).last_used = first - timedelta(seconds=61)
    keys.check(store, secret)
    last = keys.listed(store)[0].last_used
    assert last is not None
    assert last >= first


def test_a_store_that_cannot_be_written_lets_a_valid_key_in(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = keys.create(store, "notebook", actor="ada")
    monkeypatch.setattr(database, "WAIT", 1.0)
    with store.write():  # somebody else's turn
        assert keys.check(store, secret) is not None
    assert keys.listed(store)[0].last_used is None


def test_keys_are_listed_newest_first(store: Store) -> None:
    for name in ("one", "two", "three"):
        keys.create(store, name, actor="ada")
    assert [info.name for info in keys.listed(store)] == ["three", "two", "one"]
