"""Proximal policy optimisation with a value network: `kind: ppo` in place of `kind: grpo`.

Schulman et al. 2017, arXiv 1707.06347: the clipped objective of equation 7 on advantages from GAE (Schulman et al.
2015, arXiv 1506.02438, equation 16). As in Ziegler et al. 2019, arXiv 1909.08593, the reward of a token is less its
divergence from the reference, and the answer's reward comes with its last token. The value network is a player of its
own: a copy of the base with a head of one number, or a head on the policy's own hidden states.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from bottega.core.errors import CorruptError
from bottega.families.base import IGNORED, Batch, Loss, TokenGenerator
from bottega.families.score import token_logprobs
from bottega.objectives.grpo import clipped_objective
from bottega.objectives.reinforcement import Reinforcement
from bottega.objectives.rollout import Line, Round, columns_of
from bottega.objectives.rollout_settings import RolloutSettings

_CRITIC = "critic."
_GAIN, _MOST = 0.1, 0.2  # Ziegler et al. 2019, §2.2: K_β, and the largest error it answers to


class Settings(RolloutSettings):
    """Keys of `objective` besides `kind`, and those of `RolloutSettings`.

    Attributes:
        clip: how far the ratio may move from 1; also how far a value may move from its old one.
        kl: weight of the divergence from the reference in a token's reward; 0 needs no reference in memory.
        kl_target: nats a token that `kl` is steered to, round by round; null keeps it as it is.
        discount, trace: γ and λ of GAE.
        critic: `own`: a copy of the base (beside an adapter the base itself, with another adapter); `shared`: a head
            on the policy's hidden states, through which the value loss also flows, `value_weight` of it.
        value_weight: see `critic`.
    """

    epochs: int = Field(default=2, ge=1)
    minibatches: int = Field(default=2, ge=1)
    group: int = Field(default=4, ge=1)
    clip: float = Field(default=0.2, gt=0, lt=1)
    kl: float = Field(default=0.02, ge=0)
    kl_target: float | None = Field(default=None, gt=0)
    discount: float = Field(default=1.0, gt=0, le=1)
    trace: float = Field(default=0.95, ge=0, le=1)
    critic: Literal["own", "shared"] = "own"
    value_weight: float = Field(default=0.1, gt=0)

    @property
    def needs_reference(self) -> bool:
        """Whether a frozen copy of the base is kept."""
        return self.kl > 0 or self.stop.kl is not None


class Critic(nn.Module):
    """What a state is worth: one number from final hidden states, at first 0 everywhere.

    Args:
        width: of the hidden states.
        trunk: makes them; None: they are the policy's.
    """

    def __init__(self, width: int, trunk: TokenGenerator | None) -> None:
        super().__init__()
        self.trunk, self.head = trunk, nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch, policy: TokenGenerator) -> Tensor:
        """Return the value of the state before each target token, fp32 [bins, context]."""
        model = policy if self.trunk is None else self.trunk
        hidden = model.hidden(batch["tokens"], positions=batch["positions"], segments=batch["segments"])
        values: Tensor = self.head(hidden).squeeze(-1)
        return values.float()


def gae(rewards: NDArray[np.float64], values: NDArray[np.float64], discount: float,
        trace: float) -> NDArray[np.float64]:
    """Return each token's advantage: Σ (γλ)^k δ_{t+k} with δ_t = r_t + γ V_{t+1} - V_t, and V = 0 after the last.

    Args:
        rewards: fp64 [T], of each token.
        values: fp64 [T], of the state before each token.
        discount, trace: γ and λ.
    """
    errors = rewards + discount * np.append(values[1:], 0.0) - values
    found, running = np.empty_like(errors), 0.0
    for place in range(len(errors) - 1, -1, -1):
        running = float(errors[place]) + discount * trace * running
        found[place] = running
    return found


def next_weight(weight: float, kl: float, target: float) -> float:
    """Return the weight of the divergence for the next round (Ziegler et al. 2019, §2.2)."""
    return weight * (1 + _GAIN * float(np.clip(kl / target - 1, -_MOST, _MOST)))


class PPO(Reinforcement):
    """See the module and `Reinforcement`.

    Args:
        generator, reference, codec, dataset, sampler, options: see `Reinforcement`.
        trunk: a copy of the base for the value network; needed with `critic: own`.
    """

    kind = "ppo"
    settings: Settings

    def __init__(self, generator: TokenGenerator, *parts: Any, trunk: TokenGenerator | None, **options: Any) -> None:
        super().__init__(generator, *parts, **options)
        self.critic = Critic(generator.head_weight.shape[1], trunk).to(generator.head_weight.device)
        self.weight = self.settings.kl

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Return the policy, and the value network as a second player when it has a trunk of its own."""
        policy, own = self.generator.players()["model"], list(self._learnt().values())
        return {"model": [*policy, *own]} if self.critic.trunk is None else {"model": policy, "value": own}

    def _learnt(self) -> dict[str, nn.Parameter]:
        """Return what is trained of the value network, by name: all of it, or its adapter and its head."""
        return {name: p for name, p in self.critic.named_parameters() if p.requires_grad}

    def prepare(self, made: Round) -> tuple[list[Line], dict[str, float]]:
        """Return a row for each answer with advantages, old values and returns; advantages are whitened in a round."""
        settings, lines = self.settings, self.lines_of(made)
        reference, figures = self.reference_columns(lines)
        values = columns_of(lambda batch: self.critic(batch, self.generator), lines, self.context, self.micro_batch,
                            self.pad, self.generator.head_weight.device)
        gained = []
        for place, (line, value) in enumerate(zip(lines, values, strict=True)):
            rewards = np.zeros(line.row.weight)
            if reference is not None:
                rewards -= self.weight * (line.columns["old"] - reference[place]).astype(np.float64)
            rewards[-1] += made.scores.total[place]
            gained.append(gae(rewards, value.astype(np.float64), settings.discount, settings.trace))
        whole = np.concatenate(gained)
        middle, spread = float(whole.mean()), float(whole.std()) + 1e-8
        for line, value, gain in zip(lines, values, gained, strict=True):
            line.columns["advantage"] = ((gain - middle) / spread).astype(np.float32)
            line.columns["value"], line.columns["return"] = value, (gain + value).astype(np.float32)
        figures["kl_weight"], figures["value"] = self.weight, float(np.mean(np.concatenate(values)))
        if settings.kl_target is not None and "kl" in figures:
            self.weight = next_weight(self.weight, figures["kl"], settings.kl_target)
        return lines, figures

    def policy_loss(self, batch: Batch, player: str) -> Loss:
        """Return the loss of a player summed over tokens: the clipped objective, or the clipped value loss."""
        known = batch["targets"] != IGNORED
        if player == "value":
            return Loss(self._value_loss(batch)[known].sum(), known.sum())
        logs = token_logprobs(self.generator, batch)
        ratio = (logs - batch["old"]).exp()
        terms = -clipped_objective(ratio, batch["advantage"], self.settings.clip, self.settings.clip)
        total = terms[known].sum()
        with torch.no_grad():
            metrics = {"clipped": ((ratio - 1).abs() > self.settings.clip)[known].sum(),
                       "gap": (logs - batch["old"]).abs()[known].sum()}
        if self.critic.trunk is None:
            value = self._value_loss(batch)[known].sum()
            total, metrics["value_loss"] = total + self.settings.value_weight * value, value.detach()
        return Loss(total, known.sum(), metrics)

    def _value_loss(self, batch: Batch) -> Tensor:
        """Return half the squared error of each value, the larger of as it is and moved by at most `clip`."""
        value, old, wanted = self.critic(batch, self.generator), batch["value"], batch["return"]
        near = old + (value - old).clamp(-self.settings.clip, self.settings.clip)
        return 0.5 * torch.maximum((value - wanted).square(), (near - wanted).square())

    def facts(self) -> dict[str, Any]:
        """Return the JSON state."""
        return {**super().facts(), "weight": self.weight}

    def restore_facts(self, facts: dict[str, Any]) -> None:
        """Take back what `facts` gave."""
        super().restore_facts(facts)
        self.weight = facts["weight"]

    def tensors(self) -> dict[str, Tensor]:
        """Return the state besides the generator's weights: the value network's among it."""
        own = {_CRITIC + name: parameter.detach() for name, parameter in self._learnt().items()}
        return {**super().tensors(), **own}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave.

        Raises:
            CorruptError: the checkpoint holds no such state, or another value network.
        """
        super().restore(tensors)
        with torch.no_grad():
            for name, parameter in self._learnt().items():
                if tensors.get(_CRITIC + name, parameter.new_empty(0)).shape != parameter.shape:
                    raise CorruptError(f"the checkpoint's value network has no '{name}' of this shape",
                                       fix="train again without --resume")
                parameter.copy_(tensors[_CRITIC + name])
