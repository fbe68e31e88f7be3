"""Files are whole or absent, whatever kills the writer; a finished folder proves its contents."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.core import files
from bottega.core.errors import CorruptError, InputError, ResourceError
from bottega.core.files import (
    MANIFEST,
    TEMPORARY,
    atomic_dir,
    canonical_json,
    digest_json,
    read_json,
    remove_unfinished,
    sha256_file,
    verify_manifest,
    write_atomic,
    write_json,
)

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(st.none() | st.booleans() | NUMBERS | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


@given(JSON)
def test_canonical_json_reads_back_and_ignores_key_order(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    if isinstance(value, dict):
        assert canonical_json(dict(reversed(value.items()))) == text
    assert digest_json(value) == digest_json(json.loads(text))


def test_write_atomic_keeps_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_atomic(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_json_with_a_name_that_is_not_utf8_survives(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    write_json(tmp_path / "a.json", {"name": name, "ü": 1})
    assert read_json(tmp_path / "a.json") == {"name": name, "ü": 1}
    (tmp_path / "a.json").read_bytes().decode("utf-8")


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not list(tmp_path.glob("a.json*"))


def test_read_json_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(CorruptError, match=r"bad\.json is not valid JSON"):
        read_json(tmp_path / "bad.json")
    (tmp_path / "junk.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorruptError, match=r"junk\.json"):
        read_json(tmp_path / "junk.json")


_WRITER = """
import sys
from pathlib import Path
from bottega.core.files import write_atomic, atomic_dir
path, kind = Path(sys.argv[1]), sys.argv[2]
for round in range(10**9):
    content = str(round) * 200_000
    if kind == "file":
        write_atomic(path, content)
    else:
        with atomic_dir(path, replace=True) as folder:
            for name in "ab":
                (folder / name).write_text(content)
    if round == 0:
        print("ready", flush=True)  # from here on the target must always be there
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_kill_while_replacing_leaves_old_or_new_never_half(tmp_path: Path, kind: str) -> None:
    """Ten real processes that replace one file (folder) without end are killed at different moments."""
    path = tmp_path / "target"
    for attempt in range(10):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path), kind], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.02 + 0.007 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        remove_unfinished(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["target"]
        if kind == "file":
            pieces = [path.read_text()]
        else:
            verify_manifest(path)
            pieces = [(path / name).read_text() for name in "ab"]
        for text in pieces:
            assert len(text) % 200_000 == 0
            assert text == text[: len(text) // 200_000] * 200_000
        assert len(set(pieces)) == 1


def test_atomic_dir_removes_its_work_on_error_and_keeps_the_old(tmp_path: Path) -> None:
    with atomic_dir(tmp_path / "a") as folder:
        (folder / "x").write_text("1")

    def fail() -> None:
        with atomic_dir(tmp_path / "a", replace=True) as folder:
            (folder / "x").write_text("2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "a" / "x").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    with pytest.raises(InputError, match="exists already"), atomic_dir(tmp_path / "a"):
        pass


@pytest.mark.parametrize("can_exchange", [True, False])
def test_atomic_dir_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool) -> None:
    if not can_exchange:  # what a file system without RENAME_EXCHANGE answers
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for text in ("1", "2"):
        with atomic_dir(tmp_path / "a", replace=True) as folder:
            (folder / "x").write_text(text)
    assert (tmp_path / "a" / "x").read_text() == "2"
    verify_manifest(tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_remove_unfinished_puts_back_an_old_folder_and_leaves_the_living_alone(tmp_path: Path) -> None:
    (tmp_path / f"model{TEMPORARY}old-12345678").mkdir()
    (tmp_path / f"other{TEMPORARY}999999999-aaaa").mkdir()
    (tmp_path / f"file{TEMPORARY}{os.getpid()}-aaaa").write_text("half")
    living = tmp_path / f"busy{TEMPORARY}{os.getppid()}-aaaa"
    living.mkdir()
    remove_unfinished(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["model", living.name])


def _finished(tmp_path: Path) -> Path:
    with atomic_dir(tmp_path / "done") as folder:
        (folder / "weights").write_bytes(bytes(range(16)))
        (folder / "sub").mkdir()
        (folder / "sub" / MANIFEST).write_text("{}")
    return tmp_path / "done"


def test_every_single_flipped_bit_is_refused(tmp_path: Path) -> None:
    """All bits of all files, the manifest's own included."""
    folder = _finished(tmp_path)
    digest = verify_manifest(folder)
    for file in [p for p in folder.rglob("*") if p.is_file()]:
        good = file.read_bytes()
        for position in range(len(good)):
            for bit in range(8):
                flipped = bytearray(good)
                flipped[position] ^= 1 << bit
                file.write_bytes(flipped)
                with pytest.raises(CorruptError, match=file.name):
                    verify_manifest(folder)
        file.write_bytes(good)
    assert verify_manifest(folder) == digest


def test_missing_and_cut_files_are_named(tmp_path: Path) -> None:
    folder = _finished(tmp_path)
    (folder / "weights").write_bytes(b"short")
    with pytest.raises(CorruptError, match="weights does not match"):
        verify_manifest(folder)
    (folder / "weights").unlink()
    with pytest.raises(CorruptError, match="weights is missing"):
        verify_manifest(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(CorruptError, match="never finished"):
        verify_manifest(folder)
    with pytest.raises(InputError, match="not a folder"):
        verify_manifest(tmp_path / "nowhere")


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, ResourceError), (errno.EDQUOT, ResourceError),
                                              (errno.EACCES, InputError), (errno.EROFS, InputError),
                                              (errno.ENAMETOOLONG, InputError)])
def test_system_errors_become_clear_ones(tmp_path: Path, number: int, kind: type[Exception]) -> None:
    def fail(temporary: Path) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(kind, match="fix:"):
        write_atomic(tmp_path / "a", fail)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_a_resource_error(tmp_path: Path) -> None:
    def write(temporary: Path) -> None:
        with Path("/dev/full").open("wb") as file:
            file.write(b"x" * 100_000)

    write_atomic(tmp_path / "a", "old")
    with pytest.raises(ResourceError, match="disk is full"):
        write_atomic(tmp_path / "a", write)
    assert (tmp_path / "a").read_text() == "old"


def test_a_parent_that_is_a_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_atomic(tmp_path / "a" / "b" / "c", "x")


def test_sha256_of_a_large_file_equals_hashlib(tmp_path: Path) -> None:
    import hashlib

    content = os.urandom((1 << 20) + 17)
    (tmp_path / "a").write_bytes(content)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()
