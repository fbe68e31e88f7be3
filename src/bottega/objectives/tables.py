"""Training on tables: any part of a row predicts the rest (`bottega train recipes/patients-table.yaml`).

Every step takes rows in a keyed order and shows a random subset of the columns of each part of them, its size drawn
evenly from none to all but one (Uria, Murray, Larochelle 2014). The same held-out rows and subsets judge every weight.
Of sequences only what is asked of them when they are made is learned: an entity at its first row, and a row given its
entity and the rows before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

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


class Stage(NamedTuple):
    """One kind of question that a model is asked.

    Attributes:
        shown: columns that are always visible, bool [D].
        drawn: columns of which a random subset is, bool [D]; the rest is hidden.
        rows: split → rows that the question is asked of; None for all.
    """

    shown: NDArray[np.bool_]
    drawn: NDArray[np.bool_]
    rows: Mapping[Any, NDArray[np.int64]] | None = None


class TableTraining:
    """Rows in a keyed order; fits a fresh model's base at once.

    Args:
        generator: the model.
        dataset: both splits.
        batch: rows an optimiser step.
        micro_batch: rows a forward pass.
        seed: of the order and of the subsets.
        stages: what to ask, each as often as the others; by default any columns of any row.
        fresh: the model has learned nothing yet; else its base stays as it was fitted.

    Raises:
        DataError: a split is empty.
    """

    kind = "tables"

    def __init__(self, generator: Tabular, dataset: Rows, *, batch: int, micro_batch: int, seed: int,
                 stages: Sequence[Stage] = (), fresh: bool = True) -> None:
        self.generator, self.seed = generator, seed
        self._codes = {split: dataset.codes(split) for split in ("train", "validation")}
        self._places = {split: dataset.places(split) for split in self._codes}
        self.count, self.columns = self._codes["train"].shape
        every = np.ones(self.columns, bool)
        self.stages = [stage for stage in stages if stage.drawn.any()] or [Stage(~every, every)]
        for split, codes in self._codes.items():
            if not len(codes):
                raise DataError(f"the {split} split holds no rows", where="data", fix="change data.validation")
        parts = min(_PARTS, max(1, self.count // 4))
        self.rows = max(parts, min(batch, self.count) // parts * parts)
        self.micro_batch = max(parts, min(micro_batch, self.rows) // parts * parts)
        self._parts = parts
        if fresh:
            generator.fit_base([self._take("train", rows)
                                for rows in self._slices(min(self.count, _BASE_ROWS))])

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
            mine = rows[first:first + self.micro_batch]
            parts = self._parts if len(mine) % self._parts == 0 else 1
            asked = [self.stages[draw.integers(len(self.stages))] if len(self.stages) > 1 else self.stages[0]
                     for _ in range(parts)]
            mine = np.concatenate([_among(part, stage, "train") for part, stage in
                                   zip(np.split(mine, parts), asked, strict=True)])
            codes, inside = self._take("train", mine)
            visible = [_subset(stage, draw, draw.integers(0, stage.drawn.sum())) for stage in asked]
            found.append({"codes": codes, "places": inside, "visible": torch.from_numpy(np.stack(visible))})
        return found

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return the model's loss."""
        return self.generator.loss(batch, player)

    def validation(self) -> Iterator[Batch]:
        """Yield fixed held-out rows under fixed subsets, each row under several."""
        draw = np.random.default_rng([self.seed, 2**31])
        for stage in self.stages:
            known = np.arange(len(self._codes["validation"])) if stage.rows is None else stage.rows["validation"]
            count = min(len(known), _HELD_OUT)
            codes, places = self._take("validation", known[np.arange(count, dtype=np.int64) * len(known) // count])
            sizes = np.linspace(0, stage.drawn.sum() - 1, _SUBSETS).round().astype(int)
            every = max(1, min(_SUBSETS // _LOOKS, count // 8))  # a few held-out rows are seen under all subsets
            for index, size in enumerate(sizes):
                part = slice(index % every, None, every)
                yield {"codes": codes[part], "places": places[part],
                       "visible": torch.from_numpy(_subset(stage, draw, size))[None]}

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        """Return nats a row, and those of the best weights so far, which the model keeps."""
        loss = totals["loss"] / weight
        self.generator.judge(loss)
        return {"nats": loss, "best": float(self.generator.best_loss)}

    def tokens(self, batch: Batch) -> int:
        """Return how many rows a micro-batch holds."""
        return len(batch["codes"])


def _among(rows: NDArray[np.int64], stage: Stage, split: str) -> NDArray[np.int64]:
    """Return rows that a question can be asked of, as many as are given and as evenly spread."""
    return rows if stage.rows is None else stage.rows[split][rows % len(stage.rows[split])]


def _subset(stage: Stage, draw: np.random.Generator, size: Any) -> NDArray[np.bool_]:
    """Return which columns are visible: those that always are, and `size` of the others; bool [D], never all."""
    visible = stage.shown.copy()
    visible[draw.permutation(np.flatnonzero(stage.drawn))[:size]] = True
    return visible
