"""A model of pictures from a recipe to a file and back: the same loop, bundle, guard and record as texts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.cli.conftest import bottega

from bottega.codecs.image import ImageCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import BottegaError, ControlError, InputError, Interrupted, RecipeError
from bottega.core.recipe import Recipe
from bottega.core.request import Controls, Request
from bottega.generation.pictures import open_pictures
from bottega.training.run import make

pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install 'bottega[images]'")

RECIPE = """
name: small-FAMILY
data: {sources: [digits], validation: 0.25}
codec: {kind: image, size: 8, channels: 1}
generator: {family: FAMILY, depth: 1}
objective: {kind: pictures}
training: {budget: {steps: STEPS}, batch: 32, optimizer: adamw, weight_decay: 0, precision: fp32, compile: "off",
           validate_every: 1, checkpoint_every: 10}
"""


def recipe(folder: Path, family: str, steps: int, *overrides: str) -> Recipe:
    file = folder / f"{family}.yaml"
    file.write_text(RECIPE.replace("FAMILY", family).replace("STEPS", str(steps)))
    return Recipe.load(file, list(overrides))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def vae(home: Path) -> Bundle:
    return make(recipe(home, "vae", 150), home=home)


def test_training_lowers_the_held_out_loss(vae: Bundle, home: Path) -> None:
    history = [json.loads(line) for line in (home / "runs" / "small-vae" / "metrics.jsonl").read_text().splitlines()]
    looks = [entry["validation"] for entry in history if entry.get("validation")]
    assert looks[-1]["loss"] < looks[0]["loss"] - 50  # nats a picture
    assert looks[-1]["mse"] < 0.5 * looks[0]["mse"]
    assert vae.meta["codec"] == "image"
    assert [parent.kind for parent in vae.lineage.parents] == ["dataset"]


@pytest.mark.parametrize("name", ["digits-vae", "digits-gan", "symbols-diffusion"])
def test_a_shipped_recipe_is_estimated_before_any_work(name: str, home: Path) -> None:
    done = bottega("estimate", f"{name}", "--json", home=home, cwd=home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parameters"] > 50_000


def test_a_picture_depends_on_its_seed_alone(vae: Bundle) -> None:
    engine = open_pictures(vae)
    many = engine.generate(Request(prompt="3", controls=Controls(seed=5, n=7)))
    again = engine.generate(Request(prompt="3", controls=Controls(seed=5, n=2)))
    for place in range(2):
        assert np.array_equal(many.outputs[place].steps[-1].data, again.outputs[place].steps[-1].data)
    pictures = np.stack([output.steps[-1].data for output in many.outputs])
    assert pictures.shape == (7, 1, 8, 8)
    assert pictures.dtype == np.uint8
    assert len(np.unique(pictures.reshape(7, -1), axis=0)) == 7


def test_what_a_model_cannot_draw_is_refused_by_name(vae: Bundle) -> None:
    engine = open_pictures(vae)
    with pytest.raises(InputError, match="never read the word 'umbrella'"):
        engine.generate(Request(prompt="umbrella"))
    with pytest.raises(ControlError, match="top_p"):
        engine.generate(Request(prompt="3", controls=Controls(top_p=0.5)))
    with pytest.raises(InputError, match="words"):
        engine.generate(Request(prompt="a handwritten three " * 20))
    with pytest.raises(InputError, match="one line"):
        engine.generate(Request.model_validate({"messages": [{"role": "user", "content": "3"}]}))


def test_a_killed_run_of_two_players_ends_with_the_same_bits(home: Path) -> None:
    """Stopped after some steps and gone on: weights, both optimisers' states and the running average are equal."""
    whole = make(recipe(home, "gan", 30, "name=whole"), home=home)

    class Stop(Exception):
        pass

    import bottega.training.loop as loop

    real, count = loop.take, 0

    def stopping(*arguments: object, **options: object) -> object:
        nonlocal count
        count += 1
        if count > 2 * 17:
            raise Stop
        return real(*arguments, **options)  # type: ignore[arg-type]

    loop.take = stopping  # type: ignore[assignment]
    try:
        with pytest.raises((Stop, Interrupted)):
            make(recipe(home, "gan", 30, "name=parts"), home=home)
    finally:
        loop.take = real
    parts = make(recipe(home, "gan", 30, "name=parts"), home=home, resume=True)
    from safetensors.torch import load_file

    one, two = load_file(whole.path / "model.safetensors"), load_file(parts.path / "model.safetensors")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("change", "words"), [
    ("codec.sise=9", "sise"), ("codec.channels=2", "channels"), ("generator.family=vea", "did you mean 'vae'"),
    ("objective.kind=pretrain", "pictures are not trained"), ("generator.channels=3", "decided by the pictures"),
    ("data.languages=[en]", "languages")])
def test_faults_of_a_recipe_are_named(tmp_path: Path, change: str, words: str) -> None:
    with pytest.raises((RecipeError, BottegaError), match=words):
        make(recipe(tmp_path, "vae", 2, change), home=tmp_path)


def test_from_the_command_line_to_a_file_and_back(vae: Bundle, home: Path, tmp_path: Path) -> None:
    done = bottega("generate", "7", "--model", "small-vae", "--n", "4", "--grid", "-o", "seven.png", "--json",
                   home=home, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [Path(name).name for name in told["files"]] == [*(f"seven-{i}.png" for i in range(4)), "seven-grid.png"]
    facts = ImageCodec.facts_of((tmp_path / "seven-2.png").read_bytes())
    assert facts is not None
    assert facts["controls"]["seed"] == told["seed"]
    assert bottega("reproduce", "seven-2.png", home=home, cwd=tmp_path).stdout == "same pixels\n"
    other = bottega("reproduce", "seven-grid.png", home=home, cwd=tmp_path)
    assert other.returncode == 2
    assert "does not say how it was made" in other.stderr
    shown = bottega("generate", "cat", "--model", "small-vae", home=home, cwd=tmp_path)
    assert shown.returncode == 2
    assert "cat" in shown.stderr
