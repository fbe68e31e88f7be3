"""The store opens quickly, migrates once, keeps what it acknowledged, and says clearly what is wrong."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, make_url

from bottega.core.errors import BottegaError
from bottega.workshop import audit, feedback, works
from bottega.workshop import store as store_module
from bottega.workshop.feedback import Feedback
from bottega.workshop.schema import Base
from bottega.workshop.store import HEAD, VERSION_TABLE, Store
from bottega.workshop.works import Work
from tests.workshop.conftest import Writers, make_work, sql


def test_the_migrations_make_the_schema(store: Store) -> None:
    with create_engine(make_url(store.url)).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "version_table": VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []


def test_the_newest_migration_is_known_by_name() -> None:
    folder = Path(store_module.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_heads() == [HEAD]


def test_an_open_store_hides_its_password(store: Store) -> None:
    if not store.sqlite:
        password = str(make_url(store.url).password)
        assert password not in repr(store) + str(store) + store.shown
        assert "***" in repr(store)
    assert store.shown in repr(store)


_TIMED = """
import sys, time
from pathlib import Path
import bottega.workshop.store as module
from bottega.workshop import audit, feedback, improvements, keys, prompts, registry, settings, works
assert "alembic" not in sys.modules
if sys.argv[2]:
    import psycopg
start = time.process_time()
store = module.Store.open(Path(sys.argv[1]), sys.argv[2] or None)
seconds = time.process_time() - start
assert "alembic" not in sys.modules
print(seconds)
"""


def test_a_migrated_store_opens_quickly_and_without_alembic(store: Store, own_workshop: Path,
                                                            address: str | None) -> None:
    seconds = [float(subprocess.check_output([sys.executable, "-c", _TIMED, str(own_workshop), address or ""]))
               for _ in range(3)]
    assert min(seconds) < 0.15  # of computing, so that a busy machine makes no difference


_APPENDER = """
def run(store, say):
    opened = store()
    say("ready")
    for number in range(100):
        with opened.write() as session:
            audit.append(session, actor="me", action="test", subject="x", detail={})
"""


_OPENER = """
def run(store, say):
    with store().write() as session:
        audit.append(session, actor="me", action="open", subject="x", detail={})
"""


def test_opening_at_the_same_time_is_safe(writers: Callable[[str], Writers], open_store: Callable[[], Store]) -> None:
    processes = writers(_OPENER)
    processes.start(6)
    processes.wait_for("done", 6)
    assert audit.verify(open_store()) == 6


def test_opening_in_many_threads_is_safe(own_workshop: Path, address: str | None) -> None:
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: Store.open(own_workshop, address), range(8)))
    assert {store.shown for store in opened} == {opened[0].shown}
    for store in opened:
        store.close()


def test_a_migration_that_fails_leaves_nothing(own_workshop: Path, address: str | None,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import op

    made = op.create_index

    def fail(name: str, *rest: object) -> object:
        if name == "ix_improvements_created":
            raise KeyboardInterrupt
        return made(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(op, "create_index", fail)
    with pytest.raises(KeyboardInterrupt):
        Store.open(own_workshop, address)
    monkeypatch.undo()
    store = Store.open(own_workshop, address)
    assert audit.verify(store) == 0
    store.close()


def test_a_newer_schema_is_refused(open_store: Callable[[], Store], own_workshop: Path, address: str | None) -> None:
    sql(open_store(), f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(BottegaError, match=r"newer Bottega \(schema 9999.*\n.*fix: install the newer") as error:
        Store.open(own_workshop, address)
    assert "s3cret" not in str(error.value)


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    store.close()
    for use in (lambda: works.works(store), lambda: audit.verify(store), lambda: works.record(store, make_work())):
        with pytest.raises(BottegaError, match="the store is closed"):
            use()


def test_a_read_cannot_change_anything(store: Store, work: Work) -> None:
    def change() -> None:
        with store.read() as session:
            session.get_one(works.WorkRow, work.id).alias = "other"
            session.flush()

    with pytest.raises(BottegaError, match=r"cannot be written|read-only"):
        change()
    assert works.work(store, work.id) == work
    works.record(store, make_work("bt-two"))  # the same connection can


def test_a_read_sees_one_state_while_others_write(store: Store, work: Work) -> None:
    with store.read() as session:
        assert session.get(works.WorkRow, work.id) is not None
        works.record(store, make_work("bt-two"))
        assert session.get(works.WorkRow, "bt-two") is None


def test_the_audit_is_verified_while_others_write(store: Store, writers: Callable[[str], Writers]) -> None:
    processes = writers(_APPENDER)
    processes.start(2)
    processes.wait_for("ready", 2)
    numbers = [audit.verify(store) for _ in range(20)]
    assert numbers == sorted(numbers)
    processes.wait_for("done", 2)
    assert audit.verify(store) == 200


def test_threads_write_and_read_at_once(store: Store, work: Work) -> None:
    def use(number: int) -> str:
        id = feedback.add(store, Feedback(kind="comment", output="bt-one.0", text=str(number)), f"rater {number % 7}")
        feedback.counts(store)
        works.work(store, "bt-one")
        return id

    with ThreadPoolExecutor(32) as pool:
        ids = set(pool.map(use, range(200)))
    assert {entry["id"] for entry in feedback.listed(store, limit=1000)} == ids
    assert len(ids) == 200
    assert audit.verify(store) == 201


_WRITER = """
def run(store, say):
    opened = store()
    say("ready")
    for number in range(60):
        say(feedback.add(opened, Feedback(kind="comment", output="bt-one.0", text=str(number)), "rater"))
