"""Connections to SQLite and PostgreSQL, and their errors in words a person can use; `Store.open` stands on this."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, StatementError, TimeoutError

from bottega.core.errors import (
    BottegaError,
    BusyError,
    CorruptError,
    InputError,
    MissingExtraError,
    ResourceError,
)
from bottega.core.files import clear_disk_errors
from bottega.workshop.schema import storable

WAIT = 30.0  # seconds a writer waits for its turn before it gives up
WRITES = "bottega_writes"  # execution option of a connection that is going to write
_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg")
_SHOWN_QUERY = ("host", "port", "dbname", "sslmode")  # anything else in an address may be a secret


def parse(home: Path, url: str | None) -> URL:
    """Return the address of the store.

    Args:
        home: the workshop folder; without `url` the store is its `workshop.db`.
        url: `sqlite:///file` or `postgresql://user:password@host/database`.

    Raises:
        InputError: not such an address.
    """
    place = url if url is not None else str(home)
    if not storable(place):
        raise InputError(f"the database {'address' if url is not None else f'folder {place!r}'} cannot be understood: "
                         "it holds a NUL or half a character", fix="choose another name")
    if url is None:
        return URL.create("sqlite", database=str(home.absolute() / "workshop.db"))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InputError("the database address cannot be understood",
                         fix="write it as postgresql://user:password@host/database or sqlite:///file") from None
    if parsed.drivername in _POSTGRES:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "sqlite" and parsed.database and parsed.database != ":memory:" and not parsed.query:
        return parsed.set(database=str(Path(parsed.database).absolute()))
    raise InputError(f"the database {shown(parsed)} cannot hold a workshop",
                     fix="use postgresql://user:password@host/database or sqlite:///file")


def shown(url: URL) -> str:
    """Return an address without its password."""
    kept = {key: value for key, value in url.query.items() if key in _SHOWN_QUERY}
    return url.set(query=kept).render_as_string(hide_password=True)


def engine(url: URL) -> Engine:
    """Return an engine with the settings the store relies on; it connects on first use.

    Raises:
        InputError: the folder of the database file cannot be made.
        MissingExtraError: PostgreSQL without psycopg.
    """
    if url.drivername == "sqlite":
        return _sqlite(url)
    try:
        return create_engine(url, hide_parameters=True, pool_pre_ping=True, pool_size=8, max_overflow=24,
                             connect_args={"connect_timeout": 10} if "connect_timeout" not in url.query else {})
    except ModuleNotFoundError:
        raise MissingExtraError("postgres", f"the database {shown(url)}") from None


def _sqlite(url: URL) -> Engine:
    path = Path(str(url.database))
    try:
        with clear_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # what people wrote is not for everyone's eyes
    except FileNotFoundError as error:
        raise InputError(f"the folder {path.parent} cannot be made", fix="choose another home") from error
    made = create_engine(url, hide_parameters=True, pool_size=8, max_overflow=24, connect_args={"timeout": WAIT})

    @event.listens_for(made, "connect")
    def _connect(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # we begin transactions ourselves
        for pragma in ("foreign_keys=ON", "synchronous=FULL", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(made, "begin")
    def _begin(connection: Any) -> None:
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if writes else 'ON'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return made


def pragma(made: Engine, statement: str) -> None:
    """Run a PRAGMA of SQLite that writes, and must stand outside a transaction."""
    connection = made.raw_connection()
    try:
        connection.cursor().execute("PRAGMA query_only=OFF").close()
        connection.cursor().execute(f"PRAGMA {statement}").close()
    finally:
        connection.close()


@contextmanager
def clear_errors(url: URL) -> Iterator[None]:
    """Turn errors of the database inside the block into errors that say what to do.

    Raises:
        CorruptError: the database file is damaged or no database.
        ResourceError: the disk is full.
        BusyError: another writer did not finish in time.
        InputError: the database may not be written, cannot be reached, or cannot hold a value.
    """
    try:
        yield
    except TimeoutError:
        raise BusyError("all connections to the database are taken", retry_after=1) from None
    except (DBAPIError, sqlite3.Error) as error:
        raise _clear(error, url) from error
    except StatementError as error:
        raise InputError(f"a value cannot be kept in the database: {error.orig}", fix="give a plain value") from error


def _clear(error: DBAPIError | sqlite3.Error, url: URL) -> BottegaError:
    raw = error.orig if isinstance(error, DBAPIError) else error
    place, said = shown(url), _said(raw, url)
    lower = said.lower()
    if "malformed" in lower or "not a database" in lower or "file is encrypted" in lower:
        return CorruptError(f"the database {place} is damaged: {said}",
                            fix="put a copy of it back, or move the file away to begin with an empty store")
    if "disk is full" in lower or "no space left" in lower:
        return ResourceError(f"the disk is full while writing the database {place}", fix="free some space")
    if "locked" in lower or "lock timeout" in lower or "lock_timeout" in lower:
        return BusyError("another program keeps the database busy", retry_after=1)
    if "readonly" in lower or "read-only" in lower or "permission denied" in lower or "unable to open" in lower:
        return InputError(f"the database {place} cannot be written: {said}",
                          fix="change the permissions of the file and of its folder, or choose another home")
    connecting = isinstance(error, DBAPIError) and (error.statement is None or error.connection_invalidated)
    if url.drivername != "sqlite" and connecting:
        return InputError(f"the database {place} cannot be reached: {said}",
                          fix="check the address, and that the server runs and lets you in")
    return BottegaError(f"the database {place} failed: {said}")


def _said(error: BaseException | None, url: URL) -> str:
    """Return what the driver said, on one line, without secrets of the address."""
    said = " ".join(str(error).split())
    secrets = [url.password or "", *(str(value) for key, value in url.query.items() if key not in _SHOWN_QUERY)]
    for secret in filter(None, secrets):
        said = said.replace(secret, "***")
    return said
