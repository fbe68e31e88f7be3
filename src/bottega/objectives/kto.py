"""Learning from thumbs: single answers that were liked or not. `bottega train` with `kind: kto`.

Ethayarajh et al. 2024, arXiv 2402.01306, equation 8. With r = log π(y|x) - log π_ref(y|x) and the baseline
z = max(0, mean of r over prompts with an answer that belongs to another prompt), an estimate of the divergence between
model and reference that carries no gradient, the loss of an answer is

    desirable     λ_D (1 - σ(β(r - z)))
    undesirable   λ_U (1 - σ(β(z - r)))

Each answer is packed together with its mismatched one as a pair (`pairs.Pair`, whose mark is 1 or 0 for desirable or
not). The baseline is that of a micro-batch, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from bottega.core.errors import DataError
from bottega.core.files import digest_json
from bottega.core.progress import say
from bottega.core.validate import Strict
from bottega.data.order import Permutation
from bottega.families.base import Batch, Loss, TokenGenerator
from bottega.objectives.chat import ChatCodec, Row, row, usable
from bottega.objectives.pairs import Pair, PairObjective, Records, answer_logprobs


class Settings(Strict):
    """Keys of `objective` besides `kind`.

    Attributes:
        beta: how strongly a change of log-probability counts.
        desirable_weight, undesirable_weight: the paper's λ. None: the rarer kind weighs so much more that both weigh
            the same in all.
        reference: as of dpo.
    """

    beta: float = Field(default=0.1, gt=0)
    desirable_weight: float | None = Field(default=None, gt=0)
    undesirable_weight: float | None = Field(default=None, gt=0)
    reference: Literal["auto", "ahead", "beside"] = "auto"


class KTO(PairObjective):
    """Learning from answers that people liked or did not.

    Args:
        generator: the model being aligned.
        reference: a frozen copy of the model it starts from; None where `keep` gives its log-probabilities.
        codec: encodes conversations.
        dataset: rating records of both splits: `messages`, `answer`, `desirable`.
        settings: see `Settings`.
        sizes: see `PairObjective`.

    Attributes:
        weights: of desirable and of undesirable answers.

    Raises:
        DataError: fewer than two answers of a split fit the context, all of them are to one prompt, or none in
            training is desirable.
    """

    kind = "kto"
    what = "rated answer"

    def __init__(self, generator: TokenGenerator, reference: TokenGenerator | None, codec: ChatCodec,
                 dataset: Records, *, settings: Settings | None = None, **sizes: int) -> None:
        super().__init__(generator, codec, dataset, **sizes)
        self.reference, self.settings = reference, settings or Settings()
        liked = sum(bool(pair.mark) for pair in self._pairs["train"])
        others = self.count("train") - liked
        if not liked:
            raise DataError(f"none of the {others} rated answers for training is desirable", where="data.sources",
                            fix="add answers with a thumb up: a model cannot learn what to say from what not to say")
        most = max(liked, others)
        self.weights = (self.settings.desirable_weight or most / liked,
                        self.settings.undesirable_weight or (most / others if others else 1.0))
        say(f"{liked} desirable answers (weight {self.weights[0]:.3g}), {others} others (weight {self.weights[1]:.3g})")

    def _load(self, codec: ChatCodec, dataset: Records, split: str) -> list[Pair]:
        """Return each answer with one that belongs to another prompt: the next one in a keyed order, cut to fit."""
        items = list(dataset.rows(split))
        rows = [row(codec, [*item["messages"], {"role": "assistant", "content": item["answer"]}], answer_only=True)
                for item in items]
        fits = [number for number, answer in enumerate(rows) if answer.length <= self.context]
        if len(fits) < len(rows):
            say(f"{split}: {len(rows) - len(fits)} answers longer than {self.context} tokens are left out")
        if len(fits) < 2:
            raise DataError(f"the {split} split holds {len(fits)} rated answers that fit {self.context} tokens; "
                            "two are needed, so that each can stand beside another's", where="data",
                            fix="give more answers, change data.validation or raise training.context")
        usable((rows[number] for number in fits), self.context, what=f"{split} {self.what}")
        order = [fits[place] for place in Permutation(len(fits), self.seed, -1).take(np.arange(len(fits)))]
        beside = _others(order, [digest_json(items[number]["messages"]) for number in range(len(items))])
        if beside is None:
            raise DataError(f"the {split} split holds {len(fits)} rated answers, all to one prompt; each has to stand "
                            "beside an answer to another", where="data", fix="give answers to more prompts, or change "
                                                                             "data.validation")
        return [Pair(rows[number], _swapped(rows[number], rows[beside[number]], self.context),
                     float(bool(items[number]["desirable"]))) for number in fits]

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return the summed loss over answers, `weight` their number; see the module for the formula."""
        policy, lengths = answer_logprobs(self.generator, batch)
        if "reference" in batch:
            frozen = batch["reference"]
        else:
            assert self.reference is not None, "give a reference model, or `keep` its log-probabilities"
            with torch.no_grad():
                frozen = answer_logprobs(self.reference, batch)[0]
        gain = policy - frozen
        baseline = gain[:, 1].detach().mean().clamp_min(0)
        liked = batch["marks"]
        lead = self.settings.beta * (gain[:, 0] - baseline)
        weights = torch.where(liked > 0, self.weights[0], self.weights[1])
        total = (weights * torch.sigmoid(torch.where(liked > 0, -lead, lead))).sum()
        with torch.no_grad():
            mean = policy[:, 0] / lengths[:, 0]
            metrics = {"accuracy": ((lead > 0) == (liked > 0)).float().sum(), "baseline": baseline * len(liked),
                       **_by_kind("reward", self.settings.beta * gain[:, 0], liked), **_by_kind("logprob", mean, liked)}
        return Loss(total, torch.tensor(len(liked)), metrics)

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        """Return means over answers: loss; accuracy (above the baseline if desirable, below if not); margin of
        rewards between the two kinds; the baseline in nats; mean token log-probability of desirable answers and of
        the others in nats."""
        def mean(name: str, kind: str) -> float:
            return totals[f"{name}_{kind}"] / max(1.0, totals[f"{name}_{kind}_count"])

        return {**{name: totals[name] / weight for name in ("loss", "accuracy", "baseline")},
                "margin": mean("reward", "liked") - mean("reward", "others"),
                "desirable": mean("logprob", "liked"), "undesirable": mean("logprob", "others")}


