"""A private PostgreSQL for tests: one cluster a test session in a temporary folder, a new database for each test.

Import `postgres_url` into a conftest.py. Without a server, tests that need it are skipped with a reason; with
BOTTEGA_REQUIRE_POSTGRES set they fail.
"""

import atexit
import getpass
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "s3cret-of-the-tests"


@dataclass(frozen=True)
class Cluster:
    """A running server that listens on a Unix socket in `folder` only."""

    folder: Path
    server: subprocess.Popen[bytes]

    def url(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql://bottega:{password}@/{database}?host={self.folder}"

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run one statement in a connection of its own and return its rows."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def new_database(self) -> str:
        """Make an empty database and return its address."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)


def _programs() -> Path | None:
    """Return the folder of initdb and postgres, the newest if several."""
    found = shutil.which("initdb")
    folders = [os.path.dirname(os.path.realpath(found))] if found else []
    folders += sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    return next((Path(folder) for folder in folders if Path(folder, "initdb").exists()
                 and Path(folder, "postgres").exists()), None)


def _user() -> str:
    """Return who runs the server: it refuses to run as root."""
    if os.geteuid() != 0:
        return getpass.getuser()
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


@cache
def cluster() -> Cluster | str:
    """Return the session's server, started on first use and stopped at exit; or the reason why there is none."""
    programs = _programs()
    if programs is None:
        return "no PostgreSQL server here: install postgresql"
    try:
        import psycopg
    except ImportError:
        return "psycopg is not installed"
    folder = Path(tempfile.mkdtemp(prefix="bottega-pg-", dir="/tmp"))  # a socket's path must be short
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        entry = pwd.getpwnam(_user())
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    made = subprocess.run([programs / "initdb", "--pgdata", folder / "data", "--username=bottega", "--pwfile", secret,
                           "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"], cwd=folder,
                          capture_output=True, text=True, check=False, **user)
    if made.returncode != 0:
        return f"initdb failed: {made.stderr[-500:]}"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off",
             "-c", "full_page_writes=off", "-c", "shared_buffers=32MB", "-c", "max_connections=100"],
            cwd=folder, stdout=log, stderr=log, **user)
    running = Cluster(folder, server)
    atexit.register(_stop, server)
    for _ in range(300):
        try:
            running.execute("SELECT 1")
            return running
        except psycopg.OperationalError:
            if server.poll() is not None:
                break
            time.sleep(0.1)
    return f"the PostgreSQL server did not start: {(folder / 'log').read_text()[-500:]}"


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGINT)  # fast shutdown
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def needed() -> Cluster:
    """Return the session's server; without one the test is skipped, or fails where a server is required."""
    running = cluster()
    if isinstance(running, str):
        (pytest.fail if os.environ.get("BOTTEGA_REQUIRE_POSTGRES") else pytest.skip)(running)
    return running


@pytest.fixture
def postgres_url() -> str:
    """The address of an empty database of the session's PostgreSQL server."""
    return needed().new_database()
