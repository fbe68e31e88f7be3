"""Pipelines of diffusers through our own request: drawn, edited, varied, with a LoRA; refused where hostile."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bottega.core.bundle import Bundle
from bottega.core.errors import BottegaError, ControlError, CorruptError, InputError
from bottega.core.request import Controls, Request
from tests.generation import tiny_pipelines as tiny

pytest.importorskip("diffusers", reason="imported pipelines need diffusers: pip install 'bottega[hub]'")

from bottega.generation.backends.diffusers import DiffusersPictures
from bottega.generation.backends.diffusers_folder import import_pipeline, wanted
from bottega.generation.pictures import PictureEngine, open_pictures


def _file(size: tuple[int, int] = (32, 32), colour: object = (200, 30, 30), mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, "PNG")  # type: ignore[arg-type]
    return out.getvalue()


def _half(size: int = 32) -> bytes:
    """Return a mask whose left half is to be drawn anew."""
    picture = Image.new("L", (size, size), 0)
    picture.paste(255, (0, 0, size // 2, size))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipelines")


@pytest.fixture(scope="module")
def saved(folder: Path) -> Path:
    return tiny.stable_diffusion(folder / "sd")


def _imported(source: Path, folder: Path, name: str, *loras: Path) -> Bundle:
    return import_pipeline(source, folder / "models" / name, loras=list(loras), licence=None)


@pytest.fixture(scope="module")
def engine(saved: Path, folder: Path) -> PictureEngine:
    return open_pictures(_imported(saved, folder, "sd"))


def _draw(engine: PictureEngine, prompt: str = "a red star", *, image: bytes | None = None, mask: bytes | None = None,
          **controls: object) -> list[np.ndarray]:
    wish = Request(prompt=prompt, image=image, mask=mask,
                   controls=Controls.parse({"seed": 3, "steps": 4, **controls}))
    return [output.steps[-1].data for output in engine.generate(wish).outputs]


def test_a_picture_follows_its_seed_and_nothing_else(engine: PictureEngine) -> None:
    many = _draw(engine, n=3)
    assert many[0].shape == (3, 32, 32)
    assert np.array_equal(_draw(engine)[0], many[0])
    assert np.array_equal(_draw(engine, n=2)[1], many[1])
    assert not np.array_equal(many[0], many[1])
    assert not np.array_equal(_draw(engine, "a blue moon")[0], many[0])


def test_it_draws_what_diffusers_draws(engine: PictureEngine, saved: Path) -> None:
    from diffusers import StableDiffusionPipeline

    from bottega.generation.pictures import generators

    pipe = StableDiffusionPipeline.from_pretrained(saved, local_files_only=True)
    if torch.cuda.is_available():
        pipe = pipe.to("cuda", torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe("a red star", num_inference_steps=4, generator=generators(3, range(1))[0], output_type="np").images[0]
    assert np.array_equal(np.rint(theirs * 255).astype(np.uint8).transpose(2, 0, 1), _draw(engine)[0])


def test_every_step_is_seen(engine: PictureEngine) -> None:
    steps = list(engine.stream(Request(prompt="a red star", controls=Controls(seed=1, steps=5))))
    assert len(steps) == 6
    assert all(step.data.shape == (3, 32, 32) for step in steps)
    assert [bool(step.finish) for step in steps] == [False] * 5 + [True]


def test_edits_keep_what_the_mask_keeps(engine: PictureEngine) -> None:
    (made,) = _draw(engine, "a blue moon", image=_file(), mask=_half())
    given = np.array([200, 30, 30])[:, None, None]
    assert (made[:, :, 16:] == given).all()
    assert (made[:, :, :16] != given).any()


def test_a_variation_follows_its_strength(engine: PictureEngine) -> None:
    first, again, other = (_draw(engine, "", image=_file(), seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert (_draw(engine, "", image=_file(), strength=0.0)[0] == np.array([200, 30, 30])[:, None, None]).all()


def test_a_given_picture_of_another_shape_keeps_its_proportions(engine: PictureEngine) -> None:
    (made,) = _draw(engine, "a red star", image=_file((60, 30)))
    assert made.shape == (3, 22, 46)
    assert _draw(engine, size="48x24")[0].shape == (3, 24, 48)


def test_guidance_and_a_negative_prompt_change_the_picture(engine: PictureEngine) -> None:
    plain = _draw(engine, guidance_scale=3.0)[0]
    assert not np.array_equal(plain, _draw(engine, guidance_scale=9.0)[0])
    assert not np.array_equal(plain, _draw(engine, guidance_scale=3.0, negative_prompt="cat")[0])


@pytest.mark.parametrize(("fields", "controls", "says"), [
    ({"prompt": "abcdefghijklmnopqrst"}, {}, "has 22 tokens, this pipeline reads 16"),
    ({"prompt": "a", "toward": "b"}, {"n": 2}, "cannot walk"),
    ({"prompt": "a"}, {"top_p": 0.5}, "does not understand the control 'top_p'"),
    ({"prompt": "a"}, {"size": "33x32"}, "is not a multiple of 2"),
    ({"prompt": "a", "image": b"junk"}, {}, "not a picture"),
    ({"prompt": "a", "image": _file(), "mask": _half(16)}, {}, "mask is 16x16"),
    ({"prompt": "a", "image": _file()}, {"strength": 0.1, "steps": 3}, "is not one step")])
def test_what_it_cannot_do_is_said_before_work(engine: PictureEngine, fields: dict[str, object],
                                               controls: dict[str, object], says: str) -> None:
    with pytest.raises(BottegaError, match=says):
        engine.plan(Request(**fields, controls=Controls.parse(controls)))  # type: ignore[arg-type]


def test_a_lora_changes_the_picture(engine: PictureEngine, saved: Path, folder: Path) -> None:
    pytest.importorskip("peft", reason="LoRAs need peft: pip install 'bottega[hub]'")
    bundle = _imported(saved, folder, "with-lora", tiny.lora(saved, folder / "lora"))
    assert bundle.meta["loras"] == ["pytorch_lora_weights"]
    assert not np.array_equal(_draw(open_pictures(bundle))[0], _draw(engine)[0])


@pytest.mark.parametrize(("make", "edits"), [(tiny.sdxl, True), (tiny.sd3, False), (tiny.flux, True)])
def test_other_shapes_of_pipelines(make: Callable[[Path], Path], edits: bool, folder: Path) -> None:
    name = make.__name__
    model = open_pictures(_imported(make(folder / name), folder, name))
    many = _draw(model, n=2)
    assert np.array_equal(_draw(model)[0], many[0])
    assert not np.array_equal(many[0], many[1])
    height, width = model.size
    assert many[0].shape == (3, height, width)
    varied = _draw(model, "a blue moon", image=_file((width, height)))
    assert varied[0].shape == (3, height, width)
    steps = list(model.stream(Request(prompt="a", controls=Controls(seed=1, steps=3))))
    assert len(steps) == 4
    if edits:
        (made,) = _draw(model, image=_file((width, height)), mask=_half(width))
        assert (made[:, :, width // 2:] == np.array([200, 30, 30])[:, None, None]).all()


def test_an_unconditional_pipeline_takes_no_words(folder: Path) -> None:
    model = open_pictures(_imported(tiny.unconditional(folder / "ddpm"), folder, "ddpm"))
    assert _draw(model, "")[0].shape == (3, 8, 8)
    with pytest.raises(InputError, match="without words"):
        _draw(model, "a cat")
    with pytest.raises(InputError, match="cannot draw from image"):
        _draw(model, "", image=_file())
    with pytest.raises(ControlError, match="guidance_scale"):
        _draw(model, "", guidance_scale=2.0)


def test_a_broken_network_is_an_error_and_not_a_black_picture(saved: Path, folder: Path) -> None:
    model = open_pictures(_imported(saved, folder, "broken"))
    assert isinstance(model, DiffusersPictures)
    with torch.no_grad():
        model._pipeline.unet.conv_out.weight.fill_(float("nan"))
    with pytest.raises(CorruptError, match="not finite"):
        _draw(model)


@pytest.mark.parametrize("strict", [True, False])
def test_a_pipelines_own_safety_checker_is_heard(folder: Path, strict: bool) -> None:
    source = tiny.checked(folder / f"checked-{strict}", strict)
    assert json.loads((source / "model_index.json").read_text())["safety_checker"][0] == "stable_diffusion"
    model = open_pictures(_imported(source, folder, f"checked-{strict}"))
    outputs = model.generate(Request(prompt="a red star", controls=Controls.parse({"steps": 2, "n": 2}))).outputs
    assert [output.finish for output in outputs] == ["filtered" if strict else "end"] * 2


def _spoilt(saved: Path, tmp_path: Path, spoil: Callable[[Path], object]) -> Path:
    copy = tmp_path / "spoilt"
    shutil.copytree(saved, copy)
    spoil(copy)
    return copy


def _foreign(copy: Path) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    index["unet"] = ["some_module", "Network"]
    (copy / "model_index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda copy: (copy / "unet" / "diffusion_pytorch_model.safetensors").rename(copy / "unet" / "diffusion.bin"),
     "can run code"),
    (_foreign, "code of others is not run"),
    (lambda copy: (copy / "model_index.json").unlink(), "not a diffusers pipeline"),
    (lambda copy: (copy / "model_index.json").rename(copy / "config.json"), "a model of text"),
    (lambda copy: (copy / "model_index.json").write_text("{}"), "names no pipeline class"),
    (lambda copy: [file.unlink() for file in copy.rglob("*.safetensors")], "holds no weights")])
def test_a_hostile_or_broken_folder_is_refused(saved: Path, tmp_path: Path, spoil: Callable[[Path], object],
                                               says: str) -> None:
    with pytest.raises(InputError, match=says):
        _imported(_spoilt(saved, tmp_path, spoil), tmp_path, "never")
    assert not (tmp_path / "models" / "never").exists()


def test_what_no_pipeline_needs_is_left_behind(saved: Path, folder: Path) -> None:
    full = _copied(saved, folder / "as-published")
    extra = ("pruned.ckpt", "pruned.safetensors", "unet/diffusion_pytorch_model.bin", "unet/network.py",
             "samples/one.jpg")
    for place in extra:
        (full / place).parent.mkdir(exist_ok=True)
        (full / place).write_bytes(b"x")
    (full / "README.md").write_text("A card.")
    assert sorted(path.as_posix() for path in wanted(full)[1]) == sorted(extra)
    bundle = _imported(full, folder, "published")
    names = {path.relative_to(bundle.path / "pipeline").as_posix() for path in (bundle.path / "pipeline").rglob("*")}
    assert not names & set(extra)
    assert {"README.md", "model_index.json", "unet/diffusion_pytorch_model.safetensors"} <= names
    assert len(_draw(DiffusersPictures.open(bundle))) == 1


def test_one_changed_bit_of_an_imported_model_is_noticed(saved: Path, folder: Path) -> None:
    bundle = _imported(_copied(saved, folder / "own-copy"), folder, "flipped")
    weights = bundle.path / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CorruptError):
        Bundle.open(bundle.path)


def _copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target
