"""The workshop's store: one SQLite file, or PostgreSQL by address; `bottega serve` opens it.

    store = Store.open(home)
    with store.write() as session: …      # one transaction; durable when the block ends

Writers take turns: across all processes at most one writes at a time, on both databases. That makes numbering and the
audit's hash chain safe without a retry, and SQLite's checkpoints never meet another writer.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, inspect, text
from sqlalchemy.orm import Session

from bottega.core.errors import BottegaError, BusyError, InputError
from bottega.core.files import clear_disk_errors
from bottega.workshop import database

HEAD = "0003"  # the newest migration
VERSION_TABLE = "bottega_version"
_SILENT = "60s"  # a writer that says nothing for so long has lost its machine or its network: PostgreSQL drops it
_LOCK = 0x626F7474656761  # "bottega", the advisory lock of PostgreSQL


class Store:
    """An open store; safe to use from several threads.

    Attributes:
        url: the full address, password included, as another process needs it.
        shown: the address without its password, for messages.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self.url = url.render_as_string(hide_password=False)
        self.shown = database.shown(url)
        self._closed = False
        self._turn = threading.Lock()
        self._file: int | None = None
        self._engine = database.engine(url)
        self.sqlite = url.drivername == "sqlite"
        self._writer = self._engine.execution_options(**{database.WRITES: True})
        self._reader = self._engine if self.sqlite else self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True)
        if self.sqlite:
            lock = Path(f"{url.database}-lock")
            with clear_disk_errors(lock):
                self._file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)

    @classmethod
    def open(cls, home: Path, url: str | None = None) -> Store:
        """Open the store and bring it to the newest schema; safe when several processes do so at once.

        Args:
            home: the workshop folder; without `url` the store is its `workshop.db`.
            url: `sqlite:///file` or `postgresql://user:password@host/database`.

        Raises:
            InputError: the address is wrong, the folder or file cannot be written, the server cannot be reached, or
                a newer Bottega wrote the store.
            CorruptError: the file is damaged or no database.
            MissingExtraError: PostgreSQL without psycopg.
        """
        store = cls(database.parse(home, url))
        try:
            store._prepare()
        except BaseException:
            store.close()
            raise
        return store

    def __repr__(self) -> str:
        return f"Store({self.shown})"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Yield a session that sees one state of the store, whoever writes meanwhile; it cannot change anything.

        Raises:
            BottegaError: the database failed (see `database.clear_errors`).
        """
        self._open()
        with database.clear_errors(self._url), Session(self._reader) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Yield a session whose changes are all durable when the block ends, or none after an exception.

        Raises:
            BusyError: it was not this writer's turn for half a minute.
            BottegaError: the database failed (see `database.clear_errors`).
        """
        with self._exclusive(), database.clear_errors(self._url), Session(self._writer) as session, session.begin():
            self._queue(session.connection())
            yield session

    def close(self) -> None:
        """Close all connections; the store cannot be used afterwards. Closing again does nothing."""
        if self._closed:
            return
        try:
            with self._exclusive():  # the last connection to leave writes to the file
                self._engine.dispose()
        except BusyError:
            self._engine.dispose()
        self._closed = True
        if self._file is not None:
            os.close(self._file)

    def compact(self) -> None:
        """Write the log into the database file, so that forgotten content is gone from the disk (SQLite)."""
        if self.sqlite:
            with self._exclusive(), database.clear_errors(self._url):
                database.pragma(self._engine, "wal_checkpoint(TRUNCATE)")

    def _open(self) -> None:
        if self._closed:
            raise BottegaError("the store is closed")

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the turn in this process and, on SQLite, among all processes of the workshop."""
        self._open()
        until = time.monotonic() + database.WAIT
        if not self._turn.acquire(timeout=database.WAIT):
            raise BusyError("other writers keep the workshop's store busy", retry_after=1)
        try:
            if self._file is None:
                yield
                return
            while not _lock(self._file):
                if time.monotonic() > until:
                    raise BusyError("another process keeps the workshop's store busy", retry_after=1)
                time.sleep(0.002)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._turn.release()

    def _queue(self, connection: Connection) -> None:
        """Wait for the turn among all processes on PostgreSQL; the transaction's end gives it back."""
        if not self.sqlite:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{database.WAIT:.0f}s'; "
                                       f"SET LOCAL idle_in_transaction_session_timeout = '{_SILENT}'; "
                                       f"SELECT pg_advisory_xact_lock({_LOCK})")

    def _prepare(self) -> None:
        """Migrate when the schema is not the newest."""
        with database.clear_errors(self._url), self._engine.connect() as connection:
            ready = _version(connection) == HEAD
            if ready and self.sqlite:
                ready = connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        if ready:
            return
        with self._exclusive(), database.clear_errors(self._url):
            if self.sqlite:
                database.pragma(self._engine, "journal_mode=WAL")
            with self._writer.begin() as connection:
                self._queue(connection)
                self._check_encoding(connection)
                if _version(connection) != HEAD:
                    self._migrate(connection)

    def _check_encoding(self, connection: Connection) -> None:
        encoding = "UTF8" if self.sqlite else connection.exec_driver_sql("SHOW server_encoding").scalar()
        if encoding != "UTF8":
            raise InputError(f"the database {self.shown} has the encoding {encoding}, which cannot hold every text",
                             fix="make one with: CREATE DATABASE bottega ENCODING 'UTF8' TEMPLATE template0")

    def _migrate(self, connection: Connection) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        folder = str(Path(__file__).parent / "migrations")
        config.set_main_option("script_location", folder.replace("%", "%%"))
        config.attributes["connection"] = connection
        version = _version(connection)
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if version is not None and version not in known:
            raise InputError(f"the database {self.shown} was written by a newer Bottega (schema {version}, this one "
                             f"knows {HEAD})", fix="install the newer version: pip install --upgrade bottega")
        command.upgrade(config, HEAD)


def _lock(file: int) -> bool:
    """Take the lock of a file if it is free."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _version(connection: Connection) -> str | None:
    """Return the schema's version; None for an empty database."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return None if found is None else str(found)
