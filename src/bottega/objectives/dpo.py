"""Direct preference optimisation: make chosen answers likelier than rejected ones. `bottega train` with `kind: dpo`.

Rafailov et al. 2023, arXiv 2305.18290, equation 7: the loss of a pair is -log σ(β(Δchosen - Δrejected)), where Δ is the
log-probability of an answer under the model minus that under the frozen reference it started from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from bottega.core.progress import say
from bottega.core.validate import Strict
from bottega.data.order import Permutation
from bottega.families.base import IGNORED, Batch, Loss, TokenGenerator
from bottega.families.score import token_logprobs
from bottega.objectives.chat import ChatCodec, Row, pack, packed_batch, row, usable


class Settings(Strict):
    """Keys of `objective` besides `kind`.

    Attributes:
        beta: how strongly a change of log-probability counts; small lets the model move further from the reference.
        length_normalised: mean instead of summed log-probabilities of an answer (Meng et al. 2024, arXiv 2405.14734),
            against a preference for short or long; needs a larger beta (about 10 times).
        sft_weight: weight of the chosen answer's own mean negative log-likelihood, added to the loss so that right
            answers stay likely (Pang et al. 2024, arXiv 2404.19733).
    """

    beta: float = Field(default=0.1, gt=0)
    length_normalised: bool = False
    sft_weight: float = Field(default=0.0, ge=0)


class Preferences(Protocol):
    """What is needed of a dataset; `data.dataset.Dataset` keeps it."""

    def rows(self, split: Any) -> Iterator[dict[str, Any]]:
        """Yield rows with `messages`, `chosen`, `rejected`."""


class DPO:
    """Preference learning on pairs of answers to the same prompt.

    Args:
        generator: the model being aligned.
        reference: a frozen copy of the model it starts from.
        codec: encodes conversations.
        dataset: preference records of both splits.
        context: longest prompt with answer, in tokens; also the length of packed rows.
        batch_tokens: tokens an optimiser step, turned into pairs by their mean length.
        micro_batch: rows of `context` tokens a forward pass.
        seed: of the data order.
        validation_tokens: at most this many held-out tokens a validation.
        settings: see `Settings`.

    Raises:
        DataError: no pair of a split fits the context.
    """

    kind = "dpo"

    def __init__(self, generator: TokenGenerator, reference: TokenGenerator, codec: ChatCodec, dataset: Preferences, *,
                 context: int, batch_tokens: int, micro_batch: int, seed: int, validation_tokens: int,
                 settings: Settings | None = None) -> None:
        self.generator, self.reference = generator, reference
        self.settings, self.context, self.seed, self.pad = settings or Settings(), context, seed, codec.pad
        self._train = self._load(codec, dataset, "train")
        held_out = self._load(codec, dataset, "validation")
        length = float(np.mean([chosen.length + rejected.length for chosen, rejected in self._train]))
        self.pairs = max(1, round(batch_tokens / length))
        self._pass = max(1, int(micro_batch * context / length))
        count = max(1, min(len(held_out), int(validation_tokens / length)))
        chosen = [held_out[number * len(held_out) // count] for number in range(count)]  # spread over all sources
        self._held_out = [self._batch(chosen[first:first + self._pass]) for first in range(0, count, self._pass)]

    def _load(self, codec: ChatCodec, dataset: Preferences, split: str) -> list[tuple[Row, Row]]:
        """Return the (chosen, rejected) rows of a split; a pair stays only when both fit."""
        pairs, too_long = [], 0
        for item in dataset.rows(split):
            answers = [row(codec, [*item["messages"], {"role": "assistant", "content": item[key]}], answer_only=True)
                       for key in ("chosen", "rejected")]
            if max(answer.length for answer in answers) > self.context:
                too_long += 1
            else:
                pairs.append((answers[0], answers[1]))
        if too_long:
            say(f"{split}: {too_long} pairs longer than {self.context} tokens are left out")
        usable((answer for pair in pairs for answer in pair), self.context, what=f"{split} preference pair",
               too_long=too_long)
        return pairs

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Return the generator's players; the reference is nobody's."""
        return self.generator.players()

    def batch(self, step: int) -> list[Batch]:
        """Return the micro-batches of a step (see `_batch`)."""
        size = len(self._train)
        places = range(step * self.pairs, (step + 1) * self.pairs)
        chosen = [self._train[Permutation(size, self.seed, place // size)[place % size]] for place in places]
        return [self._batch(chosen[first:first + self._pass]) for first in range(0, self.pairs, self._pass)]

    def _batch(self, pairs: list[tuple[Row, Row]]) -> Batch:
        """Return packed rows (see `chat.packed_batch`) with `owners`, int64 [bins, context].

        The owner of a position is the answer it belongs to: 2i for the chosen and 2i + 1 for the rejected answer of
        pair i; `answers`, int64 [1], is their number.
        """
        answers = [answer for pair in pairs for answer in pair]
        bins = pack(answers, self.context)
        batch = packed_batch(answers, bins, self.context, self.pad)
        owners = np.zeros((len(bins), self.context), dtype=np.int64)
        for line, numbers in enumerate(bins):
            start = 0
            for number in numbers:
                owners[line, start:start + answers[number].length] = number
                start += answers[number].length
        return {**batch, "owners": torch.from_numpy(owners), "answers": torch.tensor([len(answers)])}

    def _scores(self, model: TokenGenerator, batch: Batch) -> Tensor:
        """Return the log-probability of each answer, fp32 [pairs, 2]: summed, or the mean when length-normalised."""
        logs = token_logprobs(model, batch).flatten()
        summed = logs.new_zeros(int(batch["answers"])).index_add(0, batch["owners"].flatten(), logs)
        return (summed / self._lengths(batch) if self.settings.length_normalised else summed).view(-1, 2)

    @staticmethod
    def _lengths(batch: Batch) -> Tensor:
        """Return how many tokens each answer has, fp32 [answers]."""
        known = (batch["targets"] != IGNORED).flatten().float()
        return known.new_zeros(int(batch["answers"])).index_add(0, batch["owners"].flatten(), known)

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return the summed loss over pairs, `weight` their number; see the module for the formula."""
        policy = self._scores(self.generator, batch)
        with torch.no_grad():
            reference = self._scores(self.reference, batch)
        reward = self.settings.beta * (policy - reference)
        margin = reward[:, 0] - reward[:, 1]
        total = -F.logsigmoid(margin).sum()
        lengths = 1.0 if self.settings.length_normalised else self._lengths(batch).view(-1, 2)
        mean = policy / lengths
        if self.settings.sft_weight:
            total = total - self.settings.sft_weight * mean[:, 0].sum()
        with torch.no_grad():
            metrics = {"accuracy": (margin > 0).float().sum(), "margin": margin.sum(),
                       "likelier": (mean[:, 0] > mean[:, 1]).float().sum(), "chosen": mean[:, 0].sum(),
                       "rejected": mean[:, 1].sum()}
        return Loss(total, torch.tensor(len(margin)), metrics)

    def validation(self) -> Iterator[Batch]:
        """Yield the fixed held-out batches."""
        yield from self._held_out

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        """Return means over pairs: loss; accuracy (margin above 0); margin; likelier (the chosen answer's mean
        token log-probability is the higher one, whatever the reference says); chosen and rejected mean token
        log-probability in nats."""
        return {name: totals[name] / weight
                for name in ("loss", "accuracy", "margin", "likelier", "chosen", "rejected")}

    def tokens(self, batch: Batch) -> int:
        """Return how many tokens (padding included) a micro-batch holds."""
        return batch["tokens"].numel()
