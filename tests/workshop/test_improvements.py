"""An improvement goes its way to one decision, and only one."""

import threading

import pytest

from bottega.core.errors import InputError, NotFoundError
from bottega.workshop import audit, improvements
from bottega.workshop.improvements import Improvement
from bottega.workshop.store import Store


def begin(store: Store, alias: str = "assistant", id: str | None = None) -> Improvement:
    return improvements.create(store, alias=alias, champion="one", champion_digest="d1", challenger="one-2",
                               actor="ada", id=id)


def test_from_export_to_decision(store: Store) -> None:
    made = begin(store)
    assert (made.status, made.champion, made.champion_digest) == ("exporting", "one", "d1")
    assert made.challenger_digest is None
    assert (made.dataset, made.comparison) == ({}, None)
    improvements.update(store, made.id, actor="ada", status="training",
                        dataset={"digest": "d9", "pairs": 40, "held_out": 10})
    improvements.update(store, made.id, actor="ada", status="comparing", challenger_digest="d2")
    improvements.update(store, made.id, actor="ada", status="waiting", comparison={"wins": 0.62})
    done = improvements.update(store, made.id, actor="bob", status="approved", decided_by="bob", reason="better")
    assert done == improvements.get(store, made.id)
    assert (done.dataset["pairs"], done.comparison, done.challenger_digest) == (40, {"wins": 0.62}, "d2")
    assert (done.decided_by, done.reason) == ("bob", "better")
    assert done.updated > done.created == made.created
    assert [event.action for event in audit.events(store, subject=made.id)] == [
        f"improvement.{word}" for word in ("approved", "waiting", "comparing", "training", "create")]


def test_a_failed_one_may_go_on(store: Store) -> None:
    made = begin(store)
    improvements.update(store, made.id, actor="ada", status="failed", error="no space \0")
    assert improvements.update(store, made.id, actor="ada", status="training", error="").status == "training"


@pytest.mark.parametrize(("changes", "problem"), [
    ({"status": "done"}, "no status 'done'"), ({"champion": "x"}, "'champion' cannot be changed"),
    ({"colour": 1}, "'colour' cannot be changed")])
def test_what_makes_no_sense_is_refused(store: Store, changes: dict[str, object], problem: str) -> None:
    made = begin(store)
    with pytest.raises(InputError, match=problem):
        improvements.update(store, made.id, actor="ada", **changes)
    assert improvements.get(store, made.id) == made


def test_ids(store: Store) -> None:
    assert begin(store, id="im-mine").id == "im-mine"
    with pytest.raises(InputError, match="im-mine is there already"):
        begin(store, id="im-mine")
    for use in (lambda: improvements.get(store, "\0"), lambda: improvements.update(store, "\0", actor="ada", error="")):
        with pytest.raises(NotFoundError, match="no improvement"):
            use()


def test_listed_newest_first_by_alias(store: Store) -> None:
    ids = [begin(store, alias).id for alias in ("a", "b", "a")]
    assert [made.id for made in improvements.listed(store)] == ids[::-1]
    assert [made.id for made in improvements.listed(store, "a")] == [ids[2], ids[0]]
    assert improvements.listed(store, "c") == []


def test_of_two_decisions_at_once_one_wins(store: Store) -> None:
    made = begin(store)
    outcomes: list[str] = []

    def decide(status: str) -> None:
        try:
            improvements.update(store, made.id, actor=status, status=status, decided_by=status)
            outcomes.append(status)
        except InputError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=decide, args=(status,)) for status in ("approved", "rejected") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    final = improvements.get(store, made.id).status
    assert outcomes.count(final) == 1
    assert sum("already" in outcome for outcome in outcomes) == 7
    assert audit.verify(store) == 2
