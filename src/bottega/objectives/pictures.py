"""Training on pictures with their classes and captions: `bottega train` with `kind: pictures`.

What is minimised is the family's own loss; a family with two players (a GAN) is trained in turns by the same loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bottega.core.errors import DataError
from bottega.core.progress import timed
from bottega.core.validate import Strict
from bottega.data.order import Permutation
from bottega.families.base import Batch, Loss
from bottega.families.pictures import PictureGenerator

_ONE_ONLY = 0.3  # share of pictures with class and caption that are shown without the one, and without the other
_AT_ONCE = 256  # pictures encoded together
_MEASURED = 4096  # pictures that tell how large codes are
_HELD_OUT = 2048  # pictures a validation looks at, at most


class Settings(Strict):
    """Keys of `objective` besides `kind`: there are none, the families have their own."""


class Pictures(Protocol):
    """What is needed of a dataset; `data.pictures.dataset.PictureDataset` keeps it."""

    def images(self, split: Any) -> NDArray[np.uint8]:
        """Return uint8 [N, C, H, W]."""

    def labels(self, split: Any) -> NDArray[np.int64]:
        """Return int64 [N], -1 for no class."""

    def captions(self, split: Any) -> list[str]:
        """Return the captions."""


class Codec(Protocol):
    """What is needed of a codec; `codecs.image.ImageCodec` keeps it."""

    def to_tensor(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Return uint8 as float32 in [-1, 1]."""

    def encode_texts(self, captions: list[str]) -> list[list[int]]:
        """Return tokens of equal length."""


class PictureTraining:
    """Pictures in a keyed order.

    Args:
        generator: the model.
        codec: pictures and captions to tensors.
        dataset: both splits.
        batch: pictures an optimiser step.
        micro_batch: pictures a forward pass.
        seed: of the data order, and of the noise in held-out losses.
        fresh: the generator has learned nothing yet; else what it measured of earlier pictures holds.

    Raises:
        DataError: a split holds fewer than two pictures.
    """

    kind = "pictures"

    def __init__(self, generator: PictureGenerator, codec: Codec, dataset: Pictures, *, batch: int, micro_batch: int,
                 seed: int, fresh: bool = True) -> None:
        self.generator, self._codec, self.seed, self.micro_batch = generator, codec, seed, micro_batch
        self._images = {split: dataset.images(split) for split in ("train", "validation")}
        for split, images in self._images.items():
            if len(images) < 2:
                raise DataError(f"the {split} split holds {len(images)} pictures, at least 2 are needed",
                                where="data", fix="add pictures, or change data.validation")
        self._labels = {split: torch.from_numpy(dataset.labels(split)) for split in self._images}
        self._text = {split: torch.tensor(codec.encode_texts(dataset.captions(split)), dtype=torch.int64)
                      .reshape(len(self._images[split]), -1) for split in self._images}
        self._codes = self._encoded(fresh) if generator.encodes else {}
        self.rows = min(batch, len(self._images["train"]))

    def _encoded(self, fresh: bool) -> dict[str, torch.Tensor]:
        """Return the codes of all pictures: they are needed again in every epoch."""
        model = self.generator

        def tensors(split: str, most: int | None = None) -> Iterator[torch.Tensor]:
            for first in range(0, len(self._images[split][:most]), _AT_ONCE):
                yield self._codec.to_tensor(self._images[split][:most][first:first + _AT_ONCE]).to(model.device)

        if fresh:
            model.measure(tensors("train", _MEASURED))
        with timed("encoding the pictures once"):
            return {split: torch.cat([model.codes(images).cpu() for images in tensors(split)])
                    for split in self._images}

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Return the generator's players."""
        return self.generator.players()

    def batch(self, step: int) -> list[Batch]:
        """Return the micro-batches of a step; see `families.pictures` for keys and shapes."""
        count = len(self._images["train"])
        places = np.arange(step * self.rows, (step + 1) * self.rows, dtype=np.int64)
        rows = np.empty_like(places)
        for epoch in np.unique(places // count):
            chosen = places // count == epoch
            rows[chosen] = Permutation(count, self.seed, int(epoch)).take(places[chosen] % count)
        whole = self._take("train", rows)
        self._part(whole, np.random.default_rng([self.seed, step]))
        return [{key: value[first:first + self.micro_batch] for key, value in whole.items()}
                for first in range(0, self.rows, self.micro_batch)]

    def _part(self, batch: Batch, draw: np.random.Generator) -> None:
        """Take the class or the caption from some pictures that have both: people will give one of the two."""
        if not batch["text"].shape[1]:
            return
        both = (batch["labels"] >= 0) & (batch["text"] != 0).any(1)
        lot = torch.from_numpy(draw.random(len(both)))
        batch["labels"] = torch.where(both & (lot < _ONE_ONLY), -1, batch["labels"])
        batch["text"] = torch.where((both & (lot > 1 - _ONE_ONLY)).unsqueeze(1), 0, batch["text"])

    def _take(self, split: str, rows: NDArray[np.int64]) -> Batch:
        chosen = torch.from_numpy(rows)
        seen = {"codes": self._codes[split][chosen]} if self._codes else \
            {"images": self._codec.to_tensor(self._images[split][rows])}
        return {**seen, "labels": self._labels[split][chosen], "text": self._text[split][chosen]}

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return the family's loss; held-out losses see the same noise each time."""
        if self.generator.training:
            return self.generator.loss(batch, player)
        device = batch["labels"].device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed + 1)
            return self.generator.loss(batch, player)

    def validation(self) -> Iterator[Batch]:
        """Yield fixed held-out pictures, spread evenly over the split."""
        whole = len(self._images["validation"])
        count = min(whole, _HELD_OUT)
        rows = np.arange(count, dtype=np.int64) * whole // count
        for first in range(0, count, self.micro_batch):
            yield self._take("validation", rows[first:first + self.micro_batch])

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        """Return the mean loss a picture and the family's other figures."""
        return {name: value / weight for name, value in totals.items()}

    def tokens(self, batch: Batch) -> int:
        """Return how many pictures a micro-batch holds."""
        return len(batch["labels"])