"""


def acknowledged(processes: Writers) -> set[str]:
    return {said for _, said in processes.said() if said.startswith("fb-")}


def test_processes_write_at_once(store: Store, work: Work, writers: Callable[[str], Writers]) -> None:
    processes = writers(_WRITER)
    processes.start(3)
    mine = {feedback.add(store, Feedback(kind="comment", output="bt-one.0", text=str(number)), "me")
            for number in range(60)}
    processes.wait_for("done", 3)
    assert len(acknowledged(processes)) == 180
    assert {entry["id"] for entry in feedback.listed(store, limit=1000)} == mine | acknowledged(processes)
    assert audit.verify(store) == 241


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_a_kill(store: Store, work: Work, writers: Callable[[str], Writers],
                                                open_store: Callable[[], Store]) -> None:
    """Twenty-one processes are killed in the middle of writing, three at a time beside each other."""
    processes = writers(_WRITER.replace("60", "10**6"))
    for round in range(7):
        processes.start(3)
        running = processes.wait_for("ready", 3 * (round + 1))[-3:]
        for place, pid in enumerate(running):
            while place and not any(said.startswith("fb-") for writer, said in processes.said() if writer == pid):
                time.sleep(0.005)
            time.sleep(0.013 * ((round + place) % 5))
            os.kill(pid, signal.SIGKILL)
    again = open_store()
    ids, kept = acknowledged(processes), {entry["id"] for entry in feedback.listed(again, limit=10**6)}
    assert len(ids) >= 14  # two in three are killed after a first one
    assert ids <= kept
    assert len(kept) - len(ids) <= 21  # at most one a process that was durable but not yet acknowledged
    assert audit.verify(again) == 1 + len(kept)
    if again.sqlite:
        assert sql(again, "PRAGMA integrity_check") == [("ok",)]


def test_another_programs_lock_is_waited_for(store: Store, work: Work, own_workshop: Path) -> None:
    """Someone opens the file with another tool and writes: we wait, and lose nothing."""
    if not store.sqlite:
        pytest.skip("other tools take no part in the turn on PostgreSQL, and need not")
    holder = subprocess.Popen([sys.executable, "-c", "import sqlite3, sys, time\n"
                               "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
                               "connection.execute('BEGIN IMMEDIATE'); print('held', flush=True); time.sleep(1)",
                               str(own_workshop / "workshop.db")], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    start = time.monotonic()
    feedback.add(store, Feedback(kind="thumb", output="bt-one.0", value=1), "ada")
    assert time.monotonic() - start > 0.5
    holder.wait()


def test_a_writer_that_never_ends_makes_others_give_up(store: Store, open_store: Callable[[], Store],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    other = open_store()
    monkeypatch.setattr(store_module.database, "WAIT", 1)
    errors: list[str] = []

    def write(waiting: Store) -> None:
        try:
            works.record(waiting, make_work())
        except BottegaError as error:
            errors.append(type(error).__name__)

    with store.write():
        threads = [threading.Thread(target=write, args=(waiting,)) for waiting in (store, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == ["BusyError", "BusyError"]
    works.record(other, make_work())


def test_a_writer_that_fell_silent_is_dropped(store: Store, open_store: Callable[[], Store],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that vanished in the middle of a transaction does not keep the others from writing."""
    if store.sqlite:
        pytest.skip("the operating system frees the lock of a process that is gone")
    monkeypatch.setattr(store_module, "_SILENT", "1s")  # longer than a busy machine pauses between two statements
    other = open_store()

    def fall_silent() -> None:
        with store.write() as session:
            works.record(other, make_work())
            audit.append(session, actor="ada", action="test", subject="too late", detail={})

    with pytest.raises(BottegaError, match="cannot be reached"):
        fall_silent()
    assert works.work(other, "bt-one").id == "bt-one"
    assert audit.verify(store) == 1


def test_the_files_are_for_their_owner_only(own_workshop: Path) -> None:
    store = Store.open(own_workshop)
    works.record(store, make_work())
    files = list(own_workshop.glob("workshop.db*"))
    assert len(files) == 4  # the database, its log, the log's index, our lock
    assert [file.stat().st_mode & 0o077 for file in files] == [0] * 4
    store.close()


def test_the_migrations_are_where_the_package_is() -> None:
    folder = Path(store_module.__file__).parent / "migrations"
    assert (folder / "env.py").is_file()
    assert os.listdir(folder / "versions")


def test_a_store_of_an_older_version_keeps_what_it_holds(open_store: Callable[[], Store]) -> None:
    old = open_store()
    works.record(old, make_work())
    for column in ("media_type", "file"):
        sql(old, f"ALTER TABLE outputs DROP COLUMN {column}")
    for column in ("score", "scale", "span", "aspect"):
        sql(old, f"ALTER TABLE feedback DROP COLUMN {column}")
    sql(old, f"UPDATE {VERSION_TABLE} SET version_num = '0001'")
    old.close()
    new = open_store()
    assert sql(new, f"SELECT version_num FROM {VERSION_TABLE}")[0][0] == HEAD
    outputs = works.work(new, "bt-one").outputs
    assert [(output.text, output.media_type) for output in outputs] == [("Answer 0.", "text/plain"),
                                                                       ("Answer 1.", "text/plain")]
