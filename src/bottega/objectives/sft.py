"""Supervised fine-tuning: learn to answer as the assistant of given conversations. `bottega train` with `kind: sft`.

Loss only on what the assistant says. Conversations are packed into rows of the context without seeing each other, or
stand one a row beside others of like length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from pydantic import Field
from torch import nn

from bottega.core.progress import say
from bottega.core.validate import Strict
from bottega.data.order import Permutation
from bottega.families.base import IGNORED, Batch, Loss, TokenGenerator
from bottega.families.score import logprobs
from bottega.objectives.buckets import Buckets
from bottega.objectives.chat import ChatCodec, Row, pack, packed_batch, row, usable


class Settings(Strict):
    """Keys of `objective` besides `kind`.

    Attributes:
        pack: several conversations a row; off gives each a row of its own.
        buckets: without packing, how many different row lengths there are at most.
    """

    pack: bool = True
    buckets: int = Field(default=8, ge=1, le=64)


class Chats(Protocol):
    """What is needed of a dataset; `data.dataset.Dataset` keeps it."""

    def rows(self, split: Any) -> Iterator[dict[str, Any]]:
        """Yield rows with `messages` and `source`."""


class SFT:
    """Next-token prediction on assistant turns.

    Args:
        generator: the model being tuned.
        codec: encodes conversations.
        dataset: chat records of both splits.
        context: tokens a row.
        batch_tokens: tokens an optimiser step, at least one row.
        micro_batch: rows of the context a forward pass.
        seed: of the data order.
        validation_tokens: at most this many held-out tokens a validation.
        settings: see `Settings`.

    Raises:
        DataError: no conversation of a split fits the context.
    """

    kind = "sft"

    def __init__(self, generator: TokenGenerator, codec: ChatCodec, dataset: Chats, *, context: int, batch_tokens: int,
                 micro_batch: int, seed: int, validation_tokens: int, settings: Settings | None = None) -> None:
        self.generator, self.context, self.seed, self.pad = generator, context, seed, codec.pad
        self.lines, self.micro_batch = max(1, batch_tokens // context), micro_batch
        options = settings or Settings()
        self._train, held_out = (self._load(codec, dataset, split) for split in ("train", "validation"))
        self._bins: list[list[int]] = []
        self._buckets: Buckets | None = None
        if options.pack:
            self._bins, bins = pack(self._train, context), pack(held_out, context)
            count = max(1, min(len(bins), validation_tokens // context))
            chosen = [bins[number * len(bins) // count] for number in range(count)]  # spread over all sources
            self._held_out = self._passes(held_out, chosen, context)
            return
        self._buckets = Buckets([item.length for item in self._train], context, self.lines * context, options.buckets)
        whole = 1 - sum(item.length for item in self._train) / (context * len(self._train))
        say(f"rows of {', '.join(map(str, self._buckets.widths))} tokens: {self._buckets.padding:.0%} padding "
            f"({whole:.0%} if all had {context})")
        mean = sum(item.length for item in held_out) / len(held_out)
        count = max(1, min(len(held_out), int(validation_tokens / mean)))
        rows = [held_out[number * len(held_out) // count] for number in range(count)]
        spread = Buckets([item.length for item in rows], context, self.lines * context, options.buckets)
        self._held_out = [batch for step in range(len(spread)) for batch in self._alone(rows, *spread.batch(0, step))]

    def _passes(self, rows: list[Row], bins: list[list[int]], width: int) -> list[Batch]:
        """Return batches of as many tokens as `micro_batch` rows of the context hold."""
        lines = max(1, self.micro_batch * self.context // width)
        return [packed_batch(rows, bins[first:first + lines], width, self.pad) for first in range(0, len(bins), lines)]

    def _alone(self, rows: list[Row], width: int, numbers: list[int]) -> list[Batch]:
        """Return batches with one conversation a row."""
        return self._passes(rows, [[number] for number in numbers], width)

    def _load(self, codec: ChatCodec, dataset: Chats, split: str) -> list[Row]:
        """Return the usable rows of a split."""
        found = usable((row(codec, item["messages"], source=item["source"]) for item in dataset.rows(split)),
                       self.context, what=f"{split} conversation")
        if found.too_long or found.silent:
            say(f"{split}: {found.too_long} conversations longer than {self.context} tokens and {found.silent} "
                "without an answer are left out")
        return found.rows

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Return the generator's players."""
        return self.generator.players()

    def batch(self, step: int) -> list[Batch]:
        """Return the micro-batches of a step (see `chat.packed_batch`)."""
        if self._buckets is not None:
            return self._alone(self._train, *self._buckets.batch(self.seed, step))
        places = np.arange(step * self.lines, (step + 1) * self.lines, dtype=np.int64)
        size = len(self._bins)
        chosen = [self._bins[Permutation(size, self.seed, int(place) // size)[int(place) % size]] for place in places]
        return self._passes(self._train, chosen, self.context)

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return summed cross-entropy in nats over assistant tokens; when evaluating also how many the model's
        first guess gets right."""
        if self.generator.training:
            return self.generator.loss(batch, player)
        targets = batch["targets"]
        hidden = self.generator.hidden(batch["tokens"], positions=batch["positions"], segments=batch["segments"])
        known = targets != IGNORED
        total = -logprobs(hidden, self.generator.head_weight, targets).sum()
        right = self.generator.head(hidden[known]).argmax(-1) == targets[known]
        return Loss(total, known.sum(), {"right": right.sum().float()})

    def validation(self) -> Iterator[Batch]:
        """Yield the fixed held-out batches."""
        yield from self._held_out

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        """Return mean loss in nats an assistant token, perplexity, and the share of tokens guessed right."""
        mean = totals["loss"] / weight
        return {"loss": mean, "perplexity": math.exp(min(mean, 700.0)), "token_accuracy": totals["right"] / weight}

    def tokens(self, batch: Batch) -> int:
        """Return how many tokens (padding included) a micro-batch holds."""
        return batch["tokens"].numel()
