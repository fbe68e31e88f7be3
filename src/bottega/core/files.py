"""Files that are never seen half written, and folders that prove their own contents.

Every file Bottega keeps is written to a temporary name, fsynced and renamed. A finished folder (bundle,
checkpoint, dataset) carries `manifest.json` with the SHA-256 and size of each file, itself covered by a digest.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bottega.core.errors import CorruptError, InputError, ResourceError

MANIFEST = "manifest.json"
TEMPORARY = ".tmp-"  # a name that holds this was never finished and may be deleted
_OLD = f"{TEMPORARY}old-"  # the finished folder a replacement was about to take the place of
_BLOCK = 1 << 20


def canonical_json(value: Any) -> str:
    """Return JSON text that is the same for equal values: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_json(value: Any) -> str:
    """Return the SHA-256 (64 hex digits) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 (64 hex digits) of a file, read in 1 MiB blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def clear_disk_errors(path: Path) -> Iterator[None]:
    """Turn 'no space left' and 'permission denied' inside the block into errors that say what to do.

    Raises:
        ResourceError: the disk is full or over quota.
        InputError: the place may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(f"the disk is full while writing {path}", where=str(path.parent),
                                fix="free some space and run the same command again; "
                                    "what was finished before is kept and reused") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
                           errno.ENAMETOOLONG):
            raise InputError(f"{error.filename or path} cannot be written: {error.strerror}", where=str(path.parent),
                             fix="choose another folder or change its permissions") from error
        raise
    except Exception as error:  # the writer of weights is Rust and has an exception of its own for a full disk
        if "StorageFull" not in str(error) and "No space left" not in str(error):
            raise
        raise ResourceError(f"the disk is full while writing {path}", where=str(path.parent),
                            fix="free some space and run the same command again; "
                                "what was finished before is kept and reused") from error


def fsync_dir(path: Path) -> None:
    """Make a rename inside a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_atomic(path: Path, content: bytes | str | Callable[[Path], None]) -> None:
    """Write one file so that a reader sees the old or the new content, never a part.

    Args:
        path: final name; missing parent folders are made.
        content: the bytes, the text (UTF-8), or a function that writes the temporary file it is given.

    Raises:
        ResourceError: the disk is full; the old file is untouched.
    """
    temporary = _unfinished(path)
    with clear_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if callable(content):
                content(temporary)
            else:
                temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
            _fsync_file(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_dir(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically (see `write_atomic`)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # a file name that is not UTF-8: escapes can hold it
        text = json.dumps(value, indent=2, allow_nan=False)
    write_atomic(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is not there.
        CorruptError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there", fix="check the path") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", fix="name a file you may read") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise CorruptError(f"{path} is not valid JSON: {error}", where=str(path),
                           fix="delete it and make it again") from error


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the disk does not allow that; weights are gigabytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def _unfinished(path: Path) -> Path:
    """Return a temporary name beside `path` that says which process is at work on it."""
    if not path.name:
        raise InputError(f"'{path}' is a folder, not a name to write to", fix="give a file name")
    return path.with_name(f"{path.name}{TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:8]}")


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; false where the system or the file system cannot (renameat2, renamex_np)."""
    swap, here = 2, -100  # RENAME_EXCHANGE = RENAME_SWAP = 2; AT_FDCWD = -100
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            return bool(library.renameat2(here, os.fsencode(one), here, os.fsencode(other), swap) == 0)
        if sys.platform == "darwin":
            return bool(library.renamex_np(os.fsencode(one), os.fsencode(other), swap) == 0)
    except (AttributeError, OSError, TypeError):
        pass
    return False


@contextmanager
def atomic_dir(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Build a folder under a temporary name; on success hash, fsync and rename it into place.

    The block fills the yielded folder. On any exception the temporary folder is removed and `path` is untouched.

    Args:
        path: final name.
        replace: swap out an existing folder; without it an existing one is an error.

    Raises:
        InputError: `path` exists and `replace` is false.
        ResourceError: the disk is full.
    """
    if path.exists() and not replace:
        raise InputError(f"{path} exists already", fix="choose another name or remove it")
    temporary = _unfinished(path)
    with clear_disk_errors(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            write_manifest(temporary)
            for file in sorted(temporary.rglob("*")):
                if file.is_file():
                    _fsync_file(file)
                else:
                    fsync_dir(file)
            fsync_dir(temporary)
            if not path.exists():
                os.replace(temporary, path)
            elif not _exchange(temporary, path):  # where two renames are needed, a kill between them leaves `old`,
                old = path.with_name(f"{path.name}{_OLD}{uuid.uuid4().hex[:8]}")  # which remove_unfinished puts back
                os.replace(path, old)
                os.replace(temporary, path)
                shutil.rmtree(old, ignore_errors=True)
            fsync_dir(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _alive(process: str) -> bool:
    """Whether another process of this number runs."""
    if not process.isdigit() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def remove_unfinished(folder: Path) -> None:
    """Delete what killed processes left under temporary names directly inside `folder`; leave living ones' work."""
    for path in sorted(folder.glob(f"*{TEMPORARY}*")):
        name, _, rest = path.name.partition(TEMPORARY)
        if path.name.startswith(f"{name}{_OLD}") and not (folder / name).exists():
            os.replace(path, folder / name)
        elif _alive(rest.partition("-")[0]):
            continue
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def file_table(folder: Path, *, without: tuple[str, ...] = (MANIFEST,)) -> dict[str, dict[str, Any]]:
    """Return size in bytes and SHA-256 of each file below a folder, by relative path, but for those in `without`."""
    return {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.relative_to(folder).as_posix() not in without
    }


def write_manifest(folder: Path) -> str:
    """Write `manifest.json` over all files of a folder and return the folder's digest (64 hex digits)."""
    files = file_table(folder)
    digest = digest_json(files)
    write_json(folder / MANIFEST, {"files": files, "digest": digest})
    return digest


def verify_manifest(folder: Path) -> str:
    """Check every file of a finished folder against its manifest and return the folder's digest.

    Raises:
        InputError: the folder is not there.
        CorruptError: a file is missing, has another size or other content; the message names it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", fix="check the path")
    if not (folder / MANIFEST).is_file():
        raise CorruptError(f"{folder} has no {MANIFEST}: it was never finished or was changed by hand",
                           where=str(folder), fix="make it again")
    manifest = read_json(folder / MANIFEST)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or digest_json(files) != manifest.get("digest"):
        raise CorruptError(f"{folder / MANIFEST} does not match its own digest", where=str(folder),
                           fix="restore the folder from a copy or make it again")
    for name, entry in files.items():
        file = folder / name
        if not file.is_file():
            raise CorruptError(f"{file} is missing", where=str(folder), fix="restore it or make the folder again")
        if file.stat().st_size != entry["bytes"] or sha256_file(file) != entry["sha256"]:
            raise CorruptError(f"{file} does not match the SHA-256 in {MANIFEST}", where=str(folder),
                               fix="restore it from a copy or make the folder again")
    return str(manifest["digest"])
