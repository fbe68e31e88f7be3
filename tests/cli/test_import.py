"""`bottega import` as a person runs it: a pipeline folder becomes a model that draws, is edited and reproduced."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import bottega as run
from tests.generation import tiny_pipelines as tiny

pytest.importorskip("diffusers", reason="imported pipelines need diffusers: pip install 'bottega[hub]'")


def bottega(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run(*arguments, home=cwd / "workshop", cwd=cwd)


def test_from_a_folder_to_a_picture_and_back(tmp_path: Path) -> None:
    source = tiny.stable_diffusion(tmp_path / "sd")
    done = bottega("import", str(source), "--name", "tiny", "--licence", "MIT", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["pipeline"] == "StableDiffusionPipeline"
    assert "strength" in told["controls"]
    done = bottega("generate", "a red star", "--model", "tiny", "--steps", "3", "--n", "2", "--grid", "-o", "star.png",
                   cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["star-0.png", "star-1.png", "star-grid.png"]
    assert bottega("reproduce", "star-1.png", cwd=tmp_path).stdout.strip() == "same pixels"
    done = bottega("generate", "", "--model", "tiny", "--image", "star-0.png", "--steps", "3", "-o", "near.png",
                   cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert bottega("reproduce", "near.png", cwd=tmp_path).stdout.strip() == "same pixels"
    again = bottega("import", str(source), "--name", "tiny", cwd=tmp_path)
    assert again.returncode != 0
    assert "exists already" in again.stderr


@pytest.mark.parametrize(("arguments", "says"), [
    (("nowhere", "--name", "x"), "is not a folder"), ((".", "--name", "../x"), "cannot be a model's name"),
    ((".", "--name", "x"), "not a diffusers pipeline")])
def test_what_cannot_be_imported_is_said(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    done = bottega("import", *arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr
