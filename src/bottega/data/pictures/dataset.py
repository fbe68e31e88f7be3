"""A prepared set of pictures: a folder of arrays that proves its own contents.

    images-train.npy, images-validation.npy   uint8 [N, C, H, W]
    rows.parquet          every picture, used or dropped, with class, caption, origin and the reason
    image_codec.json      shape, classes and caption words
    card.json             Croissant metadata, counts by reason
    lineage.json          where it came from and what it cost
    manifest.json         SHA-256 of every file

`bottega data prepare` makes one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import CorruptError, InputError, suggest
from bottega.core.files import MANIFEST, digest_json, read_json, verify_manifest
from bottega.core.lineage import LINEAGE, Lineage
from bottega.data.dataset import CARD, SPLITS
from bottega.data.pictures.record import PictureCodec, Pixels
from bottega.data.record import Split

ROWS = "rows.parquet"
Codec = TypeVar("Codec", bound=PictureCodec)


def images_file(split: Split) -> str:
    """Return the name of a split's array."""
    return f"images-{split}.npy"


def content_digest(files: dict[str, dict[str, Any]]) -> str:
    """Return the digest of a set's content from a table of its files: pictures, rows and codec, no dates."""
    return digest_json({name: entry["sha256"] for name, entry in files.items() if name not in (CARD, LINEAGE)})


class PictureDataset(Generic[Codec]):
    """A verified folder of pictures.

    Attributes:
        path: the folder.
        card: content of card.json.
        digest: SHA-256 over pictures, rows and codec; equal for equal data, whenever and wherever it was made.
        codec: shape, classes and caption words.
        kind: always `pictures`.
    """

    kind: Literal["pictures"] = "pictures"

    def __init__(self, path: Path, card: dict[str, Any], digest: str, codec: Codec) -> None:
        self.path, self.card, self.digest, self.codec = path, card, digest, codec
        self._rows: dict[str, Any] = {}

    def with_codec(self, codec: Codec) -> PictureDataset[Codec]:
        """Return the same pictures with a codec that writes their captions in another way."""
        return PictureDataset(self.path, self.card, self.digest, codec)

    @staticmethod
    def open(path: Path, codec: type[Codec]) -> PictureDataset[Codec]:
        """Check every file against the manifest and read card and codec.

        Args:
            path: the folder.
            codec: class that reads the codec's files, `bottega.codecs.image.ImageCodec`.

        Raises:
            InputError: not a folder of prepared pictures.
            CorruptError: a file is missing or changed; the message names it.
        """
        if not (path / images_file("train")).is_file() and not (path / MANIFEST).is_file():
            raise InputError(f"{path} is not a prepared set of pictures",
                             fix="make one with 'bottega data prepare RECIPE'")
        verify_manifest(path)
        card, files = read_json(path / CARD), read_json(path / MANIFEST)["files"]
        if not isinstance(card, dict) or not isinstance(about := card.get("bottega"), dict):
            raise CorruptError(f"{path / CARD} is not a card", where=str(path), fix="prepare the data again")
        if about.get("kind") != "pictures":
            raise InputError(f"{path} holds {about.get('kind')} data, not pictures", fix="name a set of pictures")
        digest = content_digest(files)
        if about.get("digest") != digest:
            raise CorruptError(f"{path / CARD} does not describe these pictures", where=str(path),
                               fix="delete the folder and prepare the data again")
        return PictureDataset(path, card, digest, codec.load(path))

    @property
    def lineage(self) -> Lineage:
        """The birth certificate."""
        return Lineage.load(self.path)

    def size(self, split: Split) -> int:
        """Return the number of pictures of a split."""
        return len(self.images(split))

    def images(self, split: Split) -> Pixels:
        """Return the pictures of a split, uint8 [N, C, H, W], memory-mapped and read-only."""
        images: Pixels = np.load(self.path / images_file(_known(split)), mmap_mode="r", allow_pickle=False)
        return images

    def labels(self, split: Split) -> NDArray[np.int64]:
        """Return the class of each picture as an index into the codec's classes, -1 for none: int64 [N]."""
        labels: NDArray[np.int64] = self._columns(split)["label"].to_numpy().astype(np.int64)
        return labels

    def captions(self, split: Split) -> list[str]:
        """Return the caption of each picture, in the length that the codec encodes; empty for none."""
        captions: list[str] = self._columns(split)["caption"].to_pylist()
        return captions

    def origins(self, split: Split) -> list[str]:
        """Return where each picture was read."""
        origins: list[str] = self._columns(split)["origin"].to_pylist()
        return origins

    def _columns(self, split: Split) -> Any:
        """Return the rows of a split in the order of its array."""
        import pyarrow.parquet as pq

        if _known(split) not in self._rows:
            self._rows[split] = pq.read_table(self.path / ROWS, filters=[("split", "=", split)])
        return self._rows[split]


def _known(split: Split) -> Split:
    if split not in SPLITS:
        raise InputError(f"a dataset has no split '{split}'", fix=suggest(split, SPLITS))
    return split
