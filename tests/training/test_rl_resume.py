"""GRPO killed with SIGKILL in a real process and resumed ends with the bits of a run that was left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def trained(run: Path, *kills: int) -> str:
    done = subprocess.run([sys.executable, "-m", "tests.training.tiny_rl", str(run), *map(str, kills)], cwd=ROOT,
                          capture_output=True, text=True, check=True, timeout=280,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow
def test_killed_grpo_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")
    assert len(whole) == 64
    assert trained(tmp_path / "killed", 3, 4, 7) == whole
