"""Bytes of a picture file to an array of a fixed size; exercised by `pytest tests/codecs/test_image.py`.

Files come from anywhere: only the formats named here are opened, and size is looked at before anything is unpacked.
Colour profiles are not applied; CMYK is converted by Pillow's plain formula.
"""

from __future__ import annotations

import io
import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from bottega.core.errors import DataError, InputError

Fit = Literal["crop", "pad", "stretch"]
Pixels = NDArray[np.uint8]
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_BYTES = 64 << 20
MAX_PIXELS = 1 << 26  # 67 million in a JPEG, which is unpacked at a reduced size; half of it in other formats
_HEADROOM = 2         # a JPEG is unpacked at no more than about this many times the size that is wanted


class PictureError(DataError):
    """A file is no usable picture; `reason` is `empty`, `too-large`, `not-a-picture` or `damaged`."""

    def __init__(self, reason: str, problem: str, *, fix: str = "") -> None:
        self.reason = reason
        super().__init__(problem, fix=fix or "give a whole file in one of the formats " + ", ".join(FORMATS))


def decode(data: bytes, channels: int, height: int, width: int, fit: Fit, background: tuple[int, int, int]) -> Pixels:
    """Return the first frame of a picture file as uint8 [C, H, W], turned as its EXIF data says.

    Args:
        data: content of a PNG, JPEG, WebP, GIF or BMP file.
        channels: 1 (grey) or 3 (red, green, blue).
        height, width: of the result.
        fit: `crop` fills the frame and cuts what is over, `pad` shows all and fills the rest with the background,
            `stretch` ignores the proportions.
        background: colour under transparent parts and beside padded ones.

    Raises:
        PictureError: empty, too large, not a picture or damaged.
    """
    return _fitted(_turned(_open(data, _HEADROOM * max(height, width))), channels, height, width, fit, background)


def refit(pixels: Pixels, channels: int, height: int, width: int, fit: Fit, background: tuple[int, int, int]) -> Pixels:
    """Return an array uint8 [1 or 3, H, W] at another size and number of channels; as it is where nothing differs."""
    if pixels.shape == (channels, height, width):
        return pixels
    return _fitted(to_image(pixels), channels, height, width, fit, background)


def whole(data: bytes) -> Pixels:
    """Return a picture file at its own size, uint8 [1 or 3, H, W], transparent parts white.

    Raises:
        PictureError: as in `decode`.
    """
    image = _turned(_open(data, 0))
    channels = 1 if image.mode in ("1", "L", "LA", "I;16", "I") else 3
    return _fitted(image, channels, image.height, image.width, "stretch", (255, 255, 255))


def has_holes(data: bytes) -> bool:
    """Return whether a picture file has pixels that are more transparent than not.

    Raises:
        PictureError: as in `decode`.
    """
    return bool((_clear(_open(data, 1)) >= 128).any())


def redrawn(mask: bytes, image: bytes, height: int, width: int, fit: Fit) -> NDArray[np.bool_]:
    """Return where a picture is to be drawn anew, bool [H, W], fitted as the picture is.

    Args:
        mask: picture file. With any transparency its transparent pixels are meant, without its bright ones.
        image: the picture file it belongs to.
        height, width, fit: as in `decode`.

    Raises:
        PictureError: a file is unusable.
        InputError: the two differ in size, or nothing is to be drawn anew.
    """
    over, under = _turned(_open(mask, 0)), _turned(_open(image, 0))
    if over.size != under.size:
        raise InputError(f"the mask is {over.width}x{over.height}, the picture {under.width}x{under.height}",
                         where="mask", fix="give a mask of the picture's size")
    clear = _clear(over)
    hole = Image.fromarray(clear) if (clear >= 128).any() else _plain(over, 1, (0, 0, 0))
    found: NDArray[np.bool_] = _fitted(hole, 1, height, width, fit, (0, 0, 0))[0] >= 128
    if not found.any():
        raise InputError("the mask keeps the whole picture", where="mask",
                         fix="make transparent (or white, without transparency) what is to be drawn anew")
    return found


