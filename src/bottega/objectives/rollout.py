"""Rounds of sampled answers as training rows: drawn, scored, packed. Shared by GRPO and PPO.

A round is a pure function of weights, seed and its number. Its rows hold one column for each figure a loss needs
(`old`, `reference`, `advantage`, …), aligned with the tokens that carry loss: `pytest tests/objectives/test_grpo.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bottega.data.order import Permutation
from bottega.families.base import IGNORED, Batch
from bottega.objectives.chat import Row, pack, packed_batch
from bottega.objectives.rewards import Rewards, Scores
from bottega.objectives.samples import Prompt, Sample, Sampler

Floats = NDArray[np.float32]


@dataclass(slots=True)
class Line:
    """One answer ready to train on: its row, and columns of one fp32 value for each token that carries loss."""

    row: Row
    columns: dict[str, Floats] = field(default_factory=dict)


def line_of(sample: Sample) -> Line:
    """Return a sample's row (loss on the answer alone) with the column `old`: log-probabilities when it was drawn."""
    ids = np.asarray([*sample.prompt.tokens, *sample.tokens], dtype=np.int64)
    targets = ids[1:].copy()
    targets[:len(sample.prompt.tokens) - 1] = IGNORED
    return Line(Row(ids[:-1], targets), {"old": np.asarray(sample.logprobs, dtype=np.float32)})


def spread(lines: Sequence[Line], bins: Sequence[Sequence[int]], context: int, pad: int) -> Batch:
    """Return packed rows (`chat.packed_batch`) with each column as fp32 [bins, context], 0 where nothing carries loss.

    `owners`, int64 [bins, context], says which line of `lines` a token that carries loss belongs to (-1 elsewhere).
    """
    batch = packed_batch([line.row for line in lines], bins, context, pad)
    known = batch["targets"] != IGNORED
    order = [number for numbers in bins for number in numbers]  # how the mask walks through the tokens
    columns: dict[str, Tensor] = {}
    for name in lines[order[0]].columns:
        columns[name] = torch.zeros(known.shape)
        columns[name][known] = torch.from_numpy(np.concatenate([lines[number].columns[name] for number in order]))
    owners = torch.full(known.shape, -1)
    owners[known] = torch.from_numpy(np.repeat(order, [lines[number].row.weight for number in order]))
    return {**batch, **columns, "owners": owners}


def batches(lines: Sequence[Line], context: int, micro_batch: int, pad: int) -> list[Batch]:
    """Return lines as packed micro-batches of at most `micro_batch` rows, as long as the fullest of them needs."""
    bins = pack([line.row for line in lines], context)
    width = [sum(lines[number].row.length for number in numbers) for numbers in bins]
    return [spread(lines, bins[first:first + micro_batch], max(width[first:first + micro_batch]), pad)
            for first in range(0, len(bins), micro_batch)]


@torch.no_grad()
def columns_of(score: Callable[[Batch], Tensor], lines: Sequence[Line], context: int, micro_batch: int, pad: int,
               device: torch.device) -> list[Floats]:
    """Return what a frozen model says of each line: one value for each token that carries loss.

    Args:
        score: a batch on `device` → fp32 [bins, context].
        lines: to score.
        context, micro_batch, pad: see `batches`.
        device: where the model is.
    """
    found = [np.empty(0, dtype=np.float32)] * len(lines)
    for batch in batches(lines, context, micro_batch, pad):
        values = score({name: tensor.to(device) for name, tensor in batch.items()}).cpu()
        scatter(found, values, batch["owners"])
    return found


def scatter(found: list[Floats], values: Tensor, owners: Tensor) -> None:
    """Put values [bins, context] back to the lines that own them."""
    flat, own = values.flatten().float(), owners.flatten()
    for number in np.unique(own[own >= 0].numpy()).tolist():
        found[number] = flat[own == number].numpy()


