"""One picture of a source, or why it cannot be used, and what the data steps need of a codec.

Exercised by `pytest tests/data/test_pictures.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bottega.core.lineage import Licence

Pixels: TypeAlias = NDArray[np.uint8]
Stated = Literal["train", "validation", "test"]
SPLIT_NAMES: dict[str, Stated] = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test"}
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp")
OTHER_SUFFIXES = (".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".psd", ".ico", ".tga", ".ppm",
                  ".pgm")
ROWS_SUFFIX = ".parquet"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a source says about a picture besides its pixels.

    Attributes:
        label: name of its class; None is none.
        caption: what it shows; empty is none.
        split: the side that the source puts it on; None leaves that to us.
    """

    label: str | None = None
    caption: str = ""
    split: Stated | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with the place it was read at and the content of its file, or its pixels uint8 [1 or 3, H, W]."""

    origin: str
    content: bytes | Pixels
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is left out; `reason` is counted in the card, `detail` is told to the user."""

    origin: str
    reason: str
    detail: str


class Source(Protocol):
    """Where pictures come from.

    Attributes:
        name: label in the dataset's rows.
        licence: of its pictures.
    """

    name: str
    licence: Licence

    def identity(self) -> str:
        """Return a digest of everything that `pictures` depends on."""

    def count(self) -> int | None:
        """Return about how many pictures there are, for the progress bar; None where it is not known."""

    def pictures(self) -> Iterator[Picture | Fault]:
        """Yield them in a fixed order, each read when it is asked for."""


class PictureCodec(Protocol):
    """What preparation needs of a codec; `bottega.codecs.image.ImageCodec` is one."""

    @property
    def channels(self) -> int:
        """1 or 3."""

    @property
    def height(self) -> int:
        """Pixels."""

    @property
    def width(self) -> int:
        """Pixels."""

    @property
    def classes(self) -> list[str]:
        """Names that labels index."""

    @property
    def digest(self) -> str:
        """Equal digests encode equally."""

    def decode_file(self, data: bytes) -> Pixels:
        """Return a file's picture as uint8 [C, H, W], or raise a `DataError` that has a `reason`."""

    def fit_pixels(self, pixels: Pixels) -> Pixels:
        """Return uint8 [1 or 3, any height, any width] as uint8 [C, H, W]."""

    def learn(self, classes: list[str], captions: Iterable[str]) -> Self:
        """Return a codec of the same shape that knows these classes and the words of these captions."""

    def shorten(self, caption: str) -> str:
        """Return the part of a caption that can be encoded."""

    def describe(self) -> dict[str, Any]:
        """Return everything it knows as JSON-ready data."""

    def save(self, folder: Path) -> None:
        """Write its files."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read them."""
