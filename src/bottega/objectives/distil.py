"""Distillation: learn to answer as a larger model of the same vocabulary does. `bottega train` with `kind: distil`.

Hinton, Vinyals, Dean 2015, arXiv 1503.02531, §2: at each token of the assistant the student p learns the teacher's
whole distribution q, both softened by a temperature T, beside the token that stands there:

    (1 - weight) · -log p(token) + weight · T² · divergence(q_T, p_T)

with the divergence KL(q‖p) (`forward`: cover what the teacher may say), KL(p‖q) (`reverse`: say what it is surest of;
Gu et al. 2023, arXiv 2306.08543) or `jsd`, the mean of both against their mixture (Agarwal et al. 2023, arXiv
2306.13649, equation 1 with β = 1/2). A teacher with another vocabulary, or behind an API, teaches by its answers:
`bottega distil`, then `kind: sft`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bottega.core.validate import Strict
from bottega.families.base import IGNORED, Batch, Loss, TokenGenerator
from bottega.objectives.chat import ChatCodec
from bottega.objectives.sft import SFT, Chats
from bottega.objectives.sft import Settings as SFTSettings

Divergence = Literal["forward", "reverse", "jsd"]
_SLICE = 1 << 21  # logits of a slice; the backward pass makes each slice again


class Settings(Strict):
    """Keys of `objective` besides `kind`.

    Attributes:
        teacher: name or path of the model to learn from; needed. It has the student's vocabulary.
        temperature: softens both distributions, so that rare tokens are learned too.
        weight: of the teacher beside the tokens of the data; 1 is the teacher alone.
        divergence: `forward`, `reverse` or `jsd`; see the module.
        pack: several conversations a row; off gives each a row of its own.
    """

    teacher: str = ""
    temperature: float = Field(default=2.0, gt=0)
    weight: float = Field(default=0.5, ge=0, le=1)
    divergence: Divergence = "forward"
    pack: bool = True


class Distil(SFT):
    """Learning a teacher's distribution on the assistant's tokens of given conversations.

    Args:
        generator: the student.
        teacher: frozen, with the same vocabulary.
        codec: encodes conversations.
        dataset: chat records of both splits.
        settings: see `Settings`.
        sizes: see `sft.SFT`.

    Raises:
        DataError: no conversation of a split fits the context.
    """

    kind = "distil"

    def __init__(self, generator: TokenGenerator, teacher: TokenGenerator, codec: ChatCodec, dataset: Chats, *,
                 settings: Settings, **sizes: int) -> None:
        super().__init__(generator, codec, dataset, settings=SFTSettings(pack=settings.pack), **sizes)
        self.teacher, self.options = teacher, settings

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return the summed loss over assistant tokens, `weight` their number; see the module for the formula."""
        options, targets = self.options, batch["targets"]
        known = targets != IGNORED
        tokens, places, segments = batch["tokens"], batch["positions"], batch["segments"]
        ours = self.generator.hidden(tokens, positions=places, segments=segments)[known]
        with torch.no_grad():
            theirs = self.teacher.hidden(tokens, positions=places, segments=segments)[known]
        rows = max(1, _SLICE // self.generator.head_weight.shape[0])
        hard, soft, right = ours.new_zeros(3, dtype=torch.float32)
        for start in range(0, len(ours), rows):
            part = slice(start, start + rows)
            one, other, hits = checkpoint(self._slice, ours[part], theirs[part], targets[known][part],
                                          use_reentrant=False)
            hard, soft, right = hard + one, soft + other, right + hits
        total = (1 - options.weight) * hard + options.weight * options.temperature ** 2 * soft
        return Loss(total, known.sum(), {"hard": hard.detach(), "divergence": soft.detach(), "right": right})

    def _slice(self, ours: Tensor, theirs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return summed cross-entropy, summed divergence and how many first guesses are right."""
        logits = self.generator.head(ours).float()
        with torch.no_grad():
            wanted = self.teacher.head(theirs).float()
            right = (logits.argmax(-1) == targets).sum().float()
        soft = divergence(wanted, logits, self.options.temperature, self.options.divergence)
        return F.cross_entropy(logits, targets, reduction="sum"), soft.sum(), right

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        """Return means over assistant tokens: loss; perplexity of the data's tokens; divergence from the teacher in
        nats (softened); share of tokens guessed right."""
        return {"loss": totals["loss"] / weight, "perplexity": math.exp(min(totals["hard"] / weight, 700.0)),
                "divergence": totals["divergence"] / weight, "token_accuracy": totals["right"] / weight}


def divergence(teacher: Tensor, student: Tensor, temperature: float, kind: Divergence) -> Tensor:
    """Return the divergence of distributions in nats, fp32 [...], from logits [..., vocab] of both."""
    q, p = F.log_softmax(teacher / temperature, -1), F.log_softmax(student / temperature, -1)
    if kind == "forward":
        return F.kl_div(p, q, reduction="none", log_target=True).sum(-1)
    if kind == "reverse":
        return F.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    middle = torch.logaddexp(p, q) - math.log(2)
    return (F.kl_div(middle, q, reduction="none", log_target=True)
            + F.kl_div(middle, p, reduction="none", log_target=True)).sum(-1) / 2
