"""What the package costs to import: no torch until a verb needs it; `python -m bottega` works from anywhere."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "pyarrow", "tokenizers", "datasets", "numpy", "resiliparse", "pypdf", "docx")


@pytest.mark.parametrize("module", ["bottega", "bottega.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_python_m_bottega_help(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "bottega", "--help"], capture_output=True, text=True, cwd=tmp_path,
                          check=False)
    assert done.returncode == 0, done.stderr
    for verb in ("demo", "train", "generate", "chat", "explain"):
        assert verb in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_user_error_is_one_message_and_its_exit_code(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "bottega", "train", "nowhere.yaml"], capture_output=True, text=True,
                          cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr
    assert "nowhere.yaml is not there" in done.stderr
    assert "Traceback" not in done.stderr
