"""A tiny model made once by the real command line, and a runner of the real command in a second process."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

TINY = """
name: tiny
data: {sources: [SOURCE], validation: 0.2, near_duplicates: 0}
codec: {vocab_size: 400}
generator: {family: transformer, depth: 1}
training: {budget: {steps: 4}, context: 64, batch_tokens: 256, precision: fp32, compile: "off", sample_every: 0}
"""


def bottega(*arguments: str, home: Path, cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run `python -m bottega …` for real; the workshop is `home`."""
    environment = {**os.environ, "BOTTEGA_HOME": str(home), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    return subprocess.run([sys.executable, "-m", "bottega", *arguments], cwd=cwd, env=environment, text=True,
                          capture_output=True, timeout=240, check=False, **options)  # type: ignore[call-overload]


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A working folder with texts and a recipe, and a workshop with the model `tiny` made from them."""
    folder = tmp_path_factory.mktemp("studio")
    texts = folder / "texts"
    texts.mkdir()
    for number in range(12):
        lines = [f"Line {i} of story {number}: the cat number {i * number} sat on mat {i + number}." for i in range(40)]
        (texts / f"story {number} é.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "tiny.yaml").write_text(TINY.replace("SOURCE", "texts"), encoding="utf-8")
    home = folder / "workshop"
    done = bottega("train", "tiny.yaml", "--json", home=home, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, home


@pytest.fixture
def run(studio: tuple[Path, Path]) -> Run:
    """The command line in the folder that has the tiny model."""
    folder, home = studio

    def command(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return bottega(*arguments, home=options.pop("home", home), cwd=folder, **options)  # type: ignore[arg-type]

    return command