@dataclass(slots=True)
class Round:
    """The answers of one round: `copies` for each prompt, next to each other."""

    number: int
    samples: list[Sample]
    scores: Scores
    copies: int

    @property
    def totals(self) -> NDArray[np.float64]:
        """Rewards, [prompts, copies]."""
        return np.asarray(self.scores.total, dtype=np.float64).reshape(-1, self.copies)

    def figures(self) -> dict[str, float]:
        """Return what the answers look like, for the log: means over all of them.

        `entropy` is the mean of -log p over drawn tokens, an unbiased estimate of the entropy of a token in nats;
        `distinct` the share of different 3-token sequences within an answer.
        """
        drawn = [value for sample in self.samples for value in sample.logprobs]
        figures = {"reward": float(np.mean(self.scores.total))}
        figures |= {f"reward_{name}": float(np.mean(values)) for name, values in self.scores.parts.items()}
        return figures | {
            "length": float(np.mean([len(sample.tokens) for sample in self.samples])),
            "finished": float(np.mean([sample.finished for sample in self.samples])),
            "entropy": float(-np.mean(drawn)),
            "distinct": float(np.mean([distinct(sample.tokens) for sample in self.samples]))}


def distinct(tokens: Sequence[int], size: int = 3) -> float:
    """Return the share of different sequences of `size` tokens (Li et al. 2016, arXiv 1510.03055, §5.4); 1 if short."""
    runs = [tuple(tokens[place:place + size]) for place in range(len(tokens) - size + 1)]
    return len(set(runs)) / len(runs) if runs else 1.0


def seed_of(*parts: object) -> int:
    """Return a 53-bit seed that is a function of its arguments alone."""
    digest = hashlib.sha256(" ".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11


class Rollouts:
    """Draws and scores rounds.

    Args:
        prompts: of training, at least one.
        sampler: draws answers from the model as it is.
        rewards: scores them.
        count: prompts a round.
        copies: answers a prompt.
        max_tokens: longest answer.
        seed: of which prompts, and of the draws.
    """

    def __init__(self, prompts: Sequence[Prompt], sampler: Sampler, rewards: Rewards, *, count: int, copies: int,
                 max_tokens: int, seed: int) -> None:
        self.prompts, self.sampler, self.rewards = prompts, sampler, rewards
        self.count, self.copies, self.max_tokens, self.seed = count, copies, max_tokens, seed

    def chosen(self, number: int) -> list[Prompt]:
        """Return the prompts of a round: the next ones of an order without repeats, a new order each pass."""
        size, places = len(self.prompts), range(number * self.count, (number + 1) * self.count)
        return [self.prompts[Permutation(size, self.seed, place // size)[place % size]] for place in places]

    def round(self, number: int) -> Round:
        """Draw and score a round with the weights of now.

        Raises:
            DataError: a reward failed; see `Rewards`.
        """
        seeds = [seed_of("rollout", self.seed, number, index) for index in range(self.count)]
        drawn = self.sampler(self.chosen(number), copies=self.copies, max_tokens=self.max_tokens, seeds=seeds)
        samples = [sample for group in drawn for sample in group]
        return Round(number, samples, self.rewards(samples), self.copies)


def flatten(lines: Sequence[Line]) -> dict[str, Tensor]:
    """Return lines as a few tensors, for a checkpoint; `unflatten` reads them."""
    if not lines:
        return {}
    tensors = {"lengths": torch.tensor([line.row.length for line in lines]),
               "weights": torch.tensor([line.row.weight for line in lines]),
               "tokens": torch.from_numpy(np.concatenate([line.row.tokens for line in lines])),
               "targets": torch.from_numpy(np.concatenate([line.row.targets for line in lines]))}
    for name in lines[0].columns:
        tensors[f"column.{name}"] = torch.from_numpy(np.concatenate([line.columns[name] for line in lines]))
    return tensors


def unflatten(tensors: dict[str, Tensor]) -> list[Line]:
    """Return the lines that `flatten` made tensors of."""
    if not tensors:
        return []
    parts = {name[len("column."):]: _split(tensor, tensors["weights"]) for name, tensor in tensors.items()
             if name.startswith("column.")}
    tokens, targets = (_split(tensors[name], tensors["lengths"]) for name in ("tokens", "targets"))
    return [Line(Row(*ids), {name: values[place] for name, values in parts.items()})
            for place, ids in enumerate(zip(tokens, targets, strict=True))]


def _split(tensor: Tensor, sizes: Tensor) -> list[NDArray[Any]]:
    return list(np.split(tensor.numpy(), np.cumsum(sizes.numpy())[:-1]))
