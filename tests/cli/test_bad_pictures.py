"""What can be wrong with pictures, masks, sizes and words: one clear error each, or a conversion that is tested."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bottega.codecs.image import ImageCodec
from bottega.data.pictures.dataset import PictureDataset
from tests.cli.conftest import bottega
from tests.cli.pictures import RECIPE, bomb, command, save
from tests.cli.test_bad_input import refused

pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install 'bottega[images]'")
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with three tiny models of digits: words and classes, classes alone, and a GAN."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "flow.yaml").write_text(RECIPE.replace("SOURCE", "digits").replace("NAME", "flow"))
    for change in ([], ["name=classes", "codec.text_length=0"], ["name=gan", "generator.family=gan"]):
        done = command("train", "flow.yaml", "codec.channels=1", *change, home=folder / "w", cwd=folder)
        assert done.returncode == 0, done.stderr
    save(folder / "good.png", RNG.integers(0, 256, (16, 16, 3)))
    return folder


def draw(folder: Path, prompt: str, *options: str, model: str = "flow") -> subprocess.CompletedProcess[str]:
    return command("generate", prompt, "--model", model, "-o", "out.png", *options, home=folder / "w", cwd=folder)


# pictures that a model is to start from

def test_an_empty_file_as_a_user_meets_it(folder: Path) -> None:
    (folder / "empty.png").write_bytes(b"")
    done = bottega("generate", "3", "--model", "flow", "--image", "empty.png", home=folder / "w", cwd=folder)
    refused(done, 3, "the file is empty")


def test_a_text_that_is_called_a_picture(folder: Path) -> None:
    (folder / "text.png").write_text("not a picture")
    refused(draw(folder, "3", "--image", "text.png"), 3, "not a picture", "PNG")


def test_a_file_that_is_not_there(folder: Path) -> None:
    refused(draw(folder, "3", "--image", "nowhere.png"), 2, "nowhere.png")


def test_a_decompression_bomb(folder: Path) -> None:
    size = bomb(folder / "bomb.png").stat().st_size
    assert size < 100_000
    done = draw(folder, "3", "--image", "bomb.png")
    refused(done, 3, "12000 x 12000", "million")
    assert done.stderr.startswith("error: ")  # and nothing else is told


def test_a_picture_cut_off_in_the_middle(folder: Path) -> None:
    whole = (folder / "good.png").read_bytes()
    (folder / "half.png").write_bytes(whole[:len(whole) // 2])
    refused(draw(folder, "3", "--image", "half.png"), 3, "damaged")


def test_a_model_that_cannot_start_from_a_picture(folder: Path) -> None:
    refused(draw(folder, "3", "--image", "good.png", model="gan"), 2, "gan", "cannot start from a picture")


# masks

def test_a_mask_of_another_size(folder: Path) -> None:
    save(folder / "small.png", np.full((8, 16), 255))
    refused(draw(folder, "3", "--image", "good.png", "--mask", "small.png"), 2, "16x8", "16x16", "mask")


def test_a_mask_that_keeps_everything(folder: Path) -> None:
    save(folder / "black.png", np.zeros((16, 16)))
    refused(draw(folder, "3", "--image", "good.png", "--mask", "black.png"), 2, "keeps the whole picture")


def test_a_mask_without_a_picture(folder: Path) -> None:
    save(folder / "white.png", np.full((16, 16), 255))
    refused(draw(folder, "3", "--mask", "white.png"), 2, "--image")


# words, classes, controls, sizes

def test_a_prompt_longer_than_the_model_reads(folder: Path) -> None:
    refused(draw(folder, "a handwritten three " * 20), 2, "60 words", "at most 3")


def test_an_unknown_word(folder: Path) -> None:
    refused(draw(folder, "a handwriten three"), 2, "never read the word 'handwriten'", "did you mean 'handwritten'?")


def test_an_unknown_class(folder: Path) -> None:
    refused(draw(folder, "cat", model="classes"), 2, "knows no 'cat'", "0, 1, 2")


def test_an_unknown_control(folder: Path) -> None:
    refused(draw(folder, "3", "--top-p", "0.5"), 2, "a diffusion model does not understand the control 'top_p'")


def test_an_unknown_sampler(folder: Path) -> None:
    refused(draw(folder, "3", "--sampler", "eulre"), 2, "sampler", "euler")


def test_more_than_all_of_a_picture(folder: Path) -> None:
    refused(draw(folder, "3", "--image", "good.png", "--strength", "1.5"), 2, "strength", "1.5")


@pytest.mark.parametrize("size", ["16x16", "0x8", "large"])
def test_another_size_than_the_model_draws(folder: Path, size: str) -> None:
    refused(draw(folder, "3", "--size", size), 2, "size")
    if size == "16x16":
        refused(draw(folder, "3", "--size", size), 2, "8x8")


@pytest.mark.parametrize("family", ["vae", "gan", "diffusion"])
def test_a_size_that_the_network_cannot_halve(folder: Path, family: str) -> None:
    done = command("train", "flow.yaml", f"generator.family={family}", "codec.channels=1", "codec.size=9x8",
                   "name=odd", home=folder / "w", cwd=folder)
    refused(done, 2, "multiples of")


@pytest.mark.parametrize(("size", "words"), [("3", "4 to 1024"), ("5000", "4 to 1024"), ("8y8", "HEIGHTxWIDTH")])
def test_a_size_that_is_none(folder: Path, size: str, words: str) -> None:
    done = command("train", "flow.yaml", f"codec.size={size}", "name=none", home=folder / "w", cwd=folder)
    refused(done, 2, words)


# pictures to learn from: what can be used is converted, what cannot is named and counted

@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[PictureDataset[ImageCodec], dict[str, Any], str]:
    """A folder of unusual files prepared by the command line: the set, the printed facts and what was said."""
    folder = tmp_path_factory.mktemp("unusual")
    files = folder / "files"
    for number in range(6):
        save(files / f"plain{number}.png", RNG.integers(0, 256, (8, 8, 3)))
    save(files / "cmyk.jpg", np.broadcast_to([0, 255, 255, 0], (8, 8, 4)), "CMYK", quality=100)
    save(files / "deep.png", np.full((8, 8), 40_000, dtype=np.uint16))
    save(files / "clear.png", np.broadcast_to([200, 0, 0, 0], (8, 8, 4)))
    save(files / "half.png", np.broadcast_to([255, 0, 0, 128], (8, 8, 4)))
    from PIL import Image

    moving = [Image.fromarray(np.full((8, 8, 3), shade, dtype=np.uint8)) for shade in (10, 200)]
    moving[0].save(files / "moving.gif", save_all=True, append_images=moving[1:])
    (files / "empty.png").write_bytes(b"")
    (files / "text.jpg").write_text("nothing to see")
    bomb(files / "bomb.png")
    for picture in sorted(files.iterdir()):
        if picture.stem != "plain3":
            picture.with_suffix(".txt").write_text(f"{picture.stem} words")
    (folder / "r.yaml").write_text(RECIPE.replace("SOURCE", "files").replace("NAME", "r"))
    done = command("data", "prepare", "r.yaml", home=folder / "w", cwd=folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(command("data", "prepare", "r.yaml", "--json", home=folder / "w", cwd=folder).stdout)
    return PictureDataset.open(folder / told["path"], ImageCodec), told, done.stderr


@pytest.mark.parametrize(("name", "colour"), [
    ("cmyk.jpg", (255, 0, 0)), ("deep.png", (156, 156, 156)), ("clear.png", (255, 255, 255)),
    ("half.png", (255, 127, 127)), ("moving.gif", (10, 10, 10))])
def test_unusual_pictures_become_plain_ones(prepared: tuple[PictureDataset[ImageCodec], dict[str, Any], str], name: str,
                                            colour: tuple[int, int, int]) -> None:
    data = prepared[0]
    found = [picture for split in ("train", "validation")
             for picture, origin in zip(data.images(split), data.origins(split), strict=True) if origin.endswith(name)]
    assert len(found) == 1
    assert np.abs(found[0].astype(int) - np.array(colour)[:, None, None]).max() <= 2, found[0][:, 0, 0]


def test_files_that_cannot_be_used_are_counted_and_named(
        prepared: tuple[PictureDataset[ImageCodec], dict[str, Any], str]) -> None:
    assert prepared[1]["skipped"] == {"empty": 1, "not-a-picture": 1, "too-large": 1}
    for name in ("files/empty.png", "files/text.jpg", "files/bomb.png"):
        assert name in prepared[2], prepared[2]


def test_a_missing_caption_is_named_and_the_picture_is_used(
        prepared: tuple[PictureDataset[ImageCodec], dict[str, Any], str]) -> None:
    assert prepared[1]["captions"]["without"] == 1
    assert "used without a caption" in prepared[2]
    assert "plain3.png" in prepared[2]
