"""Pictures through their engine: seeds, masks, walks, controls that are refused. Weights are random: no training."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from bottega.codecs.image import ImageCodec, PictureSpec
from bottega.core.errors import ControlError, DataError, InputError
from bottega.core.request import Controls, Request
from bottega.families import picture_family
from bottega.generation.native_pictures import NativePictures


def _engine(family: str, **overrides: object) -> NativePictures:
    torch.manual_seed(0)
    codec = ImageCodec.of(PictureSpec(size=8, channels=3)).learn(["cat", "dog"], ["a red star", "a blue moon"])
    facts = {"channels": 3, "size": (8, 8), "classes": 2, "vocab": codec.vocab, "text_length": codec.text_length}
    kind = picture_family(family)
    config = kind.Config  # type: ignore[attr-defined]
    model = kind(config.derive(1, facts, overrides))
    for part in model.parameters():  # zero-initialised ends would draw the same grey picture always
        torch.nn.init.normal_(part, std=0.2)
    return NativePictures(model, codec, controls=Controls(), model_digest="0" * 64, lineage={})


@pytest.fixture(scope="module")
def diffusion() -> NativePictures:
    return _engine("diffusion")


def _file(size: tuple[int, int] = (8, 8), colour: object = (200, 30, 30), mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, "PNG")  # type: ignore[arg-type]
    return out.getvalue()


def _draw(engine: NativePictures, prompt: str = "a red star", **fields: object) -> list[np.ndarray]:
    controls = Controls.parse({"seed": 5, **fields.pop("controls", {})})  # type: ignore[dict-item]
    result = engine.generate(Request(prompt=prompt, controls=controls, **fields))  # type: ignore[arg-type]
    return [output.steps[-1].data for output in result.outputs]


@pytest.mark.parametrize("family", ["diffusion", "vae", "gan"])
def test_a_picture_does_not_depend_on_what_is_drawn_beside_it(family: str) -> None:
    engine = _engine(family)
    few, many = _draw(engine, controls={"n": 2}), _draw(engine, controls={"n": 19})
    assert np.array_equal(few[0], many[0])
    assert np.array_equal(few[1], many[1])
    assert not np.array_equal(many[0], many[1])
    assert len(many) == 19


def test_every_step_is_seen(diffusion: NativePictures) -> None:
    wish = Request(prompt="a red star", controls=Controls(seed=1, n=2, steps=4))
    steps = list(diffusion.stream(wish))
    assert [step.index for step in steps if step.output == 1] == [0, 1, 2, 3]
    assert [step.finish for step in steps if step.output == 0] == [None, None, None, "end"]
    assert steps[0].data.shape == (3, 8, 8)


def test_a_mask_keeps_the_rest_to_the_bit(diffusion: NativePictures) -> None:
    hole = Image.new("RGBA", (8, 8), (0, 0, 0, 255))
    hole.paste((0, 0, 0, 0), (0, 0, 4, 8))
    out = io.BytesIO()
    hole.save(out, "PNG")
    (made,) = _draw(diffusion, image=_file(), mask=out.getvalue())
    assert (made[:, :, 4:] == np.array([200, 30, 30])[:, None, None]).all()
    assert (made[:, :, :4] != np.array([200, 30, 30])[:, None, None]).any()
    white = Image.new("L", (8, 8), 0)
    white.paste(255, (0, 0, 4, 8))
    out = io.BytesIO()
    white.save(out, "PNG")
    assert np.array_equal(_draw(diffusion, image=_file(), mask=out.getvalue())[0], made)


def test_strength_says_how_much_is_kept(diffusion: NativePictures) -> None:
    given = np.array([200, 30, 30])[:, None, None]
    kept, some, none = (np.abs(_draw(diffusion, "", image=_file(), controls={"strength": s})[0] - given).mean()
                        for s in (0.0, 0.3, 1.0))
    assert kept == 0 < some < none


def test_a_walk_begins_and_ends_with_the_two_pictures(diffusion: NativePictures) -> None:
    walk = _draw(diffusion, toward="a blue moon", controls={"n": 5})
    assert np.array_equal(walk[0], _draw(diffusion)[0])
    assert len({picture.tobytes() for picture in walk}) == 5


@pytest.mark.parametrize(("fields", "says"), [
    ({"prompt": "a red cat"}, "never read the word 'cat'"),
    ({"prompt": "a red star a red star"}, "this model reads 3"),
    ({"prompt": "", "image": b""}, "the file is empty"),
    ({"prompt": "", "image": b"GIF89a not really"}, "not a picture"),
    ({"prompt": "", "image": _file((16, 16)), "mask": _file((8, 8), 255, "L")}, "the mask is 8x8, the picture 16x16"),
    ({"prompt": "", "image": _file(), "mask": _file((8, 8), 0, "L")}, "keeps the whole picture"),
    ({"prompt": "a red star", "suffix": "x"}, "one line of text"),
])
def test_what_cannot_be_drawn_is_said_before_work(diffusion: NativePictures, fields: dict[str, object],
                                                  says: str) -> None:
    with pytest.raises((InputError, DataError), match=says):
        diffusion.plan(Request(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(("controls", "says"), [
    ({"top_k": 5}, "does not understand the control 'top_k'"), ({"size": "16x16"}, "draws 8x8, not 16x16"),
    ({"size": "0x8"}, "is no size"), ({"negative_prompt": "a cat"}, "never read")])
def test_a_control_that_cannot_be_obeyed_is_refused(diffusion: NativePictures, controls: dict[str, object],
                                                    says: str) -> None:
    with pytest.raises((ControlError, InputError), match=says):
        diffusion.plan(Request(prompt="", controls=Controls.parse(controls)))


def test_a_vae_varies_a_picture_and_says_before_work_that_it_keeps_no_part() -> None:
    engine = _engine("vae")
    assert len(_draw(engine, "", image=_file(), controls={"n": 2})) == 2
    with pytest.raises(InputError, match="cannot redraw a part of it"):
        engine.plan(Request(prompt="", image=_file(), mask=_file((8, 8), 255, "L")))


def test_a_gan_says_that_it_cannot_start_from_a_picture() -> None:
    engine = _engine("gan")
    with pytest.raises(InputError, match="cannot start from a picture"):
        engine.plan(Request(prompt="", image=_file()))


@pytest.mark.parametrize("fields", [{"mask": b"x"}, {"toward": "y"}, {"toward": "y", "image": b"x"}])
def test_a_wish_that_contradicts_itself_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"mask needs image|toward needs"):
        Request(prompt="x", **fields)  # type: ignore[arg-type]


def test_a_request_survives_json() -> None:
    wish = Request(prompt="", image=_file(), controls=Controls(n=2))
    assert Request.model_validate(wish.model_dump(mode="json", exclude_none=True)) == wish
