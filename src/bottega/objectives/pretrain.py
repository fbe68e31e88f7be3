"""Pretraining: predict every next token of packed text. `bottega train recipes/python-lm.yaml` runs it.

A window is `context + 1` neighbouring tokens of the packed split. The windows of an epoch are taken in the order of a
keyed permutation and their grid is shifted by a keyed offset, so that a token stands at another place each epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from bottega.core.errors import DataError
from bottega.core.validate import Strict
from bottega.data.order import Permutation
from bottega.families.base import IGNORED, Batch, Loss, TokenGenerator


class Settings(Strict):
    """Keys of `objective` besides `kind`.

    Attributes:
        fim: share (0..1) of windows whose text is rearranged as prefix, suffix, middle, so that the model learns to
            fill gaps (Bavarian et al. 2022, arXiv 2207.14255).
    """

    fim: float = Field(default=0.0, ge=0, le=1)


class Shards(Protocol):
    """Packed tokens: what `data.pack` makes."""

    def tokens(self, split: str) -> NDArray[np.unsignedinteger]:
        """Return the tokens of a split, 1-D."""


class Pretrain:
    """Next-token prediction over packed text.

    Args:
        generator: the model.
        shards: packed tokens of both splits.
        byte_lengths: int [vocab], UTF-8 bytes each token stands for (0 for reserved ones).
        context: tokens a window.
        batch_tokens: tokens an optimiser step, at least one window.
        micro_batch: windows a forward pass.
        seed: of the data order.
        validation_tokens: at most this many held-out tokens a validation.
        settings: see `Settings`.
        gap_tokens: ids of the marks begin, prefix, suffix, middle, end; needed when `settings.fim` is above 0.

    Raises:
        DataError: a split is too short for one window.
    """

    kind = "pretrain"

    def __init__(self, generator: TokenGenerator, shards: Shards, byte_lengths: NDArray[np.integer], *, context: int,
                 batch_tokens: int, micro_batch: int, seed: int, validation_tokens: int,
                 settings: Settings | None = None, gap_tokens: Sequence[int] = ()) -> None:
        self.generator, self.context, self.seed = generator, context, seed
        self.rows, self.micro_batch = max(1, batch_tokens // context), micro_batch
        self.validation_tokens = validation_tokens
        self.fim, self.gap_tokens = (settings or Settings()).fim, gap_tokens
        self._bytes = torch.from_numpy(np.asarray(byte_lengths, dtype=np.float32))
        self._train, self._held_out = shards.tokens("train"), shards.tokens("validation")
        whole = (len(self._train) - 1) // context
        if whole < 1:
            raise DataError(f"the training split has {len(self._train)} tokens, one window needs {context + 1}",
                            where="training.context", fix="lower training.context or add data")
        if len(self._held_out) < 2:
            raise DataError("the validation split is empty", where="data.validation",
                            fix="raise data.validation or add documents")
        self.windows = max(1, whole - 1)  # one window fewer leaves room for the offset
        self._shift = context if whole > 1 else 1

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Return the generator's players."""
        return self.generator.players()

    def _starts(self, step: int) -> NDArray[np.int64]:
        """Return where the windows of a step begin, int64 [rows]."""
        places = np.arange(step * self.rows, (step + 1) * self.rows, dtype=np.int64)
        starts = np.empty_like(places)
        for epoch in np.unique(places // self.windows):
            chosen = places // self.windows == epoch
            order = Permutation(self.windows, self.seed, int(epoch))
            offset = int(np.random.default_rng([self.seed, int(epoch)]).integers(self._shift))
            grid = np.asarray(order.take(places[chosen] % self.windows), dtype=np.int64)
            starts[chosen] = grid * self.context + offset
        return starts

    def batch(self, step: int) -> list[Batch]:
        """Return the micro-batches of a step: `tokens` and `targets`, int64 [rows, context]."""
        starts = self._starts(step)
        windows = self._train[starts[:, None] + np.arange(self.context + 1)].astype(np.int64)
        if self.fim and self.gap_tokens:
            for row, start in zip(windows, starts, strict=True):
                self._rearrange(row, int(start))
        return [_batch(windows[first:first + self.micro_batch]) for first in range(0, self.rows, self.micro_batch)]

    def _rearrange(self, window: NDArray[np.int64], start: int) -> None:
        """Turn a keyed share of windows into prefix, suffix, middle, end, in place; five tokens make room."""
        draw = np.random.default_rng([self.seed, start, 1])
        if draw.random() >= self.fim or len(window) < 16:
            return
        text = window[:-5].copy()
        first, second = np.sort(draw.integers(0, len(text) + 1, 2))
        begin, prefix, suffix, middle, end = self.gap_tokens
        window[:] = np.concatenate([[begin, prefix], text[:first], [suffix], text[second:], [middle],
                                    text[first:second], [end]])

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return summed cross-entropy in nats; when evaluating also the UTF-8 bytes of the targets."""
        loss = self.generator.loss(batch, player)
        if not self.generator.training:
            targets = batch["targets"]
            lengths = self._bytes.to(targets.device)[targets.clamp(min=0)]
            loss.metrics["bytes"] = torch.where(targets == IGNORED, 0.0, lengths).sum(dtype=torch.float64)
        return loss

    def validation(self) -> Iterator[Batch]:
        """Yield fixed windows spread evenly over the held-out split."""
        context = min(self.context, len(self._held_out) - 1)
        whole = (len(self._held_out) - 1) // context
        count = max(1, min(whole, self.validation_tokens // context))
        starts = (np.arange(count, dtype=np.int64) * whole // count) * context
        for first in range(0, count, self.micro_batch):
            places = starts[first:first + self.micro_batch, None] + np.arange(context + 1)
            yield _batch(self._held_out[places].astype(np.int64))

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        """Return bits per byte (independent of the tokenizer), mean loss in nats a token, perplexity."""
        mean = totals["loss"] / weight
        size = totals.get("bytes", 0.0)
        bits = {"bits_per_byte": totals["loss"] / math.log(2) / size} if size else {}
        return {**bits, "loss": mean, "perplexity": math.exp(min(mean, 700.0))}

    def tokens(self, batch: Batch) -> int:
        """Return how many tokens a micro-batch holds."""
        return batch["tokens"].numel()


def _batch(windows: NDArray[np.int64]) -> Batch:
    """Split windows int64 [rows, T + 1] into inputs and next-token targets."""
    return {"tokens": torch.from_numpy(np.ascontiguousarray(windows[:, :-1])),
            "targets": torch.from_numpy(np.ascontiguousarray(windows[:, 1:]))}
