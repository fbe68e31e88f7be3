"""The built-in pictures: digits as they are, and symbols that can be read back from their captions."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_helpers import shape

from bottega.core.errors import InputError, MissingExtraError, RecipeError
from bottega.core.recipe import DataSpec
from bottega.data.pictures import scenes, symbols
from bottega.data.pictures.prepare import prepare_pictures
from bottega.data.pictures.scenes import COLOURS, GROUNDS, NAMES, PLACES, Mark, Scene, attributes
from bottega.data.pictures.symbols import HELD_OUT, Drawing


def test_digits_are_scikit_learns(home: Path) -> None:
    from sklearn.datasets import load_digits

    dataset = prepare_pictures(DataSpec(sources=["digits"], validation=0.25), shape(channels=1), home=home)
    digits = load_digits()
    train, held = dataset.size("train"), dataset.size("validation")
    assert train + held == 1797 - dataset.card["bottega"]["stages"]["dropped"].get("exact-duplicate", 0)
    assert 400 < held < 500
    assert dataset.codec.classes == list("0123456789")
    assert "a handwritten three" in dataset.captions("train")
    place = int(dataset.origins("train")[5].rpartition("/")[2])
    assert dataset.labels("train")[5] == digits.target[place]
    assert np.array_equal(dataset.images("train")[5, 0], np.rint(digits.images[place] * 255 / 16).astype(np.uint8))
    assert dataset.codec.text_length == 3
    assert dataset.card["license"] == "CC-BY-4.0"


@given(st.integers(0, 2**32))
def test_a_caption_says_exactly_what_is_drawn(seed: int) -> None:
    scene = scenes.draw_scene(np.random.default_rng(seed))
    found = attributes(scene.caption)
    assert {tuple(each.items()) for each in found} == {
        (("name", mark.name), ("colour", mark.colour), ("size", mark.size), ("place", mark.place),
         ("ground", scene.ground)) for mark in scene.marks}


@pytest.mark.parametrize(("caption", "expected"), [
    ("A small red star.", [("star", "red", "small", "centre", "white")]),
    ("an orange umbrella below a small blue heart on a grey ground",
     [("umbrella", "orange", "large", "below", "grey"), ("heart", "blue", "small", "above", "grey")]),
    ("a red sun, a cyan cloud and a blue cross in a column on a black ground",
     [("sun", "red", "large", "above", "black"), ("cloud", "cyan", "large", "centre", "black"),
      ("cross", "blue", "large", "below", "black")])])
def test_captions_are_read_back(caption: str, expected: list[tuple[str, ...]]) -> None:
    assert [tuple(each.values()) for each in attributes(caption)] == expected


@pytest.mark.parametrize(("caption", "word"), [("a red strar", "star"), ("", "say for instance"),
                                               ("red star", "say for instance"), ("a red star beside a moon", "beside"),
                                               ("a " * 5000, "say for instance")])
def test_what_is_not_in_the_language_is_refused_with_advice(caption: str, word: str) -> None:
    with pytest.raises(InputError) as caught:
        attributes(caption)
    assert word in str(caught.value)


def test_drawing_is_deterministic_and_shows_each_attribute() -> None:
    def one(name: str = "star", colour: str = "red", size: scenes.Size = "large", ground: str = "white",
            seed: int = 0) -> np.ndarray:
        return symbols.draw(Scene("alone", (Mark(name, colour, size, "centre"),), ground), seed=seed)

    assert np.array_equal(one(), one())
    assert not np.array_equal(one(), one(seed=1))
    assert one().shape == (3, 32, 32)
    ground, middle = one()[:, 0, 0].astype(int), one()[:, 16, 16].astype(int)
    assert abs(ground - GROUNDS["white"]).max() <= 10
    assert abs(middle - COLOURS["red"]).max() <= 13
    shown = {size: (abs(one(size=size).astype(int) - ground[:, None, None]).max(0) > 60).sum()
             for size in ("small", "large")}
    assert shown["large"] > 2 * shown["small"] > 40
    shapes = {name: abs(one(name).astype(int) - ground[:, None, None]).max(0) > 60 for name in NAMES}
    for first, second in itertools.combinations(NAMES, 2):
        either = (shapes[first] | shapes[second]).sum()
        assert (shapes[first] ^ shapes[second]).sum() > 0.15 * either, (first, second)


@pytest.mark.parametrize(("layout", "axis"), [("side", 1), ("row", 1), ("stack", 0), ("column", 0)])
def test_symbols_stand_where_the_caption_says(layout: scenes.Layout, axis: int) -> None:
    colours = [COLOURS[name] for name in ("red", "green", "blue")]
    marks = tuple(Mark("circle", name, "large", place)
                  for name, place in zip(("red", "green", "blue"), PLACES[layout], strict=False))
    image = symbols.draw(Scene(layout, marks, "black"), 48, 40).astype(int)
    centres = []
    for colour in colours[:len(marks)]:
        near = np.argwhere(abs(image - np.array(colour)[:, None, None]).max(0) < 30)
        assert len(near) > 20
        centres.append(near.mean(0)[axis])
    assert centres == sorted(centres)
    assert min(b - a for a, b in itertools.pairwise(centres)) > 8


def test_held_out_combinations_never_occur_in_training(home: Path) -> None:
    dataset = prepare_pictures(DataSpec(sources=["symbols"], limit=4000), shape(size=32), home=home)
    seen = {split: {(each["name"], each["colour"], each["place"]) for caption in dataset.captions(split)
                    for each in attributes(caption)} for split in ("train", "validation")}
    assert not seen["train"] & HELD_OUT
    assert all(any((each["name"], each["colour"], each["place"]) in HELD_OUT for each in attributes(caption))
               for caption in dataset.captions("validation"))
    assert dataset.size("validation") > 150
    for part in range(3):
        assert {one[part] for one in seen["train"]} == {one[part] for one in scenes._every()}
    pairs = {(name, colour) for name, colour, _ in seen["train"]}
    assert len(pairs) == len(NAMES) * len(COLOURS)
    assert "<unknown>" not in {dataset.codec.words[number] for caption in dataset.captions("validation")
                               for number in dataset.codec.encode_text(caption)}
    assert dataset.codec.classes == []
    assert set(dataset.labels("train")) == {-1}


@pytest.mark.parametrize(("settings", "words"), [({"channels": 1, "size": 32}, "3 channels"), ({"size": 8}, "8 x 8")])
def test_symbols_that_cannot_be_drawn_are_refused(home: Path, settings: dict[str, int], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        prepare_pictures(DataSpec(sources=["symbols"]), shape(**settings), home=home)


@pytest.mark.parametrize(("source", "module"), [("digits", "sklearn.datasets"), ("symbols", "matplotlib")])
def test_without_the_extra_the_error_names_it(home: Path, monkeypatch: pytest.MonkeyPatch, source: str,
                                              module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"bottega\[images\]"):
        prepare_pictures(DataSpec(sources=[source]), shape(size=32), home=home)


def test_drawings_of_any_shape(home: Path) -> None:
    scene = Scene("row", tuple(Mark("star", "red", "large", place) for place in PLACES["row"]), "grey")
    for height, width in ((16, 16), (16, 64), (64, 16), (72, 72)):
        assert Drawing(height, width).picture(scene).shape == (3, height, width)
