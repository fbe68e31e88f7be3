"""The audit is a chain: whatever is changed, cut or put in is found."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from bottega.core.errors import CorruptError, InputError
from bottega.workshop import audit
from bottega.workshop.store import Store
from tests.workshop.conftest import Writers, sql


def write(store: Store, number: int, actor: str = "ada") -> None:
    with store.write() as session:
        audit.append(session, actor=actor, action="test", subject=f"thing {number}",
                     detail={"number": number, "é": 0.1})


@pytest.fixture
def chain(store: Store) -> Store:
    """A store with five events."""
    for number in range(1, 6):
        write(store, number)
    return store


def test_an_intact_chain_is_verified(store: Store, chain: Store, open_store: Callable[[], Store]) -> None:
    assert audit.verify(store) == 5
    assert audit.verify(open_store()) == 5


def test_an_empty_chain_is_intact(store: Store) -> None:
    assert audit.verify(store) == 0
    assert audit.events(store) == []


@pytest.mark.parametrize("change", ["actor = 'eve'", "action = 'other'", "subject = 'thing 4'", "sequence = 30",
                                    "detail = '{\"number\":4,\"é\":0.1}'", "detail = detail || ' '",
                                    "hash = '" + "0" * 64 + "'", "created = created_later"])
def test_a_changed_field_is_found(chain: Store, change: str) -> None:
    if change == "created = created_later":
        later = audit.events(chain, subject="thing 3")[0].created + timedelta(microseconds=1)
        text = later.isoformat(sep=" ") if not chain.sqlite else later.replace(tzinfo=None).isoformat(sep=" ")
        change = f"created = '{text}'"
    sql(chain, f"UPDATE audit SET {change.replace(':', chr(92) + ':')} WHERE sequence = 3")
    with pytest.raises(CorruptError, match="event 3 of the audit"):
        audit.verify(chain)


@pytest.mark.parametrize(("statement", "first"), [
    ("DELETE FROM audit WHERE sequence = 1", 1),
    ("DELETE FROM audit WHERE sequence = 3", 3),
    ("DELETE FROM audit WHERE sequence = 5", 5),
    ("DELETE FROM audit WHERE sequence >= 3", 3),
    ("DELETE FROM audit", 1),
    ("INSERT INTO audit SELECT 6, created, actor, action, subject, detail, hash FROM audit WHERE sequence = 5", 6),
    ("UPDATE audit SET hash = (SELECT hash FROM audit WHERE sequence = 4) WHERE sequence = 3", 3),
    ("UPDATE audit_head SET sequence = 4", 5),
    ("UPDATE audit_head SET hash = 'x'", 5),
    ("DELETE FROM audit_head", 5),
])
def test_a_removed_or_added_event_is_found(chain: Store, statement: str, first: int) -> None:
    sql(chain, statement)
    with pytest.raises(CorruptError, match=f"event {first} of the audit"):
        audit.verify(chain)


def test_an_event_stands_or_falls_with_its_transaction(chain: Store) -> None:
    def fail() -> None:
        with chain.write() as session:
            audit.append(session, actor="ada", action="test", subject="undone", detail={})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert audit.verify(chain) == 5
    write(chain, 6)
    assert [event.sequence for event in audit.events(chain)] == [6, 5, 4, 3, 2, 1]


def test_several_events_in_one_transaction(store: Store) -> None:
    with store.write() as session:
        for number in range(3):
            audit.append(session, actor="ada", action="test", subject=str(number), detail={})
    assert audit.verify(store) == 3


def test_events_by_page_action_and_subject(chain: Store) -> None:
    with chain.write() as session:
        audit.append(session, actor="bob", action="other", subject="thing 1", detail={"text": "\0\ud800"})
    assert [event.sequence for event in audit.events(chain, limit=2)] == [6, 5]
    assert [event.sequence for event in audit.events(chain, limit=2, before=5)] == [4, 3]
    assert [event.sequence for event in audit.events(chain, action="other")] == [6]
    assert [event.sequence for event in audit.events(chain, subject="thing 1")] == [6, 1]
    assert audit.events(chain, before=10**30, limit=1)[0].detail == {"text": "\0\ud800"}
    assert audit.events(chain, before=-10**30) == []
    assert audit.verify(chain) == 6


def test_what_cannot_be_written_is_refused(chain: Store) -> None:
    for subject, detail in (("x" * 1001, {}), ("x", {"value": float("nan")}), ("x", {"value": object()})):
        with pytest.raises(InputError), chain.write() as session:
            audit.append(session, actor="ada", action="test", subject=subject, detail=detail)
    assert audit.verify(chain) == 5


_WRITER = """
def run(store, say):
    opened = store()
    for number in range(40):
        with opened.write() as session:
            audit.append(session, actor=str(os.getpid()), action="test", subject=str(number), detail={})
"""


def test_the_chain_holds_with_threads_and_processes(store: Store, writers: Callable[[str], Writers]) -> None:
    processes = writers(_WRITER)
    processes.start(2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write(store, number, "me"), range(80)))
    others = [str(pid) for pid in processes.wait_for("done", 2)]
    assert audit.verify(store) == 160
    events = audit.events(store, limit=1000)
    for actor, number in ((others[0], 40), (others[1], 40), ("me", 80)):
        assert len({event.subject for event in events if event.actor == actor}) == number