def _others(order: Sequence[int], prompts: Sequence[str]) -> dict[int, int] | None:
    """Return for each number the next one in a circle whose prompt is another; None where all have one prompt."""
    found: dict[int, int] = {}
    following = None  # going backwards: the nearest number ahead with another prompt than the one before it
    for place in range(2 * len(order) - 1, -1, -1):
        number, ahead = order[place % len(order)], order[(place + 1) % len(order)]
        following = ahead if prompts[ahead] != prompts[number] else following
        if following is None and place < len(order):
            return None
        if following is not None:
            found[number] = following
    return found


def _swapped(prompt: Row, other: Row, context: int) -> Row:
    """Return one row's prompt with another row's answer; loss on that answer."""
    before = prompt.length - prompt.weight
    start = other.length - other.weight
    tokens = np.concatenate([prompt.tokens[:before + 1], other.tokens[start + 1:]])[:context]
    targets = np.concatenate([prompt.targets[:before], other.targets[start:]])[:context]
    return Row(tokens, targets)


def _by_kind(name: str, values: Tensor, liked: Tensor) -> dict[str, Tensor]:
    """Return sums and counts of a figure over desirable answers and over the others."""
    return {f"{name}_liked": (values * liked).sum(), f"{name}_liked_count": liked.sum(),
            f"{name}_others": (values * (1 - liked)).sum(), f"{name}_others_count": (1 - liked).sum()}
