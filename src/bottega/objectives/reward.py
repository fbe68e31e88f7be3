"""Reward models: how good is an answer? `bottega train recipes/python-assistant-reward.yaml` (`kind: reward`).

Bradley and Terry 1952: chosen is preferred to rejected with probability σ(r_chosen - r_rejected). The loss of a pair is
-log σ(r_chosen - r_rejected - m) (Touvron et al. 2023, "Llama 2", arXiv 2307.09288, equation 2, m the margin), plus
`centre` · (r_chosen + r_rejected)², which keeps rewards around zero (Eisenstein et al. 2023, arXiv 2312.09244, §3).
The page of a finished run shows how far its probabilities can be believed (`evaluation/calibration.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from bottega.codecs.text import TextCodec
from bottega.core.validate import Strict
from bottega.families.base import IGNORED, Batch, Loss
from bottega.families.reward import RewardModel, rewards
from bottega.objectives.chat import ChatCodec, Row
from bottega.objectives.pairs import Pair, PairObjective, Records
from bottega.objectives.samples import Scorer


class Settings(Strict):
    """Keys of `objective` besides `kind`.

    Attributes:
        margin: by how much chosen answers should lead. A pair whose record says its own `margin` (how much better, 1
            is usual) takes that many times this one.
        centre: weight of the squared sum of a pair's rewards; 0.01 is usual, 0 is off.
        dropout: share of the last hidden state that the head does not see while training, against learning by heart.
    """

    margin: float = Field(default=0.0, ge=0)
    centre: float = Field(default=0.01, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Reward(PairObjective):
    """Learning a reward from pairs of answers to the same prompt.

    Args:
        generator: the reward model.
        codec: encodes conversations.
        dataset: preference records of both splits.
        settings: see `Settings`.
        sizes: see `PairObjective`.

    Raises:
        DataError: no pair of a split fits the context, or all are ties.
    """

    kind = "reward"

    def __init__(self, generator: RewardModel, codec: ChatCodec, dataset: Records, *,
                 settings: Settings | None = None, **sizes: int) -> None:
        self.settings = settings or Settings()
        super().__init__(generator, codec, dataset, **sizes)

    def _pair(self, codec: Any, item: dict[str, Any]) -> Pair:
        """Return whole conversations, the end token included; the one target of each is where the reward is read."""
        def whole(answer: str) -> Row:
            ids = np.asarray(codec.encode_chat([*item["messages"], {"role": "assistant", "content": answer}]), np.int64)
            return Row(ids, np.where(np.arange(len(ids)) == len(ids) - 1, ids, IGNORED))

        return Pair(whole(item["chosen"]), whole(item["rejected"]), float(item.get("margin") or 1.0))

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return the summed loss over pairs, `weight` their number; see the module for the formula."""
        options = self.settings
        rewards = self.generator(batch, options.dropout).view(-1, 2)
        lead = rewards[:, 0] - rewards[:, 1]
        losses = -F.logsigmoid(lead - options.margin * batch["marks"])
        total = losses.sum() + options.centre * (rewards.sum(1) ** 2).sum()
        with torch.no_grad():
            metrics = {"accuracy": (lead > 0).float().sum(), "margin": lead.sum(), "chosen": rewards[:, 0].sum(),
                       "rejected": rewards[:, 1].sum(), "log_loss": -F.logsigmoid(lead).sum()}
        return Loss(total, torch.tensor(len(lead)), metrics)

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        """Return means over pairs: loss; accuracy (the chosen answer has the higher reward); margin between the two;
        their rewards; log_loss, the loss without margin and centring (log 2 knows nothing)."""
        return {name: totals[name] / weight
                for name in ("loss", "accuracy", "margin", "chosen", "rejected", "log_loss")}


def reward_scorer(path: Path) -> Scorer:
    """Return the function that scores conversations (turns, the answer last) by the reward model in a folder.

    Raises:
        InputError, CorruptError: as `RewardModel.load`; the function raises as `families.reward.rewards`.
    """
    model, codec = RewardModel.load(path), TextCodec.load(path)
    return lambda conversations: rewards(model, codec, conversations)
