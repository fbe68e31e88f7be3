"""The built-in `symbols`: coloured signs from DejaVu Sans with composed captions, drawn here at the size asked for.

`bottega train recipes/symbols-diffusion.yaml` learns them. The signs are drawn once as masks; a picture is put
together from them with a little chance in place, size, colour and brightness. The same seed gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFont

from bottega.core.errors import MissingExtraError, RecipeError
from bottega.core.files import digest_json, sha256_file
from bottega.core.lineage import Licence, code_digest
from bottega.data.pictures.record import Facts, Fault, Picture, PictureCodec, Pixels, Stated
from bottega.data.pictures.scenes import COLOURS, GLYPHS, GROUNDS, HELD_OUT, Layout, Place, Scene, attributes, scenes

__all__ = ["HELD_OUT", "TRAIN", "VALIDATION", "Drawing", "SymbolsSource", "attributes", "draw"]

TRAIN, VALIDATION = 24_000, 2_000
SMALLEST = 16  # pixels of a side from which signs can be told apart
_FONT_SIZE = 256
_FILLED = ("moon",)  # drawn as an outline in the font, too thin for a small picture
_SCALES = (0.93, 1.0, 1.07)
_BOXES: dict[Layout, dict[str, float]] = {  # side of a sign as a share of the picture's shorter side
    "alone": {"small": 0.36, "large": 0.66}, "side": {"small": 0.28, "large": 0.43},
    "stack": {"small": 0.28, "large": 0.43}, "row": {"large": 0.3}, "column": {"large": 0.3}}
_SPREAD: dict[Layout, float] = {"alone": 0.0, "side": 0.24, "stack": 0.24, "row": 0.33, "column": 0.33}
_SIDES: dict[Place, tuple[int, int]] = {"centre": (0, 0), "left": (0, -1), "right": (0, 1), "above": (-1, 0),
                                        "below": (1, 0)}
_MOVE = {"alone": 0.08, "side": 0.04, "stack": 0.04, "row": 0.02, "column": 0.02}
_TINT, _SHADE = 12, 9


def font_path() -> Path:
    """Return the DejaVu Sans that matplotlib brings along.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingExtraError("images", "the built-in pictures 'symbols'") from None
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


class Drawing:
    """Draws scenes at one size.

    Args:
        height, width: pixels.
        seed: of the chance in places, sizes and colours.

    Raises:
        MissingExtraError: matplotlib is not installed.
        RecipeError: the pictures would be too small to show anything.
    """

    def __init__(self, height: int, width: int, seed: int = 0) -> None:
        if min(height, width) < SMALLEST:
            raise RecipeError(f"symbols cannot be drawn {height} x {width}", where="codec.size",
                              fix=f"give at least {SMALLEST} pixels a side")
        self.height, self.width = height, width
        self._rng = np.random.default_rng([seed, 2])
        self._font = ImageFont.truetype(font_path(), _FONT_SIZE)
        self._masks: dict[tuple[str, float], list[NDArray[np.float32]]] = {}

    def picture(self, scene: Scene) -> Pixels:
        """Return a scene as uint8 [3, H, W]."""
        rng, side = self._rng, min(self.height, self.width)
        canvas = np.full((3, self.height, self.width), GROUNDS[scene.ground] + rng.uniform(-_SHADE, _SHADE), np.float32)
        for mark in scene.marks:
            masks = self._masks_of(mark.name, _BOXES[scene.layout][mark.size])
            mask = masks[rng.integers(len(masks))]
            down, right = _SIDES[mark.place]
            move = rng.uniform(-1, 1, 2) * _MOVE[scene.layout] * side
            top = (0.5 + down * _SPREAD[scene.layout]) * self.height + move[0] - mask.shape[0] / 2
            left = (0.5 + right * _SPREAD[scene.layout]) * self.width + move[1] - mask.shape[1] / 2
            y = min(max(round(top), 0), self.height - mask.shape[0])
            x = min(max(round(left), 0), self.width - mask.shape[1])
            colour = np.array(COLOURS[mark.colour], np.float32) + rng.uniform(-_TINT, _TINT, 3).astype(np.float32)
            part = canvas[:, y:y + mask.shape[0], x:x + mask.shape[1]]
            part += mask * (colour[:, None, None] - part)
        return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)

    def _masks_of(self, name: str, share: float) -> list[NDArray[np.float32]]:
        """Return a sign at a few sizes about a share of the picture's side, drawn when it is first needed."""
        if (name, share) not in self._masks:
            sign, side = _glyph(name, self._font), share * min(self.height, self.width)
            self._masks[name, share] = [_mask(sign, side * scale) for scale in _SCALES]
        return self._masks[name, share]


def _glyph(name: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """Return a sign in white on black, cut to its edges."""
    left, top, right, bottom = (int(edge) for edge in font.getbbox(GLYPHS[name]))
    image = Image.new("L", (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(image).text((1 - left, 1 - top), GLYPHS[name], fill=255, font=font)
    if name in _FILLED:  # what cannot be reached from the corner lies inside the outline
        outside = image.point(lambda value: 255 * (value > 127))
        ImageDraw.floodfill(outside, (0, 0), 128)
        image = ImageChops.lighter(image, outside.point(lambda value: 255 * (value != 128)))
    return image.crop(image.getbbox())


def _mask(image: Image.Image, side: float) -> NDArray[np.float32]:
    """Return how much of each pixel a sign covers, its longer side about `side` pixels."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return np.asarray(image.resize(size, Image.Resampling.BOX), np.float32) / np.float32(255)


def draw(scene: Scene, height: int = 32, width: int = 32, seed: int = 0) -> Pixels:
    """Return one scene as uint8 [3, H, W]; for many make a `Drawing`."""
    return Drawing(height, width, seed).picture(scene)


class SymbolsSource:
    """Scenes in chance order; those with a held-out combination are the validation split; see `Source`.

    The set does not depend on a recipe's seed, so that models of several seeds are compared on the same pictures.

    Raises:
        MissingExtraError: matplotlib is not installed.
        RecipeError: the codec's pictures are grey or too small.
    """

    name = "symbols"
    licence = Licence(spdx="Bitstream-Vera", evidence="drawn by Bottega with signs of DejaVu Sans, bundled with "
                                                      "matplotlib")

    def __init__(self, codec: PictureCodec) -> None:
        if codec.channels != 3:
            raise RecipeError("symbols are coloured, their pictures have 3 channels", where="codec.channels",
                              fix="set channels to 3")
        self._height, self._width = codec.height, codec.width
        Drawing(codec.height, codec.width)  # what cannot be drawn is refused before any work

    def identity(self) -> str:
        """See `Source`."""
        return digest_json([code_digest(), sha256_file(font_path())])

    def count(self) -> int | None:
        """See `Source`."""
        return TRAIN + VALIDATION

    def pictures(self) -> Iterator[Picture | Fault]:
        """See `Source`."""
        drawing = Drawing(self._height, self._width)
        left: dict[Stated, int] = {"train": TRAIN, "validation": VALIDATION}
        for scene in scenes(seed=0):
            split: Stated = "validation" if scene.held_out else "train"
            if left[split]:
                left[split] -= 1
                number = TRAIN + VALIDATION - sum(left.values()) - 1
                yield Picture(f"builtin:symbols/{number}", drawing.picture(scene), Facts(None, scene.caption, split))
            elif not any(left.values()):
                return
