"""Group relative policy optimisation: answers to one prompt are judged against each other. `kind: grpo`.

Shao et al. 2024, arXiv 2402.03300, equation 3: of the token t of answer i the loss is
-min(r A, clip(r, 1 - ε, 1 + ε) A) + β KL, with r the ratio of its probability now to that when it was drawn, A the
reward less the group's mean, over the group's deviation, and KL the estimator of equation 4. No value network.
`bottega train recipes/arithmetic-grpo.yaml`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from bottega.families.base import IGNORED, Batch, Loss
from bottega.families.score import token_logprobs
from bottega.objectives.reinforcement import Reinforcement
from bottega.objectives.rollout import Line, Round
from bottega.objectives.rollout_settings import RolloutSettings

_TINY = 1e-6


class Settings(RolloutSettings):
    """Keys of `objective` besides `kind`, and those of `RolloutSettings`.

    Attributes:
        beta: weight of the divergence from the reference; 0 needs no reference in memory.
        clip_low, clip_high: how far the ratio may fall and rise; a higher `clip_high` (0.28) keeps rare tokens alive
            (DAPO, Yu et al. 2025, arXiv 2503.14476, §3.1).
        scale: divide advantages by the group's deviation; off removes its preference for very easy and very hard
            prompts (Dr. GRPO, Liu et al. 2025, arXiv 2503.20783, §3.1).
        mean: what the loss is a mean over. `sequence`: tokens of an answer, then answers (equation 3); `token`: all
            tokens (DAPO §3.3); `constant`: answers, each divided by `max_tokens`, so that length has no weight
            (Dr. GRPO §3.2).
    """

    beta: float = Field(default=0.02, ge=0)
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    clip_high: float = Field(default=0.2, gt=0)
    scale: bool = True
    mean: Literal["sequence", "token", "constant"] = "sequence"

    @field_validator("group")
    @classmethod
    def _compares(cls, value: int) -> int:
        if value < 2:
            raise ValueError("a group of one has nothing to compare with; give at least 2")
        return value

    @property
    def needs_reference(self) -> bool:
        """Whether a frozen copy of the base is kept."""
        return self.beta > 0 or self.stop.kl is not None


def advantages(rewards: NDArray[np.float64], scale: bool) -> NDArray[np.float64]:
    """Return what each answer earned more than its group: fp64 [prompts, group] from rewards of the same shape.

    With `scale` divided by the group's standard deviation (over the group, not an estimate beyond it).
    """
    centred = rewards - rewards.mean(1, keepdims=True)
    if scale:
        centred = centred / (rewards.std(1, keepdims=True) + _TINY)
    return np.asarray(centred)


def kl_estimate(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Return p_ref/p - log(p_ref/p) - 1 of drawn tokens: unbiased, never negative (equation 4; Schulman's k3)."""
    apart = reference - logprobs
    return apart.exp() - apart - 1


def clipped_objective(ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    """Return min(r A, clip(r, 1 - low, 1 + high) A) (Schulman et al. 2017, arXiv 1707.06347, equation 7)."""
    return torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


class GRPO(Reinforcement):
    """See the module and `Reinforcement`."""

    kind = "grpo"
    settings: Settings

    def prepare(self, made: Round) -> tuple[list[Line], dict[str, float]]:
        """Return a row for each answer of a group whose rewards differ; the others teach nothing and are counted."""
        gained = advantages(made.totals, self.settings.scale).flatten()
        differ = np.ptp(made.totals, axis=1) > _TINY
        kept = np.repeat(differ, made.copies)
        lines = []
        for line, gain in ((line, gained[place]) for place, line in enumerate(self.lines_of(made)) if kept[place]):
            share = {"sequence": 1 / line.row.weight, "token": 1.0, "constant": 1 / self.settings.max_tokens}
            line.columns["advantage"] = np.full(line.row.weight, gain, dtype=np.float32)
            line.columns["share"] = np.full(line.row.weight, share[self.settings.mean], dtype=np.float32)
            lines.append(line)
        reference, figures = self.reference_columns(lines)
        for line, column in zip(lines, reference or (), strict=bool(reference)):
            line.columns["reference"] = column
        return lines, {"skipped": float(1 - differ.mean()), **figures}

    def policy_loss(self, batch: Batch, player: str) -> Loss:
        """Return the summed loss; see the module.

        `gap` is the mean distance of log-probabilities now and when drawn; in the first step of a round it says how
        near the sampler and this forward pass are.
        """
        settings = self.settings
        logs = token_logprobs(self.generator, batch)
        share = batch["share"]  # 0 where a token carries no loss
        ratio = (logs - batch["old"]).exp()
        terms = -clipped_objective(ratio, batch["advantage"], settings.clip_low, settings.clip_high)
        if settings.beta:
            terms = terms + settings.beta * kl_estimate(logs, batch["reference"])
        total = (share * terms).sum()
        known = batch["targets"] != IGNORED
        weight = known.sum() if settings.mean == "token" else len(torch.unique(batch["owners"][known]))
        with torch.no_grad():
            outside = (ratio < 1 - settings.clip_low) | (ratio > 1 + settings.clip_high)
            per_token = torch.as_tensor(weight, device=logs.device) / known.sum()  # a mean over tokens, as sums go
            metrics = {"clipped": (outside & known).sum() * per_token,
                       "gap": (logs - batch["old"]).abs()[known].sum() * per_token}
        return Loss(total, torch.as_tensor(weight), metrics)
