"""Every test of the store runs on SQLite and on PostgreSQL."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from bottega.workshop import works
from bottega.workshop.schema import Base
from bottega.workshop.store import Store
from bottega.workshop.works import Work, WorkOutput
from tests.postgres import needed, postgres_url  # noqa: F401  (a fixture)


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, own_workshop: Path, migrated_file: bytes) -> str | None:
    """What `Store.open` is given: nothing for the workshop's own file, or a PostgreSQL database.

    It is empty, but for tests that use `store`: theirs has its tables already, which saves a tenth of a second each.
    """
    ready = "store" in request.fixturenames
    if request.param == "postgresql":
        return _emptied_database() if ready else request.getfixturevalue("postgres_url")
    if ready:
        own_workshop.mkdir()
        (own_workshop / "workshop.db").write_bytes(migrated_file)
    return None


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    home = tmp_path_factory.mktemp("migrated")
    Store.open(home).close()
    return (home / "workshop.db").read_bytes()


@cache
def _shared_database() -> str:
    url = needed().new_database()
    Store.open(Path(), url).close()
    return url


def _emptied_database() -> str:
    store = Store.open(Path(), _shared_database())
    with store.write() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())
    store.close()
    return _shared_database()


@pytest.fixture
def open_store(own_workshop: Path, address: str | None) -> Iterator[Callable[[], Store]]:
    """Opens the test's database, as often as wanted."""
    opened: list[Store] = []

    def once_more() -> Store:
        opened.append(Store.open(own_workshop, address))
        return opened[-1]

    yield once_more
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


def sql(store: Store, statement: str, **values: Any) -> list[Any]:
    """Run a statement past all of Bottega's own code."""
    with store.write() as session:
        result = session.execute(text(statement), values)
        return list(result) if result.returns_rows else []


def make_work(id: str = "bt-one", *, outputs: int = 2, prompt: str = "What is a bottega?", **changes: Any) -> Work:
    """Return a work with everything in it."""
    steps = [{"token": 7, "token_text": "A", "logprob": -0.5, "alternatives": [{"token": 9, "text": "The"}]}]
    values: dict[str, Any] = {
        "id": id, "created": datetime.now(UTC), "door": "api", "principal": "ada", "alias": "assistant",
        "model": "python-assistant", "model_digest": "d" * 64,
        "request": {"prompt": None, "messages": [{"role": "user", "content": prompt}], "suffix": None,
                    "controls": {"seed": 2**63 - 1, "temperature": 0.7, "stop": ["secret stop"]}, "alternatives": 3},
        "status": "done", "prompt_tokens": 5, "new_tokens": 2, "seed": 2**63 - 1, "seconds": 0.25,
        "first_token_seconds": 0.01, "lineage": {"step": "generate", "parents": ["d" * 64]},
        "verdicts": [{"check": "secrets", "category": "card", "action": 2, "digest": "abcdef012345"}],
        "outputs": [WorkOutput(f"{id}.{index}", index, f"Answer {index}.", "stop", -0.5 - index, [7, 9], steps)
                    for index in range(outputs)]}
    return Work(**{**values, **changes})


class Writers:
    """Real processes that run one Python function each, forked from one that has imported the store already.

    The function is `run(store, say)`, where `store()` opens the store and `say(text)` writes a line that `said` reads.
    """

    _START = """
import os, signal, sys
from pathlib import Path
from bottega.workshop import audit, feedback
from bottega.workshop.feedback import Feedback
from bottega.workshop.store import Store
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
def store():
    return Store.open(Path(sys.argv[1]), sys.argv[2] or None)
def say(text):
    os.write(1, f"{os.getpid()} {text}\\n".encode())
"""
    _FORK = """
for line in sys.stdin:
    if os.fork() == 0:
        try:
            run(store, say)
            say("done")
        except BaseException as error:
            say(f"failed {error!r}")
        os._exit(0)
"""

    def __init__(self, script: str, home: Path, address: str | None, log: Path) -> None:
        self._log = log
        with log.open("ab") as file:
            self._parent = subprocess.Popen([sys.executable, "-c", self._START + script + self._FORK, str(home),
                                             address or ""], stdin=subprocess.PIPE, stdout=file)

    def start(self, number: int) -> None:
        """Start this many more."""
        assert self._parent.stdin is not None
        self._parent.stdin.write(b"\n" * number)
        self._parent.stdin.flush()

    def said(self) -> list[tuple[int, str]]:
        """Return process and text of each line so far."""
        lines = self._log.read_text().splitlines()
        return [(int(pid), text) for pid, _, text in (line.partition(" ") for line in lines)]

    def wait_for(self, text: str, number: int) -> list[int]:
        """Wait until this many processes said a text, and return them in order."""
        for _ in range(6000):
            found = [pid for pid, said in self.said() if said == text]
            if len(found) >= number:
                return found
            failed = [said for _, said in self.said() if said.startswith("failed")]
            assert not failed, failed
            assert self._parent.poll() is None
            time.sleep(0.01)
        raise AssertionError(f"'{text}' was said by {len(found)} of {number}")

    def close(self) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait(10)


@pytest.fixture
def writers(own_workshop: Path, address: str | None, tmp_path: Path) -> Iterator[Callable[[str], Writers]]:
    """Makes the parent of processes that run a script's function `run(store, say)`."""
    made: list[Writers] = []

    def make(script: str) -> Writers:
        made.append(Writers(script, own_workshop, address, tmp_path / f"said-{len(made)}"))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def work(store: Store) -> Work:
    """A recorded work with two outputs, bt-one.0 and bt-one.1."""
    made = make_work()
    works.record(store, made)
    return made
