"""Diffusion whose captions are read by an imported language model: whole without it, and words of any kind are read."""

import shutil
from pathlib import Path

import pytest
import torch
from tests import pretrained
from tests.families.digits import generators

from bottega.codecs.image import ImageCodec
from bottega.codecs.text import TextCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import BottegaError, CorruptError, DataError, InputError
from bottega.core.recipe import Recipe
from bottega.core.request import Controls, Request
from bottega.families.diffusion import Diffusion
from bottega.families.transformer import Transformer
from bottega.generation.backends.text_folder import import_text
from bottega.generation.pictures import open_pictures
from bottega.training.picture_scores import data_of
from bottega.training.run import make

pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install 'bottega[images]'")
pytest.importorskip("transformers", reason="writes the model to import: pip install 'bottega[hub]'")


def recipe(name: str, steps: int, *, text_length: int = 32, family: str = "diffusion",
           text_encoder: str = "reader") -> Recipe:
    return Recipe.model_validate({
        "name": name, "data": {"sources": ["digits"], "validation": 0.25},
        "codec": {"kind": "image", "size": 8, "channels": 1, "text_length": text_length},
        "generator": {"family": family, "depth": 1, "text_encoder": text_encoder}, "objective": {"kind": "pictures"},
        "training": {"budget": {"steps": steps}, "batch": 32, "optimizer": "adamw", "weight_decay": 0,
                     "learning_rate": 0.003, "precision": "fp32", "compile": "off", "validate_every": 1,
                     "sample_every": 0}})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("reading")
    pretrained.write("qwen3", home / "published")
    import_text(home / "published", home / "models" / "reader", source="published")
    return home


@pytest.fixture(scope="module")
def bundle(home: Path) -> Bundle:
    return make(recipe("read", 60), home=home, report=False)


@pytest.fixture(scope="module")
def model(bundle: Bundle, home: Path) -> Diffusion:
    """The model as it is read where its text encoder is not."""
    shutil.copytree(bundle.path, home / "elsewhere")
    return Diffusion.load(home / "elsewhere")


def test_the_text_encoder_is_a_parent_inside_and_unchanged(bundle: Bundle, model: Diffusion, home: Path) -> None:
    reader = Bundle.open(home / "models" / "reader")
    assert {one.name: one.digest for one in bundle.lineage.parents if one.kind == "model"} == {
        "reader": reader.lineage.digest}
    assert model.text_encoder is not None
    before = Transformer.load(reader.path).state_dict()
    assert not any(name.startswith("lm_head") for name in model.text_encoder.state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.text_encoder.state_dict().items())
    moved = {id(parameter) for parameter in model.players()["model"]}
    assert not any(id(parameter) in moved for parameter in model.text_encoder.parameters())
    assert bundle.meta["metrics"]["loss"] < 2  # 6.9 before the first step


def test_captions_are_read_in_order_to_their_end_and_no_further(model: Diffusion, home: Path) -> None:
    codec = ImageCodec.load(home / "elsewhere")
    assert codec.tokenizer is not None
    tokens = codec.encode_text("three")
    labels = torch.tensor([-1])

    def vector(numbers: list[int]) -> torch.Tensor:
        return model._encoded(labels, torch.tensor([numbers])).vector

    said = [number for number in tokens if number]
    padded = vector(said + [0] * (codec.text_length - len(said)))
    torch.testing.assert_close(vector(said), padded)
    assert not torch.allclose(vector(said[::-1]), vector(said))
    nothing = vector([0] * codec.text_length)
    assert not torch.allclose(nothing, padded)
    torch.testing.assert_close(model.averaged.encode(labels, torch.tensor([tokens]), torch.tensor([True]),
                                                     model.read(torch.tensor([tokens]))).vector, nothing)


def test_a_picture_has_the_same_bytes_in_any_company(model: Diffusion, home: Path) -> None:
    codec = ImageCodec.load(home / "elsewhere")
    text = torch.tensor(codec.encode_texts(["a handwritten three", "", "zero"] * 4))
    labels = torch.full((12,), -1)
    *_, many = model.draw(labels, text, generators(12), controls=Controls(steps=2))
    *_, few = model.draw(labels[:3], text[:3], generators(3), controls=Controls(steps=2))
    assert torch.equal(many[:3], few)


def test_words_that_training_never_showed_are_read(bundle: Bundle) -> None:
    engine = open_pictures(bundle)
    made = engine.generate(Request(prompt="a café's 猫", controls=Controls(seed=1, steps=1)))
    other = engine.generate(Request(prompt="a zebra", controls=Controls(seed=1, steps=1, negative_prompt="rain")))
    assert made.outputs[0].steps[-1].data.shape == other.outputs[0].steps[-1].data.shape == (1, 8, 8)
    with pytest.raises(InputError, match="tokens, this model reads"):
        engine.plan(Request(prompt="a handwritten three " * 9, controls=Controls(seed=1)))


def test_it_is_evaluated_where_its_text_encoder_is_gone(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.path, tmp_path / "models" / "read")
    data = data_of(Bundle.open(tmp_path / "models" / "read"), tmp_path)
    assert data.codec.tokenizer is not None
    assert data.codec.digest == ImageCodec.load(bundle.path).digest


def test_what_cannot_read_is_refused(home: Path, bundle: Bundle) -> None:
    for change, error, words in (
            ({"text_encoder": "read"}, InputError, "of family diffusion, not a whole native transformer"),
            ({"text_encoder": "raeder"}, InputError, "did you mean 'reader'"),
            ({"text_length": 0}, DataError, "no captions for the text encoder"),
            ({"family": "vae"}, BottegaError, "text_encoder")):
        with pytest.raises(error, match=words):
            make(recipe("bad", 1, **change), home=home)  # type: ignore[arg-type]
    tokenizer = TextCodec.load(home / "models" / "reader")
    with pytest.raises(DataError, match="has 3 tokens, the text encoder reads 2"):
        ImageCodec(1, 8, 8).read_by(tokenizer, [tokenizer.decode([20, 21, 22])], 2)


def test_a_changed_tokenizer_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.path, tmp_path / "copy")
    pretrained.write("llama", tmp_path / "llama")
    shutil.copy(tmp_path / "llama" / "tokenizer.json", tmp_path / "copy" / "tokenizer.json")
    with pytest.raises(CorruptError, match="not the one"):
        ImageCodec.load(tmp_path / "copy")