def to_image(pixels: Pixels) -> Image.Image:
    """Return uint8 [1 or 3, H, W] as a Pillow image.

    Raises:
        DataError: another type or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or not pixels.size:
        raise DataError(f"a picture is uint8 of shape [1 or 3, height, width], this is {pixels.dtype} of shape "
                        f"{list(pixels.shape)}", fix="convert it with ImageCodec.to_pixels")
    return Image.fromarray(pixels[0] if pixels.shape[0] == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _open(data: bytes, enough: int) -> Image.Image:
    """Return a loaded image of the first frame."""
    if not data:
        raise PictureError("empty", "the file is empty")
    if len(data) > MAX_BYTES:
        raise PictureError("too-large", f"the file has {len(data) >> 20} MB, over {MAX_BYTES >> 20}",
                           fix="make the picture smaller")
    try:
        with warnings.catch_warnings():  # the sizes below are stricter than the one that Pillow warns of
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width < 1 or height < 1:
            raise PictureError("damaged", f"the picture is {width} x {height}: it has no pixels")
        most = MAX_PIXELS if image.format in ("JPEG", "MPO") else MAX_PIXELS // 2
        if width * height > most:
            raise _too_many(f"{width} x {height} pixels", most)
        if enough:
            image.draft(None, (enough, enough))
        image.load()
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError("not-a-picture", "the file is not a picture in a known format") from None
    except Image.DecompressionBombError as error:
        raise _too_many("far too many pixels", MAX_PIXELS) from error
    except Exception as error:  # Pillow's readers raise nearly anything on a file that is cut off or made up
        raise PictureError("damaged", f"the picture is damaged: {error}") from error
    return image


def _clear(image: Image.Image) -> Pixels:
    """Return how transparent each pixel is, uint8 [H, W]."""
    if not image.has_transparency_data:
        return np.zeros((image.height, image.width), np.uint8)
    return 255 - np.asarray(image.convert("RGBA").getchannel("A"))


def _too_many(found: str, most: int) -> PictureError:
    return PictureError("too-large", f"the picture has {found}, over {most // 10**6} million",
                        fix="make the picture smaller")


def _turned(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken camera data is no reason to lose the picture itself
        return image


def _plain(image: Image.Image, channels: int, background: tuple[int, int, int]) -> Image.Image:
    """Return the image as 8-bit grey or RGB without transparency."""
    if image.mode.startswith("I"):  # 16 bits a pixel, whatever the container type
        values = np.clip(np.asarray(image).astype(np.float64) / 257, 0, 255)
        image = Image.fromarray(np.rint(values).astype(np.uint8))
    if image.has_transparency_data:
        below = Image.new("RGBA", image.size, (*background, 255))
        below.alpha_composite(image.convert("RGBA"))
        image = below
    return image.convert("L" if channels == 1 else "RGB")


def _fitted(image: Image.Image, channels: int, height: int, width: int, fit: Fit,
            background: tuple[int, int, int]) -> Pixels:
    image = _plain(image, channels, background)
    had_width, had_height = image.size
    if (had_width, had_height) != (width, height):
        if fit == "crop":
            scale = min(had_width / width, had_height / height)
            left, top = (had_width - scale * width) / 2, (had_height - scale * height) / 2
            box = (max(0.0, left), max(0.0, top), min(float(had_width), left + scale * width),
                   min(float(had_height), top + scale * height))
            image = image.resize((width, height), _filter(scale), box)
        elif fit == "pad":
            scale = max(had_width / width, had_height / height)
            inner = (max(1, round(had_width / scale)), max(1, round(had_height / scale)))
            frame = Image.new("RGB", (width, height), background).convert(image.mode)
            frame.paste(image.resize(inner, _filter(scale)), ((width - inner[0]) // 2, (height - inner[1]) // 2))
            image = frame
        else:
            image = image.resize((width, height), _filter(max(had_width / width, had_height / height)))
    array = np.asarray(image)
    return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


def _filter(scale: float) -> Image.Resampling:
    """Return the filter for a picture that has `scale` times the pixels wanted along a side."""
    return Image.Resampling.LANCZOS if scale > 1 else Image.Resampling.BICUBIC
