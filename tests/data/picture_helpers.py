"""Small picture files and a short way to prepare them, shared by the tests of pictures."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from bottega.codecs.image import ImageCodec, PictureSpec
from bottega.data.pictures.dataset import PictureDataset

Set: TypeAlias = PictureDataset[ImageCodec]
Make: TypeAlias = Callable[..., Set]


def png(seed: int, side: int = 10, kind: str = "PNG") -> bytes:
    """Return a picture file that is unlike that of any other seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def fill(folder: Path, files: dict[str, Any]) -> Path:
    """Write files below a folder: bytes, text, or a number for the picture of that seed."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else png(content) if isinstance(content, int) else content
        path.write_bytes(data)
    return folder


def by_origin(dataset: Set) -> dict[str, dict[str, Any]]:
    """Return every row of rows.parquet, used and dropped, by the end of its origin."""
    import pyarrow.parquet as pq

    return {row["origin"].partition("/")[2] or row["origin"]: row
            for row in pq.read_table(dataset.path / "rows.parquet").to_pylist()}


def shape(**settings: Any) -> ImageCodec:
    """Return a codec without classes and words."""
    return ImageCodec.of(PictureSpec(**{"size": 8, **settings}))
