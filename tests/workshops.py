"""A small real workshop for tests of the doors: two models made by the real command line in about half a minute.

`small-lm` continues text (and fills gaps), `small-assistant` answers. Both pytest workers share one copy. Set
BOTTEGA_TEST_HOME to a workshop with `python-lm` and `python-assistant-dpo` (from `bottega demo`) to test with those.
"""

import fcntl
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class SmallWorkshop:
    """Where the models are and what they are called."""

    home: Path
    lm: str
    assistant: str


_COMMON = ["training.compile=off", "training.precision=fp32", "training.sample_every=0", "evaluation.suites=[]",
           "training.validation_tokens=4096"]
_LM = ["name=small-lm", "data.sources=[python-docs]", "codec.vocab_size=1024",
       "generator={family: transformer, depth: 2, width: 96, heads: 2}", "training.budget.steps=150",
       "objective={kind: pretrain, fim: 0.3}", *_COMMON]
_ASSISTANT = ["name=small-assistant", "base=small-lm", "data.sources=[support-desk]",
              "training.budget.steps=220", *_COMMON]


def make_small_workshop(folder: Path) -> SmallWorkshop:
    """Make both models in `folder` unless they are there; safe when two processes ask at once."""
    given = os.environ.get("BOTTEGA_TEST_HOME")
    if given:
        return SmallWorkshop(Path(given), "python-lm", "python-assistant-dpo")
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "BOTTEGA_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for recipe, overrides in (("python-lm", _LM), ("python-assistant", _ASSISTANT)):
            path = Path(__file__).parents[1] / "recipes" / f"{recipe}.yaml"
            done = subprocess.run([sys.executable, "-m", "bottega", "train", str(path), *overrides], env=environment,
                                  cwd=folder, text=True, capture_output=True, timeout=280, check=False)
            assert done.returncode == 0, done.stderr[-2000:]
    return SmallWorkshop(folder, "small-lm", "small-assistant")


@pytest.fixture(scope="session")
def small_workshop(tmp_path_factory: pytest.TempPathFactory) -> SmallWorkshop:
    """The small workshop; tests must copy its `models` into a workshop of their own before they change anything."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    kept = os.environ.get("BOTTEGA_SMALL_WORKSHOP")  # a folder that later runs of the tests use again
    return make_small_workshop(Path(kept) if kept else shared / "small-workshop")


def copy_workshop(source: SmallWorkshop, home: Path) -> Path:
    """Return a new workshop folder with the same models and the lineage of their data, linked instead of copied."""
    files = [file for name in (source.lm, source.assistant) for file in (source.home / "models" / name).iterdir()]
    for file in (*files, *source.home.glob("data/*/lineage.json")):
        target = home / file.relative_to(source.home)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(file, target)
    return home
