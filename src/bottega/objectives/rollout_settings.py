"""Keys of `objective` that GRPO and PPO share. `bottega train recipes/arithmetic-grpo.yaml` sets some."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from bottega.core.validate import Strict
from bottega.objectives.monitors import Stop
from bottega.objectives.rewards import NO_SHARE, options_of


class RolloutSettings(Strict):
    """Keys of `objective` besides `kind` that GRPO and PPO share.

    Attributes:
        rewards: reward → weight, or its settings; see `objectives.rewards`.
        check: the reward that held-out answers are judged by, honest and not necessarily trained on; null: none.
        prompts: prompts a round; `group`: answers a prompt.
        max_tokens: longest answer.
        epochs: passes over a round; `minibatches`: optimiser steps a pass.
        held_out: at most this many held-out prompts a validation, answered greedily.
        stop: see `monitors.Stop`; `hacking` needs a check that is right or wrong.
    """

    rewards: dict[str, Any] = {"answer": 1.0}
    check: str | None = "answer"
    prompts: int = Field(default=32, ge=1)
    group: int = Field(default=8, ge=1)
    max_tokens: int = Field(default=64, ge=1)
    epochs: int = Field(default=1, ge=1)
    minibatches: int = Field(default=1, ge=1)
    held_out: int = Field(default=200, ge=1)
    stop: Stop = Stop()

    @field_validator("rewards")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, given in value.items():
            options_of(name, given)
        return value

    @model_validator(mode="after")
    def _sees_hacking(self) -> RolloutSettings:
        if self.stop.hacking and self.check in (None, *NO_SHARE):
            raise ValueError(f"stop.hacking watches a check that is right or wrong, and check is {self.check}; "
                             "give one such as check: answer")
        return self

    @property
    def updates(self) -> int:
        """Optimiser steps a round."""
        return self.epochs * self.minibatches
