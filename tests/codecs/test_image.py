"""The image codec against its promises, on good pictures and on one bad file of each kind."""

import contextlib
import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bottega.codecs import pixels as reading
from bottega.codecs.image import FILE, ImageCodec, PictureSpec, shorten, split_words
from bottega.codecs.pixels import PictureError, Pixels
from bottega.core.errors import CorruptError, DataError, InputError, RecipeError
from bottega.core.files import read_json, write_json
from bottega.core.validate import validate

CODEC = ImageCodec(3, 12, 16, "stretch")


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def gradient(height: int = 12, width: int = 16) -> Pixels:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)]).astype(np.uint8)


def as_image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of_size(width: int, height: int) -> bytes:
    """Return a small PNG file that claims any size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def test_every_pixel_value_survives_the_way_to_a_tensor_and_back() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    tensor = ImageCodec.to_tensor(values)
    assert tensor.dtype == torch.float32
    assert (tensor.min(), tensor.max()) == (-1, 1)
    assert np.array_equal(ImageCodec.to_pixels(tensor), values)


def test_a_tensor_out_of_range_is_clipped() -> None:
    found = ImageCodec.to_pixels(torch.tensor([-9.0, 9.0, float("nan"), float("inf"), float("-inf"), 0.0]))
    assert found.tolist() == [0, 255, 128, 255, 0, 128]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "GIF", "JPEG"])
def test_every_format_is_read(kind: str) -> None:
    image = as_image(gradient())
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    found = CODEC.decode_file(file_of(image, kind, **options)).astype(int)
    assert found.shape == (3, 12, 16)
    assert abs(found - gradient()).max() <= {"JPEG": 12, "GIF": 40}.get(kind, 0)


def test_a_picture_is_turned_as_its_camera_says() -> None:
    image = as_image(gradient(16, 12))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    found = CODEC.decode_file(file_of(image, "PNG", exif=exif))
    assert np.array_equal(found, np.rot90(gradient(16, 12), -1, (1, 2)))


@pytest.mark.parametrize(("fit", "left", "middle"), [("crop", 200, 200), ("pad", 9, 200), ("stretch", 100, 200)])
def test_the_three_ways_to_fit(fit: reading.Fit, left: int, middle: int) -> None:
    tall = np.full((3, 40, 20), 200, np.uint8)
    wide = np.concatenate([np.full((3, 20, 10), 100, np.uint8), np.full((3, 20, 20), 200, np.uint8),
                           np.full((3, 20, 10), 100, np.uint8)], axis=2)
    codec = ImageCodec(3, 8, 8, fit, (9, 9, 9))
    source = tall if fit == "pad" else wide
    found = codec.decode_file(file_of(as_image(source)))
    assert found.shape == (3, 8, 8)
    assert abs(int(found[0, 4, 0]) - left) <= 8
    assert abs(int(found[0, 4, 4]) - middle) <= 8


def test_a_picture_far_longer_than_wide_is_fitted() -> None:
    for fit in ("crop", "pad", "stretch"):
        assert ImageCodec(1, 8, 8, fit).decode_file(file_of(Image.new("L", (3000, 1)))).shape == (1, 8, 8)


def test_alpha_is_laid_over_the_background() -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 4, 8))
    found = ImageCodec(3, 8, 8, background=(0, 0, 255)).decode_file(file_of(image))
    assert found[:, 0, 0].tolist() == [255, 0, 0]
    assert found[:, 0, 7].tolist() == [0, 0, 255]
    half = ImageCodec(3, 8, 8).decode_file(file_of(Image.new("LA", (8, 8), (0, 128))))
    assert half[:, 0, 0].tolist() == [127, 127, 127]


def test_cmyk_is_converted() -> None:
    found = ImageCodec(3, 8, 8).decode_file(file_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert found[0].min() > 240
    assert found[1:].max() < 15


def test_sixteen_bits_are_brought_to_eight() -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    found = ImageCodec(1, 8, 8).decode_file(file_of(Image.fromarray(values)))
    assert np.array_equal(found[0], np.rint(values / 257).astype(np.uint8))
    assert ImageCodec(3, 8, 8).decode_file(file_of(Image.fromarray(values)))[2, 7, 7] == 255


def test_a_palette_and_its_transparent_colour_are_resolved() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30, 0, 0, 250])
    image.paste(2, (4, 0, 8, 8))
    found = ImageCodec(3, 8, 8).decode_file(file_of(image, transparency=2))
    assert found[:, 0, 0].tolist() == [10, 200, 30]
    assert found[:, 0, 7].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = file_of(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3  # type: ignore[attr-defined]
    assert ImageCodec(3, 8, 8).decode_file(data)[:, 4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("reason", "data"), [
    ("empty", b""),
    ("not-a-picture", b"GIF? no: this is a letter to a friend." * 20),
    ("not-a-picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    ("too-large", png_of_size(30_000, 30_000)),
    ("too-large", png_of_size(7_000, 7_000)),
    ("damaged", file_of(as_image(gradient(200, 200)))[:300]),
    ("damaged", file_of(as_image(gradient(200, 200)), "JPEG")[:1500]),
    ("damaged", file_of(as_image(gradient(200, 200)), "WEBP")[:300]),
])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bad_file_is_refused_with_the_reason(reason: str, data: bytes) -> None:
    with pytest.raises(PictureError) as caught:
        CODEC.decode_file(data)
    assert caught.value.reason == reason
    assert caught.value.fix


def test_a_large_photograph_is_read_at_a_reduced_size() -> None:
    data = file_of(Image.new("RGB", (7_000, 7_000), (200, 30, 40)), "JPEG")
    assert CODEC.decode_file(data)[:, 5, 5].tolist() == pytest.approx([200, 30, 40], abs=3)


@pytest.mark.parametrize(("width", "height"), [(0, 8), (8, 0), (0, 0)])
def test_a_picture_without_pixels_is_refused(width: int, height: int) -> None:
    with pytest.raises(PictureError):
        CODEC.decode_file(png_of_size(width, height))


def test_a_file_of_too_many_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_BYTES", 100)
    with pytest.raises(PictureError) as caught:
        CODEC.decode_file(file_of(as_image(gradient())) + b" " * 100)
    assert caught.value.reason == "too-large"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_no_damage_leads_to_another_error_than_ours(kind: str) -> None:
    whole, rng = file_of(as_image(gradient(24, 24)), kind), random.Random(kind)
    for _ in range(150):
        data = bytearray(whole[:rng.randint(1, len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with contextlib.suppress(PictureError):
            assert CODEC.decode_file(bytes(data)).shape == (3, 12, 16)


def test_pixels_of_another_shape_are_fitted_and_of_another_type_refused() -> None:
    same = gradient()
    assert CODEC.fit_pixels(same) is same
    assert CODEC.fit_pixels(np.zeros((1, 5, 5), np.uint8)).shape == (3, 12, 16)
    for bad in (np.zeros((3, 5, 5), np.float32), np.zeros((2, 5, 5), np.uint8), np.zeros((1, 0, 5), np.uint8)):
        with pytest.raises(DataError):
            CODEC.fit_pixels(bad)


def test_captions_become_tokens_of_a_fixed_length() -> None:
    codec = ImageCodec.of(PictureSpec()).learn(["a"], ["A small red star", "a red umbrella, above a blue star"])
    assert codec.text_length == 8
    assert codec.words[:4] == ["<padding>", "<unknown>", "a", "red"]
    assert codec.vocab == len(codec.words) == 10
    ids = codec.encode_text("A RED zebra <padding>")
    assert len(ids) == 8
    assert [codec.words[number] for number in ids[:3]] == ["a", "red", "<unknown>"]
    assert codec.unknown_words("a red zebra") == ["zebra"]
    assert codec.encode_texts(["", "star"])[0] == [0] * 8
    with pytest.raises(InputError, match="9 words"):
        codec.encode_text("a " * 9)


def test_a_codec_without_captions_takes_no_text() -> None:
    codec = ImageCodec.of(PictureSpec()).learn(["a"], ["", ""])
    assert (codec.text_length, codec.vocab, codec.encode_text("")) == (0, 0, [])
    assert ImageCodec.of(PictureSpec(text_length=0)).learn([], ["a star"]).vocab == 0
    with pytest.raises(InputError, match="leave the text out"):
        codec.encode_text("star")


@given(st.text(), st.integers(0, 5))
def test_what_was_shortened_can_be_encoded(caption: str, words: int) -> None:
    found = shorten(caption, words)
    assert len(split_words(found)) <= words
    assert split_words(found) == split_words(caption)[:len(split_words(found))]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    codec = ImageCodec.of(PictureSpec(size="8x12", channels=1, fit="pad", background=(1, 2, 3))).learn(
        ["eins", "zwei"], ["ein Stern"])
    codec.save(tmp_path)
    loaded = ImageCodec.load(tmp_path)
    assert loaded == codec
    assert loaded.digest == codec.digest != ImageCodec.of(PictureSpec()).digest
    assert loaded.describe()["classes"] == ["eins", "zwei"]
    assert (loaded.height, loaded.width) == (8, 12)


@pytest.mark.parametrize("change", [{"height": 0}, {"words": ["a", "b"]}, {"channels": 4}, {"extra": 1},
                                    {"words": ["<padding>", "<unknown>", "a", "a"]}])
def test_a_changed_codec_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    CODEC.save(tmp_path)
    write_json(tmp_path / FILE, {**read_json(tmp_path / FILE), **change})
    with pytest.raises(CorruptError):
        ImageCodec.load(tmp_path)


@pytest.mark.parametrize("settings", [{"size": 0}, {"size": "0x8"}, {"size": "8x8x8"}, {"size": 5000},
                                      {"channels": 2}, {"fit": "squeeze"}, {"background": [0, 0, 256]},
                                      {"text_length": -1}, {"size": "big"}])
def test_a_bad_setting_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        validate(PictureSpec, settings, where="test")


def test_a_png_carries_how_it_was_made() -> None:
    facts = {"model": "digits", "seed": 7, "prompt": "ein grüner Stern \ud800 東", "lineage": "ab" * 32}
    data = ImageCodec.png(gradient(), facts)
    assert data == ImageCodec.png(gradient(), facts)
    assert b"iTXtbottega" in data
    assert ImageCodec.facts_of(data) == facts
    assert np.array_equal(CODEC.decode_file(data), gradient())
    grey = ImageCodec.png(gradient()[:1])
    assert Image.open(io.BytesIO(grey)).mode == "L"
    assert ImageCodec.facts_of(grey) is None


def test_what_is_no_png_of_ours_has_no_facts() -> None:
    for data in (b"", b"nonsense", file_of(as_image(gradient()), "JPEG"), ImageCodec.png(gradient())[:60]):
        with pytest.raises(DataError):
            ImageCodec.facts_of(data)
    other = Image.new("L", (4, 4))
    for text in ("not json", "[1]", "[" * 100_000):
        info = PngInfo()
        info.add_itxt("bottega", text)
        assert ImageCodec.facts_of(file_of(other, pnginfo=info)) is None
    with pytest.raises(DataError):
        ImageCodec.png(np.zeros((4, 4), np.uint8))
