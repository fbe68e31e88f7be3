"""What a recipe's `data.sources` name, divided into slices: fixed pieces of the input that are prepared one by one.

A slice depends on the input alone, never on the number of workers, and carries the SHA-256 of what it covers. Files
are grouped where a hash of their name says so and long JSONL files are cut at lines, so that an added file or row
changes few slices. `bottega data prepare` plans before it works.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from bottega.core.errors import InputError, MissingExtraError, suggest
from bottega.core.files import digest_json
from bottega.core.lineage import code_digest
from bottega.data.builtin import BUILTIN
from bottega.data.rows import is_row_file

SLICE_BYTES = 8 << 20
_GROUP_FILES, _CUT_ONE_IN = 512, 128
_BLOCK = 1 << 20
_IGNORED = frozenset(("__pycache__", "node_modules"))
Skip = Callable[[str, str, str], None]  # reason, place, detail


@dataclass(frozen=True, slots=True)
class Input:
    """One file of a slice: where it lies, its name in origins, and what it held when it was planned."""

    path: str
    name: str
    bytes: int
    modified: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Slice:
    """A piece of one source. `start`, `end` (bytes) and `line` narrow down one long JSONL file."""

    source: str
    kind: Literal["files", "rows", "builtin", "hub"]
    inputs: list[Input] = field(default_factory=list)
    start: int = 0
    end: int | None = None
    line: int = 1
    identity: str = ""

    @property
    def bytes(self) -> int:
        """Size of what it covers, 0 when unknown."""
        return self.end - self.start if self.end is not None else sum(item.bytes for item in self.inputs)

    @property
    def digest(self) -> str:
        """SHA-256 of names and contents; paths and dates are not part of it."""
        return digest_json([self.source, self.kind, [[item.name, item.sha256] for item in self.inputs], self.line,
                            self.identity])

    def plain(self) -> dict[str, Any]:
        """Return JSON-ready data for a worker; `Slice.of` reads it."""
        return asdict(self)

    @staticmethod
    def of(data: dict[str, Any]) -> Slice:
        """Rebuild a slice from `plain()`."""
        return Slice(**{**data, "inputs": [Input(**item) for item in data["inputs"]]})


def plan(sources: list[str], skip: Skip) -> list[Slice]:
    """Return the slices of all sources, in order; files that cannot be opened are given to `skip`.

    Raises:
        InputError: a source is no path, no built-in and no hub name, or is given twice.
        MissingExtraError: a hub source without the `hub` extra.
    """
    slices: list[Slice] = []
    labels: set[str] = set()
    for position, source in enumerate(sources):
        if source in sources[:position]:
            raise InputError(f"source '{source}' is given twice", where="data.sources", fix="name it once")
        if source in BUILTIN:
            identity = f"{code_digest()} python {platform.python_version()}"
            slices.append(Slice(source, "builtin", identity=identity))
        elif source.startswith("hf:"):
            slices.append(Slice(source, "hub", identity=_hub_identity(source)))
        else:
            path = Path(source).expanduser()
            if not path.exists():
                near = [*BUILTIN, *(str(path.parent / entry.name) for entry in _entries(path.parent))]
                raise InputError(f"source '{source}' is not there", where="data.sources",
                                 fix="give a folder, a file, hf:OWNER/NAME or a built-in name; "
                                     + suggest(source, near if len(near) < 200 else BUILTIN))
            label = path.resolve().name or "root"
            while label in labels:
                label += "~"
            labels.add(label)
            slices.extend(_files(path, label, skip))
    return slices


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def _walk(path: Path, skip: Skip) -> Iterator[tuple[Path, str]]:
    """Yield the files of a folder with their relative names in a fixed order; hidden ones are left out."""
    if not path.is_dir():
        yield path, path.name
        return
    for folder, folders, names in os.walk(path, onerror=lambda error: skip(
            "unreadable", str(error.filename), error.strerror or str(error))):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _IGNORED)
        for name in sorted(names):
            file = Path(folder) / name
            if not name.startswith(".") and file.is_file():
                yield file, file.relative_to(path).as_posix()


def _files(path: Path, label: str, skip: Skip) -> Iterator[Slice]:
    group: list[Input] = []
    for file, name in _walk(path, skip):
        # A name in another encoding than UTF-8 is kept readable, and its origin stays unique.
        origin = (f"{label}/{name}" if path.is_dir() else label).encode("utf-8", "surrogateescape").decode(
            "utf-8", "backslashreplace")
        try:
            if is_row_file(name):
                yield from _row_slices(file, label, origin)
                continue
            entry = _hashed(file, origin)
        except OSError as error:
            skip("unreadable", str(file), error.strerror or str(error))
            continue
        group.append(entry)
        last_byte = int.from_bytes(hashlib.sha256(origin.encode()).digest()[:2], "little")
        if (last_byte % _CUT_ONE_IN == 0 or len(group) >= _GROUP_FILES
                or sum(item.bytes for item in group) >= SLICE_BYTES):
            yield Slice(label, "files", group)
            group = []
    if group:
        yield Slice(label, "files", group)


def _hashed(file: Path, origin: str) -> Input:
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        status = os.fstat(handle.fileno())
        while block := handle.read(_BLOCK):
            digest.update(block)
    return Input(str(file), origin, status.st_size, status.st_mtime_ns, digest.hexdigest())


def _row_slices(file: Path, label: str, origin: str) -> Iterator[Slice]:
    """Yield a whole file of rows, or an uncompressed JSONL file in pieces that end at a line end."""
    if not file.name.lower().endswith((".jsonl", ".ndjson")) or file.stat().st_size <= SLICE_BYTES:
        yield Slice(label, "rows", [_hashed(file, origin)])
        return
    with file.open("rb") as handle:
        status = os.fstat(handle.fileno())
        position, line = 0, 1
        while position < status.st_size:
            digest, size, newlines = hashlib.sha256(), 0, 0
            while block := (handle.read(_BLOCK) if size < SLICE_BYTES else handle.readline(_BLOCK)):
                digest.update(block)
                newlines += block.count(b"\n")
                size += len(block)
                if size > SLICE_BYTES and block.endswith(b"\n"):
                    break
            entry = Input(str(file), origin, status.st_size, status.st_mtime_ns, digest.hexdigest())
            yield Slice(label, "rows", [entry], start=position, end=position + size, line=line)
            position, line = position + size, line + newlines
            if not size:
                return


def load_hub(source: str) -> Any:
    """Load `hf:OWNER/NAME` or `hf:OWNER/NAME@CONFIG` with the `datasets` library: a mapping from split to rows.

    Raises:
        MissingExtraError: `datasets` is not installed.
        InputError: the hub has no such dataset or cannot be reached.
    """
    try:
        from datasets import load_dataset
    except ImportError:
        raise MissingExtraError("hub", f"the Hugging Face dataset '{source}'") from None
    name, _, config = source.removeprefix("hf:").partition("@")
    try:
        return load_dataset(name, config or None)
    except Exception as error:  # the library raises many kinds: network, names, formats
        raise InputError(f"'{source}' cannot be loaded: {type(error).__name__}: {error}", where="data.sources",
                         fix="check the name and the network, or download its files and name the folder") from error


def _hub_identity(source: str) -> str:
    return digest_json({name: part._fingerprint for name, part in load_hub(source).items()})
