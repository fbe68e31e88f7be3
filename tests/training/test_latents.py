"""Diffusion over the codes of an autoencoder: trained from a recipe, whole without it, exact where a mask keeps."""

import shutil
from pathlib import Path

import pytest
import torch
from tests.families.digits import agreement, digits, generators

from bottega.core.bundle import Bundle
from bottega.core.errors import InputError, RecipeError
from bottega.core.recipe import Recipe
from bottega.core.request import Controls
from bottega.families.diffusion import Diffusion
from bottega.training.run import make

pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install 'bottega[images]'")

RECIPE = """
name: NAME
data: {sources: [digits], validation: 0.25}
codec: {kind: image, size: 8, channels: 1}
generator: GENERATOR
objective: {kind: pictures}
training: {budget: {steps: STEPS}, batch: 48, optimizer: adamw, learning_rate: 0.003, weight_decay: 0,
           precision: fp32, compile: "off", validate_every: 1}
"""


def recipe(folder: Path, name: str, generator: str, steps: int) -> Recipe:
    file = folder / f"{name}.yaml"
    file.write_text(RECIPE.replace("NAME", name).replace("GENERATOR", generator).replace("STEPS", str(steps)))
    return Recipe.load(file, [])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("latents")
    make(recipe(home, "codes", "{family: vae, depth: 1, spatial: true, levels: 1, beta: 0.05}", 300), home=home)
    return home


@pytest.fixture(scope="module")
def bundle(home: Path) -> Bundle:
    return make(recipe(home, "over-codes", "{family: diffusion, depth: 2, latents: codes}", 400), home=home)


@pytest.fixture(scope="module")
def model(bundle: Bundle, home: Path) -> Diffusion:
    """The model as it is read where its autoencoder is not."""
    elsewhere = home / "elsewhere"
    shutil.copytree(bundle.path, elsewhere)
    return Diffusion.load(elsewhere)


def test_the_autoencoder_is_a_parent_and_inside(bundle: Bundle, model: Diffusion, home: Path) -> None:
    codes = Bundle.open(home / "models" / "codes")
    parents = {parent.name: parent.digest for parent in bundle.lineage.parents if parent.kind == "model"}
    assert parents == {"codes": codes.lineage.digest}
    assert model.config.shape == (4, 4, 4)
    assert model.latents is not None
    images = digits()[0]["images"]
    assert float(model.codes(images).std()) == pytest.approx(1, abs=0.1)
    assert float((model.shown(model.codes(images)) - images).square().mean()) < 0.25 * float(images.var())


def test_digits_are_drawn_from_codes_with_the_same_bytes_in_any_company(model: Diffusion) -> None:
    labels, text = torch.arange(40) % 10, torch.zeros(40, 0, dtype=torch.int64)
    *_, made = model.draw(labels, text, generators(40), controls=Controls())
    *_, few = model.draw(labels[:3], text[:3], generators(3), controls=Controls())
    assert made.shape == (40, 1, 8, 8)
    assert torch.equal(few, made[:3])
    assert agreement(made, labels) > 0.6


def test_what_a_mask_keeps_is_kept_to_the_bit(model: Diffusion) -> None:
    real = digits()[1]
    images, labels, text = real["images"][:20], real["labels"][:20], real["text"][:20]
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    mask[..., 5:, :] = True
    *_, filled = model.redraw(images, labels, text, generators(20), controls=Controls(), mask=mask)
    assert torch.equal(filled[..., :5, :], images[..., :5, :])
    assert not torch.equal(filled[..., 5:, :], images[..., 5:, :])
    near, far = (float((last - images).square().mean()) for last in (
        list(model.redraw(images, labels, text, generators(20), controls=Controls(strength=share)))[-1]
        for share in (0.2, 1.0)))
    assert near < 0.7 * far


def test_what_is_no_map_of_codes_is_refused(home: Path, bundle: Bundle) -> None:
    make(recipe(home, "vector", "{family: vae, depth: 1}", 1), home=home)
    with pytest.raises(RecipeError, match="vectors"):
        make(recipe(home, "bad", "{family: diffusion, depth: 2, latents: vector}", 1), home=home)
    with pytest.raises(InputError, match="not a vae"):
        make(recipe(home, "bad", "{family: diffusion, depth: 2, latents: over-codes}", 1), home=home)
    with pytest.raises(InputError, match="unknown model 'kodes'"):
        make(recipe(home, "bad", "{family: diffusion, depth: 2, latents: kodes}", 1), home=home)
