"""`bottega data` on pictures: what was used, what was left out and why, and a look at it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bottega.codecs.image import ImageCodec
from tests.cli.pictures import RECIPE, command, save


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of ten pictures, a copy, an empty file and a text that is called a picture."""
    folder = tmp_path_factory.mktemp("pets")
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        for number in range(10):
            save(folder / "pets" / name / f"{number}.png", rng.integers(0, 256, (12, 12, 3)))
    first = (folder / "pets" / "cats" / "0.png").read_bytes()
    (folder / "pets" / "cats" / "again.png").write_bytes(first)
    (folder / "pets" / "cats" / "empty.png").write_bytes(b"")
    (folder / "pets" / "dogs" / "text.png").write_text("a dog")
    (folder / "pets.yaml").write_text(RECIPE.replace("SOURCE", "pets").replace("NAME", "pets"))
    return folder


def test_the_summary_counts_classes_captions_and_faults(folder: Path) -> None:
    done = command("data", "prepare", "pets.yaml", "data.licence=CC0-1.0", home=folder / "w", cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for line in ("kind: pictures", "license: CC0-1.0", "shape: 8x8, colour", "pictures read: 23", "kept: 20", "empty 1",
                 "not-a-picture 1", "exact-duplicate 1", "without 20"):
        assert line in lines, done.stdout
    for name in ("cats", "dogs"):
        words = next(line for line in lines if line.startswith(f"{name} ")).replace(",", "").split()
        assert words[2::2] == ["train", "validation"]
        assert sum(map(int, words[1::2])) == 10
    assert "pets/cats/empty.png" in done.stderr
    done = command("data", "prepare", "pets.yaml", "data.licence=CC0-1.0", "--json", home=folder / "w", cwd=folder)
    told = json.loads(done.stdout)
    assert told["skipped"] == {"empty": 1, "not-a-picture": 1}
    assert Path(folder / told["path"]).is_dir()


def test_samples_are_shown_in_words_and_on_a_sheet(folder: Path) -> None:
    done = command("data", "inspect", "pets.yaml", "-n", "20", "--sheet", "look.png", "--json", home=folder / "w",
                   cwd=folder)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    used = [row for row in rows if row["keep"]]
    with Image.open(folder / "look.png") as sheet:
        assert sheet.width == 8 * (96 + 4) + 4  # eight enlarged pictures a row
        assert sheet.height > -(-len(used) // 8) * 96
    assert {row["class"] for row in used} == {"cats", "dogs"}
    done = command("data", "inspect", "pets.yaml", "--reason", "exact-duplicate", home=folder / "w", cwd=folder)
    assert done.stdout.count("pets/cats/") == 1
    assert "dropped: exact-duplicate" in done.stdout


def test_the_sheet_shows_the_pictures_that_are_named(folder: Path) -> None:
    from bottega.data.pictures.dataset import PictureDataset
    from bottega.data.pictures.inspect import pixels, samples

    done = command("data", "prepare", "pets.yaml", "--json", home=folder / "w", cwd=folder)
    data = PictureDataset.open(folder / json.loads(done.stdout)["path"], ImageCodec)
    rows = samples(data, reason=None, kept=True, n=6, seed=1)
    codec = ImageCodec(3, 8, 8)
    for row, picture in zip(rows, pixels(data, rows), strict=True):
        assert np.array_equal(picture, codec.decode_file((folder / row["origin"]).read_bytes())), row["origin"]
    assert samples(data, reason=None, kept=True, n=6, seed=1) == rows


@pytest.mark.parametrize(("options", "words"), [
    (["--reason", "ugly"], "no picture was dropped for the reason 'ugly'"),
    (["--dropped", "--sheet", "x.png"], "nothing to show")])
def test_what_cannot_be_shown_is_refused(folder: Path, options: list[str], words: str) -> None:
    done = command("data", "inspect", "pets.yaml", *options, home=folder / "w", cwd=folder)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
