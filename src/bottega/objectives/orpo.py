"""Odds-ratio preference optimisation: tune and align in one go, without a reference. `bottega train` with `kind: orpo`.

Hong, Lee, Thorne 2024, arXiv 2403.07691. With P the exponential of an answer's mean token log-probability and
odds = P / (1 - P), the loss of a pair is

    -log P(chosen) - weight · log σ(log odds(chosen) - log odds(rejected))          equations 6 and 7
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from bottega.core.validate import Strict
from bottega.families.base import Batch, Loss, TokenGenerator
from bottega.objectives.chat import ChatCodec
from bottega.objectives.pairs import PairObjective, Records, answer_logprobs

_CERTAIN = -1e-6  # mean log-probabilities above this count as this: the odds of certainty have no number


class Settings(Strict):
    """Keys of `objective` besides `kind`.

    Attributes:
        weight: of the odds ratio beside the likelihood of the chosen answer; the paper's λ.
    """

    weight: float = Field(default=0.1, ge=0)


class ORPO(PairObjective):
    """Likelihood of chosen answers and odds against rejected ones; starts from a pretrained or a tuned model.

    Args:
        generator: the model being aligned.
        codec: encodes conversations.
        dataset: preference records of both splits.
        settings: see `Settings`.
        sizes: see `PairObjective`.

    Raises:
        DataError: no pair of a split fits the context, or all are ties.
    """

    kind = "orpo"

    def __init__(self, generator: TokenGenerator, codec: ChatCodec, dataset: Records, *,
                 settings: Settings | None = None, **sizes: int) -> None:
        super().__init__(generator, codec, dataset, **sizes)
        self.settings = settings or Settings()

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return the summed loss over pairs, `weight` their number; see the module for the formula."""
        summed, lengths = answer_logprobs(self.generator, batch)
        mean = summed / lengths
        odds = log_odds(mean)
        lead = odds[:, 0] - odds[:, 1]
        total = -mean[:, 0].sum() - self.settings.weight * F.logsigmoid(lead).sum()
        with torch.no_grad():
            metrics = {"accuracy": (lead > 0).float().sum(), "log_odds_ratio": lead.sum(), "chosen": mean[:, 0].sum(),
                       "rejected": mean[:, 1].sum()}
        return Loss(total, torch.tensor(len(lead)), metrics)

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        """Return means over pairs: loss; accuracy (the chosen answer has the higher odds); log odds ratio; chosen and
        rejected mean token log-probability in nats."""
        return {name: totals[name] / weight for name in ("loss", "accuracy", "log_odds_ratio", "chosen", "rejected")}


def log_odds(logprob: Tensor) -> Tensor:
    """Return log(P / (1 - P)) of log-probabilities."""
    bounded = logprob.clamp_max(_CERTAIN)
    return bounded - torch.log(-torch.expm1(bounded))
