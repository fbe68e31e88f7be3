"""Training on tables: any part of a row predicts the rest (`bottega train recipes/patients-table.yaml`).

Every step takes rows in a keyed order and shows a random subset of the columns of each part of them, its size drawn
evenly from none to all but one (Uria, Murray, Larochelle 2014). The same held-out rows and subsets judge every weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bottega.core.errors import DataError
from bottega.core.validate import Strict
from bottega.data.order import Permutation
from bottega.families.base import Batch, Loss
from bottega.families.tabular import Tabular

_PARTS = 4          # subsets of columns in a batch
_HELD_OUT = 4096    # rows a validation looks at, at most
_SUBSETS = 24       # of columns in a validation
_LOOKS = 4          # subsets that a held-out row is seen under
_AT_ONCE = 8192     # rows that the base is fitted on together
_BASE_ROWS = 200_000  # more add nothing to a covariance


class Settings(Strict):
    """Keys of `objective` besides `kind`: there are none."""


class Rows(Protocol):
    """What is needed of a dataset; `data.tables.dataset.TableDataset` keeps it."""

    def codes(self, split: Any) -> NDArray[np.int32]:
        """Return int32 [N, D]."""

    def places(self, split: Any) -> NDArray[np.float32]:
        """Return float32 [N, D]."""


class TableTraining:
    """Rows in a keyed order; fits the base at once.

    Args:
        generator: the model.
        dataset: both splits.
        batch: rows an optimiser step.
        micro_batch: rows a forward pass.
        seed: of the order and of the subsets.

    Raises:
        DataError: a split is empty.
    """

    kind = "tables"

    def __init__(self, generator: Tabular, dataset: Rows, *, batch: int, micro_batch: int, seed: int) -> None:
        self.generator, self.seed = generator, seed
        self._codes = {split: dataset.codes(split) for split in ("train", "validation")}
        self._places = {split: dataset.places(split) for split in self._codes}
        self.count, self.columns = self._codes["train"].shape
        for split, codes in self._codes.items():
            if not len(codes):
                raise DataError(f"the {split} split holds no rows", where="data", fix="change data.validation")
        parts = min(_PARTS, max(1, self.count // 4))
        self.rows = max(parts, min(batch, self.count) // parts * parts)
        self.micro_batch = max(parts, min(micro_batch, self.rows) // parts * parts)
        self._parts = parts
        generator.base.fit([self._take("train", rows) for rows in self._slices(min(self.count, _BASE_ROWS))])

    def _slices(self, count: int) -> Iterator[NDArray[np.int64]]:
        order = Permutation(self.count, self.seed, -1).take(np.arange(count, dtype=np.int64))
        for first in range(0, count, _AT_ONCE):
            yield order[first:first + _AT_ONCE]

    def _take(self, split: str, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        device = self.generator.base.mean.device
        return (torch.from_numpy(self._codes[split][rows].astype(np.int64)).to(device),
                torch.from_numpy(np.asarray(self._places[split][rows], np.float32)).to(device))

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Return the generator's players."""
        return self.generator.players()

    def batch(self, step: int) -> list[Batch]:
        """Return the micro-batches of a step; see `Tabular` for keys and shapes."""
        places = np.arange(step * self.rows, (step + 1) * self.rows, dtype=np.int64)
        rows = np.empty_like(places)
        for epoch in np.unique(places // self.count):
            chosen = places // self.count == epoch
            rows[chosen] = Permutation(self.count, self.seed, int(epoch)).take(places[chosen] % self.count)
        draw = np.random.default_rng([self.seed, step])
        found: list[Batch] = []
        for first in range(0, self.rows, self.micro_batch):
            codes, inside = self._take("train", rows[first:first + self.micro_batch])
            parts = self._parts if len(codes) % self._parts == 0 else 1
            found.append({"codes": codes, "places": inside, "visible": self._subsets(draw, parts)})
        return found

    def _subsets(self, draw: np.random.Generator, count: int) -> torch.Tensor:
        """Return `count` random subsets of columns as bool [count, D], none of them whole."""
        visible = np.zeros((count, self.columns), bool)
        for row in visible:
            row[draw.permutation(self.columns)[:draw.integers(0, self.columns)]] = True
        return torch.from_numpy(visible)

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return the model's loss."""
        return self.generator.loss(batch, player)

    def validation(self) -> Iterator[Batch]:
        """Yield fixed held-out rows under fixed subsets, each row under several."""
        whole = len(self._codes["validation"])
        count = min(whole, _HELD_OUT)
        rows = np.arange(count, dtype=np.int64) * whole // count
        codes, places = self._take("validation", rows)
        draw = np.random.default_rng([self.seed, 2**31])
        sizes = np.linspace(0, self.columns - 1, _SUBSETS).round().astype(int)
        every = max(1, min(_SUBSETS // _LOOKS, count // 8))  # a few held-out rows are seen under all subsets
        for index, size in enumerate(sizes):
            visible = np.zeros(self.columns, bool)
            visible[draw.permutation(self.columns)[:size]] = True
            part = slice(index % every, None, every)
            yield {"codes": codes[part], "places": places[part], "visible": torch.from_numpy(visible)[None]}

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        """Return nats a row, and those of the best weights so far, which the model keeps."""
        loss = totals["loss"] / weight
        self.generator.judge(loss)
        return {"nats": loss, "best": float(self.generator.best_loss)}

    def tokens(self, batch: Batch) -> int:
        """Return how many rows a micro-batch holds."""
        return len(batch["codes"])
