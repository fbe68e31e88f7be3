"""What can be wrong with a database, each with an error that says what to do and never shows a password."""

import logging
import os
import pwd
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url, text

from bottega.core.errors import BottegaError, CorruptError, InputError, MissingExtraError, ResourceError
from bottega.workshop import audit, database, works
from bottega.workshop.store import Store
from tests.postgres import PASSWORD, cluster
from tests.workshop.conftest import make_work


def refused(home: Path, url: str | None = None, *, kind: type[BottegaError] = InputError, match: str) -> BottegaError:
    """Open a store that cannot be opened and return the error, checked for secrets."""
    with pytest.raises(kind, match=match) as error:
        Store.open(home, url)
    shown = "".join(traceback.format_exception(error.value))
    assert PASSWORD not in shown
    assert error.value.fix
    return error.value


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a" / "b c" / "ü")
    works.record(store, make_work())
    store.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", match="cannot be written: File exists")
    refused(tmp_path / "file" / "deeper", match="cannot be written: Not a directory")
    refused(Path("/proc/nowhere"), match="/proc/nowhere cannot be made")
    for name in ("nul\0", "half \ud800"):
        refused(tmp_path, f"sqlite:///{tmp_path}/{name}", match="cannot be understood")
        refused(tmp_path / name, match="cannot be understood")
    refused(tmp_path / ("x" * 300), match="cannot be written: File name too long")
    (tmp_path / "folder" / "workshop.db").mkdir(parents=True)
    refused(tmp_path / "folder", match="cannot be written: Is a directory")


