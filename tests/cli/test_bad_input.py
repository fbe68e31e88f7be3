"""Everything a user can get wrong: one clear error with the fix, the right exit code, nothing lost, no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import TINY, Run, bottega


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, f"exit {done.returncode}: {done.stderr}"
    assert "Traceback" not in done.stderr
    assert "fix:" in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_wrong_recipe_key(run: Run, studio: tuple[Path, Path]) -> None:
    (studio[0] / "typo.yaml").write_text(TINY.replace("codec:", "codek:").replace("SOURCE", "texts"))
    refused(run("train", "typo.yaml"), 2, "codek", "did you mean 'codec'?")


def test_wrong_family_key(run: Run) -> None:
    refused(run("train", "tiny.yaml", "generator.hed_dim=16"), 2, "hed_dim", "head_dim")


def test_wrong_objective_key(run: Run) -> None:
    refused(run("train", "tiny.yaml", "objective.betta=1"), 2, "betta")


def test_missing_recipe(run: Run) -> None:
    refused(run("train", "nowhere.yaml"), 2, "nowhere.yaml")


def test_missing_source(run: Run) -> None:
    refused(run("train", "tiny.yaml", "data.sources=[no/such/folder]"), 2, "no/such/folder")


def test_binary_junk_is_reported_and_skipped(run: Run, studio: tuple[Path, Path]) -> None:
    junk = studio[0] / "junk"
    junk.mkdir()
    (junk / "a.txt").write_bytes(os.urandom(50_000))
    (junk / "b.pdf").write_bytes(b"%PDF-1.7 not really" + os.urandom(1000))
    refused(run("data", "prepare", "tiny.yaml", "data.sources=[junk]"), 3, "junk")
    for name in ("good", "better"):
        lines = [f"The {name} file, line {n}: plain words that anyone can read, {n * n} of them." for n in range(40)]
        (junk / f"{name}.txt").write_text("\n".join(lines))
    done = run("data", "prepare", "tiny.yaml", "data.sources=[junk]", "--json")
    assert done.returncode == 0, done.stderr


def test_empty_folder(run: Run, studio: tuple[Path, Path]) -> None:
    (studio[0] / "empty").mkdir()
    refused(run("train", "tiny.yaml", "data.sources=[empty]"), 3, "empty")


def test_one_gigabyte_in_a_single_line(run: Run, studio: tuple[Path, Path]) -> None:
    folder = studio[0] / "huge"
    folder.mkdir()
    with (folder / "one-line.txt").open("wb") as file:
        for _ in range(1024):
            file.write(b"x" * (1 << 20))
    try:
        script = ("import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30)); "
                  "from bottega.cli import main; sys.argv = ['bottega', 'data', 'prepare', 'tiny.yaml', "
                  "'data.sources=[huge]']; main()")
        done = subprocess.run([sys.executable, "-c", script], cwd=studio[0], text=True, capture_output=True,
                              timeout=240, check=False, env={**os.environ, "BOTTEGA_HOME": str(studio[1])})
        refused(done, 3, "too-long", "huge")
    finally:
        (folder / "one-line.txt").unlink()


def test_disk_full(run: Run, studio: tuple[Path, Path]) -> None:
    small = studio[0] / "small-disk"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], check=False,
                             capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no right to mount a small disk here")
    try:
        refused(run("train", "tiny.yaml", home=small), 5, "disk is full")
        assert not [p for p in small.rglob("*.tmp-*") if p.is_dir()]
        subprocess.run(["mount", "-o", "remount,size=300m", str(small)], check=True)
        done = run("train", "tiny.yaml", "--json", home=small)
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_prompt_longer_than_the_context(run: Run) -> None:
    refused(run("generate", "word " * 400, "--model", "tiny"), 2, "64")


def test_temperature_below_zero(run: Run) -> None:
    done = run("generate", "The cat", "--model", "tiny", "--temperature", "-1")
    refused(done, 2, "temperature", "-1", "greater than or equal to 0")


def test_control_of_another_medium(run: Run, studio: tuple[Path, Path]) -> None:
    refused(run("train", "tiny.yaml", "controls.guidance_scale=3", "name=wrong"), 2, "guidance_scale")


def test_unknown_model(run: Run) -> None:
    refused(run("generate", "The cat", "--model", "tinny"), 2, "tinny", "did you mean 'tiny'?")


def test_no_model_at_all(run: Run, tmp_path: Path) -> None:
    refused(run("generate", "The cat", home=tmp_path / "none"), 2, "bottega demo")


def test_malformed_row(run: Run, studio: tuple[Path, Path]) -> None:
    rows = [json.dumps({"text": f"Row {i} holds a full sentence of plain words, as it should be."}) for i in range(30)]
    rows[6] = '{"text": "never closed'
    (studio[0] / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    done = run("data", "prepare", "tiny.yaml", "data.sources=[rows.jsonl]", "data.near_duplicates=0")
    assert done.returncode == 0, done.stderr
    assert "rows.jsonl:7" in done.stderr
    (studio[0] / "bad.jsonl").write_text("{\n{\n", encoding="utf-8")
    refused(run("data", "prepare", "tiny.yaml", "data.sources=[bad.jsonl]"), 3, "bad.jsonl")


def test_flipped_bit_in_a_model(studio: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    home = tmp_path / "copy"
    shutil.copytree(studio[1] / "models", home / "models")
    weights = home / "models" / "tiny" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(bytes(content))
    done = bottega("generate", "The cat", "--model", "tiny", home=home, cwd=studio[0])
    refused(done, 4, "model.safetensors")


def test_errors_for_scripts_are_json(run: Run) -> None:
    done = run("generate", "The cat", "--model", "tinny", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["type"] == "InputError"


def test_recipe_in_a_wrong_folder_is_not_replaced_by_a_shipped_one(run: Run) -> None:
    refused(run("train", "no/such/python-lm.yaml"), 2, "no/such/python-lm.yaml")


def test_not_utf8_on_standard_input(studio: tuple[Path, Path]) -> None:
    done = subprocess.run([sys.executable, "-m", "bottega", "generate", "-", "--model", "tiny"], input=b"\xff\xfe",
                          cwd=studio[0], env={**os.environ, "BOTTEGA_HOME": str(studio[1])}, capture_output=True,
                          timeout=120, check=False)
    assert done.returncode == 2
    assert b"not valid UTF-8" in done.stderr


@pytest.mark.parametrize("content", ["{}", "[]", '{"request":{},"result":{},"model":"x"}', "{"])
def test_reproduce_of_something_else(run: Run, tmp_path: Path, content: str) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(content)
    done = run("reproduce", str(kept))
    assert done.returncode in (2, 4)
    assert "Traceback" not in done.stderr
    refused(run("reproduce", str(tmp_path)), 2, "cannot be read")


def test_results_into_a_folder(run: Run) -> None:
    refused(run("generate", "Line", "--model", "tiny", "--max-tokens", "2", "--save", "."), 2, "file name")
