"""The files of a folder or of a zip archive, under names that cannot point outside it.

Nothing of an archive is ever written to disk. Exercised by `pytest tests/data/test_pictures.py`.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from bottega.core.errors import DataError
from bottega.core.files import digest_json, sha256_file
from bottega.data.pictures.record import Fault

FILE_BYTES = 64 << 20    # a picture or a sidecar above this is left out
TABLE_BYTES = 256 << 20
_IGNORED = frozenset(("__pycache__", "__MACOSX", "node_modules"))


class Unread(Exception):
    """A file that cannot be read, with the reason counted in the card."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class Tree(Protocol):
    """Files by relative name.

    Attributes:
        names: with `/` between parts, in a fixed order, without hidden ones.
        faults: what was left out while listing.
    """

    names: list[str]
    faults: list[Fault]

    def read(self, name: str, limit: int = FILE_BYTES) -> bytes:
        """Return a file's content.

        Raises:
            Unread: it cannot be read or is longer than `limit` bytes.
        """

    def identity(self) -> str:
        """Return a digest of all names and contents."""


class FolderTree:
    """The files below a folder, or a single file."""

    def __init__(self, path: Path) -> None:
        self.path, self.faults = path, list[Fault]()
        self._files = dict(self._walk())
        self.names = list(self._files)

    def _walk(self) -> Iterator[tuple[str, Path]]:
        if not self.path.is_dir():
            yield self.path.name, self.path
            return
        for folder, folders, names in os.walk(self.path, onerror=self._unlisted):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _IGNORED)
            for name in sorted(names):
                file = Path(folder) / name
                if not name.startswith(".") and file.is_file():
                    yield _printable(file.relative_to(self.path).as_posix()), file

    def _unlisted(self, error: OSError) -> None:
        self.faults.append(Fault(str(error.filename), "unreadable", error.strerror or str(error)))

    def path_of(self, name: str) -> Path:
        """Return where a file lies."""
        return self._files[name]

    def read(self, name: str, limit: int = FILE_BYTES) -> bytes:
        """See `Tree`."""
        try:
            with self._files[name].open("rb") as file:
                return _bounded(file.read(limit + 1), limit)
        except OSError as error:
            raise Unread("unreadable", error.strerror or str(error)) from error

    def identity(self) -> str:
        """See `Tree`; a file that cannot be read counts as such."""
        return digest_json([[name, _sha256(file)] for name, file in self._files.items()])


class ZipTree:
    """The members of a zip archive whose names stay inside it.

    Args:
        path: the archive.
        inside: folder of the archive to keep to, such as `icons/32`; empty is all of it.

    Raises:
        DataError: the file is not a zip archive.
    """

    def __init__(self, path: Path, inside: str = "") -> None:
        self.path, self.faults = path, list[Fault]()
        start = f"{inside}/" if inside else ""
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise DataError(f"{path} is not a readable zip archive: {error}", where="data.sources",
                            fix="pack it again, or name the folder itself") from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in self._archive.infolist():
            parts = member.filename.split("/")
            if member.is_dir() or any(part in _IGNORED or (part.startswith(".") and part != "..") for part in parts):
                continue
            if "\\" in member.filename or ".." in parts or "" in parts or ":" in parts[0]:
                self.faults.append(Fault(f"{path}: {_printable(member.filename)!r}", "unsafe-name",
                                         "the name points outside the archive"))
                continue
            if member.filename.startswith(start):
                self._members[_printable(member.filename.removeprefix(start))] = member
        self.names = sorted(self._members, key=lambda name: name.split("/"))

    def read(self, name: str, limit: int = FILE_BYTES) -> bytes:
        """See `Tree`."""
        member = self._members[name]
        try:
            if member.file_size > limit:
                raise Unread("too-large", f"{member.file_size >> 20} MB; {limit >> 20} MB are read at most")
            with self._archive.open(member) as file:
                return _bounded(file.read(limit + 1), limit)
        except RuntimeError as error:  # how zipfile says that a password is needed
            raise Unread("encrypted", str(error)) from error
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
            raise Unread("damaged", f"the archive is damaged here: {error}") from error

    def identity(self) -> str:
        """See `Tree`."""
        return sha256_file(self.path)


def _bounded(data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise Unread("too-large", f"over {limit >> 20} MB")
    return data


def _sha256(file: Path) -> str:
    try:
        return sha256_file(file)
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _printable(name: str) -> str:
    """Return a name that is not UTF-8 in a form that can be written down."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
