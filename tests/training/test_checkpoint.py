"""Flipped bits and full disks: nothing wrong is ever loaded, nothing right is lost."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from bottega.core.errors import CorruptError, ResourceError
from bottega.core.files import verify_manifest
from bottega.training import checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    tiny.once(run, 12, 4, resume=False)
    return run


def flip(path: Path, rng: random.Random) -> tuple[Path, int, int]:
    """Flip one random bit of one random file of a folder; every byte of the folder is equally likely."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    file = rng.choices(files, weights=[p.stat().st_size for p in files])[0] if rng.random() < 0.5 else rng.choice(files)
    content = bytearray(file.read_bytes())
    place, bit = rng.randrange(len(content)), rng.randrange(8)
    content[place] ^= 1 << bit
    file.write_bytes(content)
    return file, place, bit


def test_sixty_random_bit_flips_are_all_refused_by_file_name(trained: Path, tmp_path: Path):
    rng = random.Random(11)
    for trial in range(60):
        copy = tmp_path / f"{trial}"
        shutil.copytree(trained / "checkpoints" / "step-00000012", copy)
        file, place, bit = flip(copy, rng)
        with pytest.raises(CorruptError) as caught:
            verify_manifest(copy)
        assert file.name in str(caught.value), (file, place, bit)
        shutil.rmtree(copy)


def test_training_falls_back_to_the_step_before_and_ends_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = tmp_path / "run"
    whole, _ = tiny.once(tmp_path / "whole", 12, 4, resume=False)
    tiny.once(run, 12, 4, resume=False)
    file, _, _ = flip(run / "checkpoints" / "step-00000012", random.Random(3))
    again, result = tiny.once(run, 12, 4, resume=True)
    said = capsys.readouterr().err
    assert file.name in said
    assert "resumed from step-00000008" in said
    assert tiny.digest(again) == tiny.digest(whole)
    assert result.steps == 12
    verify_manifest(run / "checkpoints" / "step-00000012")  # the corrupt one was replaced


def test_all_corrupt_is_an_error_that_names_the_file(trained: Path, tmp_path: Path):
    copy = tmp_path / "checkpoints"
    shutil.copytree(trained / "checkpoints", copy)
    for path in copy.iterdir():
        (path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CorruptError, match=r"model\.safetensors"):
        checkpoint.newest(copy)


def test_only_the_newest_are_kept(trained: Path):
    assert sorted(p.name for p in (trained / "checkpoints").iterdir()) == ["step-00000008", "step-00000012"]


def test_what_a_kill_left_unfinished_is_removed(trained: Path, tmp_path: Path):
    copy = tmp_path / "checkpoints"
    shutil.copytree(trained / "checkpoints", copy)
    (copy / "step-00000016.tmp-0123abcd").mkdir()
    found = checkpoint.newest(copy)
    assert found is not None
    assert found[1].step == 12
    assert not list(copy.glob("*.tmp-*"))


@pytest.fixture
def small_disk(tmp_path: Path):
    """A real file system of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a tmpfs needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


def test_a_full_disk_stops_with_a_clear_error_and_keeps_earlier_checkpoints(small_disk: Path):
    run = small_disk / "run"
    tiny.once(run, 4, 4, resume=False)
    before = {p.name: verify_manifest(p) for p in (run / "checkpoints").iterdir()}
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * (2 << 20))
    state = checkpoint.State(step=8, tokens=1, seconds=1.0)
    with pytest.raises(ResourceError, match="disk is full") as caught:
        checkpoint.save(run / "checkpoints", state, tiny.Tiny(), {}, keep=2)
    assert caught.value.exit_code == 5
    assert {p.name: verify_manifest(p) for p in (run / "checkpoints").iterdir()} == before
    filler.unlink()
    _, result = tiny.once(run, 4, 4, resume=True)
    assert result.steps == 4


@pytest.mark.slow
def test_ten_kills_in_mid_training_end_with_the_same_bits(tmp_path: Path):
    script = [sys.executable, tiny.__file__]
    killed = subprocess.run([*script, str(tmp_path / "killed"), "120", "7", "10"], capture_output=True, text=True)
    assert killed.returncode == 0, killed.stderr
    assert killed.stdout.split()[0] == tiny.digest(tiny.once(tmp_path / "whole", 120, 7, resume=False)[0])