_AS_NOBODY = """
import os, sys
from pathlib import Path
from bottega.core.errors import InputError
from bottega.workshop import works
from bottega.workshop.store import Store
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
try:
    store = Store.open(Path(sys.argv[1]))
    works.forget(store, None)
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_place_that_may_only_be_read(tmp_path: Path, what: str) -> None:
    home = tmp_path / "home"
    Store.open(home).close()
    if what == "folder":
        for file in home.iterdir():
            file.unlink()
    for path in (*home.iterdir(), home):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in [home, *home.parents]:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/") and "pytest" in str(parent):
            parent.chmod(parent.stat().st_mode | 0o555)
    said = subprocess.run([sys.executable, "-c", _AS_NOBODY, str(home), str(pwd.getpwnam("nobody").pw_uid)],
                          capture_output=True, text=True, check=False)
    assert "cannot be written: Permission denied" in said.stdout, said.stderr
    assert "fix: choose another folder or change its permissions" in said.stdout
    home.chmod(0o755)


@pytest.mark.parametrize("content", [b"this is no database" * 100, os.urandom(4096), b"x" * 100])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "workshop.db").write_bytes(content)
    refused(tmp_path, kind=CorruptError, match="is damaged: file is not a database")
    assert (tmp_path / "workshop.db").read_bytes() == content


def test_a_damaged_database(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    for number in range(50):
        works.record(store, make_work(f"bt-{number}"))
    store.close()
    file = tmp_path / "workshop.db"
    content = bytearray(file.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    file.write_bytes(content)
    store = Store(database.parse(tmp_path, None))
    for use in (lambda: audit.verify(store), lambda: works.works(store), lambda: works.record(store, make_work())):
        with pytest.raises(CorruptError, match="is damaged"):
            use()
    store.close()


def test_a_full_disk(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    works.record(store, make_work())

    def fill() -> None:
        with store.write() as session:
            session.execute(text("PRAGMA max_page_count = 1"))
            for number in range(1000):
                audit.append(session, actor="x" * 900, action="a", subject=f"{number}", detail={})

    with pytest.raises(ResourceError, match="the disk is full"):
        fill()
    store.close()
    store = Store.open(tmp_path)
    assert audit.verify(store) == 1
    store.close()


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://ada:{}@host/db", "sqlite://", "sqlite:///:memory:", "://",
                                 "postgresql+asyncpg://ada:{}@host/db", "sqlite:///x.db?mode=ro", "postgresql://a:{}@h:x/d",
                                 "postgresql//ada:{}@host", "\0", "\ud800"])
def test_an_address_that_makes_no_sense(tmp_path: Path, url: str) -> None:
    refused(tmp_path, url.format(PASSWORD), match="database")


@given(st.text(max_size=30))
def test_no_address_ends_in_a_traceback(text: str) -> None:
    for url in (text, f"{text}://x", f"sqlite:///{text}", f"postgresql://{text}@h/d", f"postgresql://h/d?{text}"):
        try:
            parsed = database.parse(Path("home"), url)
        except InputError:
            continue
        assert parsed.drivername in ("sqlite", "postgresql+psycopg")
        database.shown(parsed)


@pytest.mark.parametrize("prefix", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_has_several_spellings(tmp_path: Path, postgres_url: str, prefix: str) -> None:
    store = Store.open(tmp_path, postgres_url.replace("postgresql", prefix, 1))
    assert audit.verify(store) == 0
    again = Store.open(tmp_path, store.url)  # what another process is given
    again.close()
    store.close()


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    refused(tmp_path, f"postgresql://ada:{PASSWORD}@127.0.0.1:1/db", match="cannot be reached.*refused")
    refused(tmp_path, f"postgresql://ada:{PASSWORD}@/db?host={tmp_path}", match="cannot be reached")
    refused(tmp_path, f"postgresql://ada@/db?host={tmp_path}&password={PASSWORD}", match="cannot be reached")
    refused(tmp_path, f"postgresql://ada@/db?host={tmp_path}&passwrod={PASSWORD}", match="invalid connection option")
    refused(tmp_path, f"postgresql://ada:{PASSWORD}@nowhere.invalid/db", match="cannot be reached")


def test_a_wrong_password_or_database(tmp_path: Path, postgres_url: str) -> None:
    refused(tmp_path, postgres_url.replace(PASSWORD, "wrong-pw"), match="password authentication failed")
    refused(tmp_path, postgres_url.replace("test_", "no_"), match="cannot be reached.*does not exist")


def test_a_database_that_cannot_hold_every_text(tmp_path: Path, postgres_url: str) -> None:
    running = cluster()
    assert not isinstance(running, str)
    name = f"latin_{make_url(postgres_url).database}"
    running.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0")
    refused(tmp_path, running.url(name), match="has the encoding LATIN1")


def test_a_lost_connection_is_an_error_once(tmp_path: Path, postgres_url: str) -> None:
    running = cluster()
    assert not isinstance(running, str)
    store = Store.open(tmp_path, postgres_url)
    works.record(store, made := make_work())
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{make_url(postgres_url).database}'"
    assert running.execute(cut)
    assert works.work(store, made.id) == made  # a connection that died while idle is replaced

    def write() -> None:
        with store.write() as session:
            assert running.execute(cut)
            audit.append(session, actor="ada", action="test", subject="lost", detail={})

    with pytest.raises(InputError, match="cannot be reached") as error:
        write()
    assert PASSWORD not in "".join(traceback.format_exception(error.value))
    works.record(store, make_work("bt-two"))
    assert audit.verify(store) == 2
    store.close()


def test_postgresql_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    error = refused(tmp_path, f"postgresql://ada:{PASSWORD}@host/db", kind=MissingExtraError, match="is not installed")
    assert 'pip install "bottega[postgres]"' in str(error)


def test_logs_hold_neither_passwords_nor_content(tmp_path: Path, postgres_url: str,
                                                 caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = Store.open(tmp_path, postgres_url)
    works.record(store, make_work(prompt="zebra-prompt"))
    store.close()
    assert PASSWORD not in caplog.text
    assert "zebra" not in caplog.text


def test_an_error_shows_no_content(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with pytest.raises(BottegaError) as error, store.write() as session:
        session.execute(text("INSERT INTO nothing VALUES (:words)"), {"words": "zebra" * 2})
    assert "zebrazebra" not in "".join(traceback.format_exception(error.value))
    store.close()
