"""A small real workshop for tests of the doors: four models made by the real command line in about 45 seconds.

`small-lm` continues text (and fills gaps), `small-assistant` answers, `small-pictures` (diffusion, 16x16, colour)
draws "a red circle" or "a blue square", `small-digits` (vae, 8x8, grey) draws "a handwritten three". Both pytest
workers share one copy. Set BOTTEGA_TEST_HOME to a workshop with `python-lm`, `python-assistant-dpo`,
`symbols-diffusion` and `digits-vae` (from `bottega demo`) to test with those.
"""

import fcntl
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image, ImageDraw


@dataclass(frozen=True)
class SmallWorkshop:
    """Where the models are and what they are called."""

    home: Path
    lm: str
    assistant: str
    pictures: str = "small-pictures"
    digits: str = "small-digits"


_COMMON = ["training.compile=off", "training.precision=fp32", "training.sample_every=0", "evaluation.suites=[]",
           "training.validation_tokens=4096"]
_LM = ["name=small-lm", "data.sources=[python-docs]", "codec.vocab_size=1024",
       "generator={family: transformer, depth: 2, width: 96, heads: 2}", "training.budget.steps=150",
       "objective={kind: pretrain, fim: 0.3}", *_COMMON]
_ASSISTANT = ["name=small-assistant", "base=small-lm", "data.sources=[support-desk]",
              "training.budget.steps=220", *_COMMON]
_DRAWN = "drawn"
_PICTURES = ["name=small-pictures", "data.validation=0.2", "codec.size=16", "generator.depth=1",
             "training.budget.steps=60", "training.sample_every=0"]
_DIGITS = ["name=small-digits", "generator.depth=1", "training.budget.steps=60", "training.sample_every=0"]


def make_small_workshop(folder: Path) -> SmallWorkshop:
    """Make the models in `folder` unless they are there; safe when two processes ask at once."""
    given = os.environ.get("BOTTEGA_TEST_HOME")
    if given:
        return SmallWorkshop(Path(given), "python-lm", "python-assistant-dpo", "symbols-diffusion", "digits-vae")
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "BOTTEGA_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _draw_pictures(folder / _DRAWN)
        pictures = [f"data.sources=[{folder / _DRAWN}]", *_PICTURES]
        for recipe, overrides in (("python-lm", _LM), ("python-assistant", _ASSISTANT),
                                  ("digits-vae", _DIGITS), ("symbols-diffusion", pictures)):
            path = Path(__file__).parents[1] / "recipes" / f"{recipe}.yaml"
            done = subprocess.run([sys.executable, "-m", "bottega", "train", str(path), *overrides], env=environment,
                                  cwd=folder, text=True, capture_output=True, timeout=280, check=False)
            assert done.returncode == 0, done.stderr[-2000:]
    return SmallWorkshop(folder, "small-lm", "small-assistant")


def _draw_pictures(folder: Path) -> None:
    """Draw 48 captioned pictures of 16x16: circles and squares in three colours."""
    if folder.is_dir():
        return
    folder.mkdir()
    lines = []
    for colour in ("red", "blue", "green"):
        for shape in ("circle", "square"):
            for number in range(8):
                picture = Image.new("RGB", (16, 16), "white")
                pen, left, top = ImageDraw.Draw(picture), 2 + number % 3, 2 + number // 3
                draw = pen.ellipse if shape == "circle" else pen.rectangle
                draw((left, top, left + 8, top + 8), fill=colour)
                name = f"{colour}-{shape}-{number}.png"
                picture.save(folder / name)
                lines.append(json.dumps({"file_name": name, "text": f"a {colour} {shape}"}))
    (folder / "metadata.jsonl").write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="session")
def small_workshop(tmp_path_factory: pytest.TempPathFactory) -> SmallWorkshop:
    """The small workshop; tests must copy its `models` into a workshop of their own before they change anything."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    kept = os.environ.get("BOTTEGA_SMALL_WORKSHOP")  # a folder that later runs of the tests use again
    return make_small_workshop(Path(kept) if kept else shared / "small-workshop")


def copy_workshop(source: SmallWorkshop, home: Path, *, pictures: bool = False) -> Path:
    """Return a new workshop folder with the same models and the lineage of their data, linked instead of copied.

    Args:
        source: where they are.
        home: the new folder.
        pictures: take the models of pictures along.
    """
    names = (source.lm, source.assistant, *((source.pictures, source.digits) if pictures else ()))
    files = [file for name in names for file in (source.home / "models" / name).iterdir()]
    for file in (*files, *source.home.glob("data/*/lineage.json")):
        target = home / file.relative_to(source.home)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(file, target)
    return home
