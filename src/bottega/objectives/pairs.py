"""Two answers at a time as training rows, for every objective that learns from preferences: dpo, kto, orpo, reward.

Pairs are packed like conversations (`chat.packed_batch`), each answer a segment of its own, and the log-probability of
each answer is summed back by owner. `pytest tests/objectives` checks that packed and unpacked losses are equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bottega.core.errors import DataError
from bottega.core.progress import say
from bottega.data.order import Permutation
from bottega.families.base import IGNORED, Batch, Generator, TokenGenerator
from bottega.families.score import token_logprobs
from bottega.objectives.chat import ChatCodec, Row, pack, packed_batch, row, usable


class Records(Protocol):
    """What is needed of a dataset; `data.dataset.Dataset` keeps it."""

    def rows(self, split: Any) -> Iterator[dict[str, Any]]:
        """Yield rows with `messages` and the keys of the objective's kind of record."""


class Pair(NamedTuple):
    """Two answers as rows (chosen and rejected, where one is better) and a number of the objective's own."""

    first: Row
    second: Row
    mark: float = 1.0

    @property
    def length(self) -> int:
        """Tokens of both."""
        return self.first.length + self.second.length


def answer_logprobs(model: TokenGenerator, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the summed log-probability (nats) of each answer of a batch and its number of tokens.

    Args:
        model: gradients flow.
        batch: see `PairObjective.batch`.

    Returns:
        Two fp32 [pairs, 2].
    """
    def by_answer(values: Tensor) -> Tensor:
        total = values.new_zeros(2 * len(batch["marks"])).index_add(0, batch["owners"].flatten(), values.flatten())
        return total.view(-1, 2)

    return by_answer(token_logprobs(model, batch)), by_answer((batch["targets"] != IGNORED).float())


class PairObjective:
    """What the objectives on pairs have in common: loading, order, packing, held-out batches.

    Args:
        generator: the model being trained.
        codec: encodes conversations.
        dataset: records of both splits.
        context: longest prompt with answer, in tokens; also the length of packed rows.
        batch_tokens: tokens an optimiser step, turned into pairs by their mean length.
        micro_batch: rows of `context` tokens a forward pass.
        seed: of the data order.
        validation_tokens: at most this many held-out tokens a validation.

    Attributes:
        pairs: pairs an optimiser step.

    Raises:
        DataError: no pair of a split fits the context, or all are ties.
    """

    kind: str
    what = "preference pair"

    def __init__(self, generator: Generator, codec: ChatCodec, dataset: Records, *, context: int, batch_tokens: int,
                 micro_batch: int, seed: int, validation_tokens: int) -> None:
        self.generator: Any = generator
        self.context, self.seed, self.pad = context, seed, codec.pad
        self._pairs = {split: self._load(codec, dataset, split) for split in ("train", "validation")}
        self._kept: dict[str, Tensor] = {}
        length = float(np.mean([pair.length for pair in self._pairs["train"]]))
        self.pairs = max(1, round(batch_tokens / length))
        self._pass = max(1, int(micro_batch * context / length))
        held_out = self._pairs["validation"]
        count = max(1, min(len(held_out), int(validation_tokens / length)))
        # spread over all sources
        self._pairs["validation"] = [held_out[number * len(held_out) // count] for number in range(count)]

    def _pair(self, codec: ChatCodec, item: dict[str, Any]) -> Pair:
        """Return a record as a pair of rows; loss on the two answers alone."""
        first, second = (row(codec, [*item["messages"], {"role": "assistant", "content": item[key]}], answer_only=True)
                         for key in ("chosen", "rejected"))
        return Pair(first, second)

    def _load(self, codec: ChatCodec, dataset: Records, split: str) -> list[Pair]:
        """Return the pairs of a split; one stays when both answers fit and differ."""
        pairs, too_long, ties = [], 0, 0
        for item in dataset.rows(split):
            if item["chosen"] == item["rejected"]:
                ties += 1
                continue
            pair = self._pair(codec, item)
            if max(pair.first.length, pair.second.length) > self.context:
                too_long += 1
            else:
                pairs.append(pair)
        if too_long or ties:
            say(f"{split}: {too_long} pairs longer than {self.context} tokens and {ties} of two equal answers are "
                "left out")
        if ties and not pairs and not too_long:
            raise DataError(f"all {ties} {split} pairs are ties: chosen and rejected are the same text",
                            where="data.sources", fix="give pairs in which one answer is better")
        if not pairs and not too_long:
            raise DataError(f"the {split} split holds no {self.what}", where="data",
                            fix="give more pairs, or change data.validation")
        usable((answer for pair in pairs for answer in pair[:2]), self.context, what=f"{split} {self.what}",
               too_long=too_long)
        return pairs

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Return the generator's players."""
        found: dict[str, list[nn.Parameter]] = self.generator.players()
        return found

    def count(self, split: str) -> int:
        """Return how many pairs are used of a split."""
        return len(self._pairs[split])

    def keep(self, reference: dict[str, Tensor]) -> None:
        """Take log-probabilities of a frozen reference by split, fp32 [count, 2]; batches then carry them."""
        self._kept = reference

    def batch(self, step: int) -> list[Batch]:
        """Return the micro-batches of a step: packed rows (see `chat.packed_batch`) with three or four more keys.

        `owners`, int64 [bins, context]: the answer that a position belongs to, 2i for the first and 2i + 1 for the
        second of pair i. `marks`, fp32 [pairs]: their own numbers. `ends`, int64 [2 · pairs]: where in the flattened
        batch each answer's last token stands. `reference`, fp32 [pairs, 2], where it is kept.
        """
        size = self.count("train")
        places = range(step * self.pairs, (step + 1) * self.pairs)
        numbers = [Permutation(size, self.seed, place // size)[place % size] for place in places]
        return self._batches("train", numbers)

    def validation(self) -> Iterator[Batch]:
        """Yield the fixed held-out batches."""
        yield from self._batches("validation", range(self.count("validation")))

    def batches(self, split: str) -> Iterator[tuple[slice, Batch]]:
        """Yield all pairs of a split in order, with the places that a batch covers."""
        for first in range(0, self.count(split), self._pass):
            part = slice(first, min(first + self._pass, self.count(split)))
            yield part, self._batch(split, range(part.start, part.stop))

    def _batches(self, split: str, numbers: Sequence[int]) -> list[Batch]:
        return [self._batch(split, numbers[first:first + self._pass]) for first in range(0, len(numbers), self._pass)]

    def _batch(self, split: str, numbers: Sequence[int]) -> Batch:
        pairs = [self._pairs[split][number] for number in numbers]
        answers = [answer for pair in pairs for answer in pair[:2]]
        bins = pack(answers, self.context)
        batch = packed_batch(answers, bins, self.context, self.pad)
        owners, ends = np.zeros((len(bins), self.context), np.int64), np.zeros(len(answers), np.int64)
        for line, held in enumerate(bins):
            start = 0
            for number in held:
                owners[line, start:start + answers[number].length] = number
                start += answers[number].length
                ends[number] = line * self.context + start - 1
        batch |= {"owners": torch.from_numpy(owners), "ends": torch.from_numpy(ends),
                  "marks": torch.tensor([pair.mark for pair in pairs], dtype=torch.float32)}
        return {**batch, "reference": self._kept[split][list(numbers)]} if split in self._kept else batch

    def tokens(self, batch: Batch) -> int:
        """Return how many tokens (padding included) a micro-batch holds."""
        return batch["tokens"].numel()
