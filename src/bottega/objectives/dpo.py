"""Direct preference optimisation: make chosen answers likelier than rejected ones. `bottega train` with `kind: dpo`.

With Δ the log-probability of an answer under the model minus that under the frozen reference it started from, and
h = Δchosen - Δrejected, the loss of a pair is

    sigmoid   -log σ(βh)             Rafailov et al. 2023, arXiv 2305.18290, equation 7
    ipo       (h - 1/(2β))²          Azar et al. 2023, arXiv 2310.12036, equation 17 (its τ is β here)
    simpo     -log σ(βm - γ)         Meng et al. 2024, arXiv 2405.14734, equation 6: m is the difference of the mean
                                     log-probabilities a token, without a reference
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from bottega.core.validate import Strict
from bottega.families.base import Batch, Loss, TokenGenerator
from bottega.objectives.chat import ChatCodec
from bottega.objectives.pairs import PairObjective, Records, answer_logprobs

_SIMPO = {"beta": 2.0, "gamma": 1.0}  # of the paper, section 4: β in 2..10, γ/β about a half


class Settings(Strict):
    """Keys of `objective` besides `kind`.

    Attributes:
        loss: `sigmoid` (DPO), `ipo` or `simpo`; see the module.
        beta: how strongly a change of log-probability counts; small lets the model move further from the reference.
            0.1, of simpo 2.
        gamma: of simpo: by how much chosen answers should lead; 1.
        length_normalised: mean instead of summed log-probabilities of an answer (as simpo always has), against a
            preference for short or long; needs a larger beta (about 10 times).
        label_smoothing: share of pairs that are taken to be the wrong way round, of sigmoid (Mitchell 2023,
            "A note on DPO with noisy preferences", equation 3).
        sft_weight: weight of the chosen answer's own mean negative log-likelihood, added to the loss so that right
            answers stay likely (Pang et al. 2024, arXiv 2404.19733).
        reference: `ahead` computes the reference's log-probabilities of every pair once and keeps them, so that no
            second model is in memory; `beside` computes them each step; `auto` takes `ahead` where a budget of steps
            or tokens sees every pair at least twice.
    """

    loss: Literal["sigmoid", "ipo", "simpo"] = "sigmoid"
    beta: float = Field(default=0.1, gt=0)
    gamma: float = Field(default=0.0, ge=0)
    length_normalised: bool = False
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    sft_weight: float = Field(default=0.0, ge=0)
    reference: Literal["auto", "ahead", "beside"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _of_simpo(cls, data: Any) -> Any:
        return {**_SIMPO, **data} if isinstance(data, dict) and data.get("loss") == "simpo" else data

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        if self.gamma and self.loss != "simpo":
            raise ValueError(f"gamma belongs to loss: simpo, not to {self.loss}")
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(f"label_smoothing belongs to loss: sigmoid, not to {self.loss}")
        return self


class DPO(PairObjective):
    """Preference learning on pairs of answers to the same prompt.

    Args:
        generator: the model being aligned.
        reference: a frozen copy of the model it starts from; None where `keep` gives its log-probabilities, or the
            loss needs none.
        codec: encodes conversations.
        dataset: preference records of both splits.
        settings: see `Settings`.
        sizes: see `PairObjective`.

    Raises:
        DataError: no pair of a split fits the context, or all are ties.
    """

    kind = "dpo"

    def __init__(self, generator: TokenGenerator, reference: TokenGenerator | None, codec: ChatCodec,
                 dataset: Records, *, settings: Settings | None = None, **sizes: int) -> None:
        super().__init__(generator, codec, dataset, **sizes)
        self.reference, self.settings = reference, settings or Settings()

    def _reference(self, batch: Batch) -> Tensor:
        """Return the summed log-probabilities of the frozen reference, fp32 [pairs, 2]."""
        if "reference" in batch:
            return batch["reference"]
        assert self.reference is not None, "give a reference model, or `keep` its log-probabilities"
        with torch.no_grad():
            return answer_logprobs(self.reference, batch)[0]

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return the summed loss over pairs, `weight` their number; see the module for the formulas."""
        options = self.settings
        policy, lengths = answer_logprobs(self.generator, batch)
        mean = policy / lengths
        gain = mean if options.loss == "simpo" else policy - self._reference(batch)
        if options.length_normalised and options.loss != "simpo":
            gain = gain / lengths
        lead = gain[:, 0] - gain[:, 1]
        margin = options.beta * lead
        if options.loss == "ipo":
            losses = (lead - 1 / (2 * options.beta)) ** 2
        else:
            smooth = options.label_smoothing
            losses = -F.logsigmoid(margin - options.gamma)
            losses = (1 - smooth) * losses - smooth * F.logsigmoid(-margin) if smooth else losses
        total = losses.sum()
        if options.sft_weight:
            total = total - options.sft_weight * mean[:, 0].sum()
        with torch.no_grad():
            metrics = {"accuracy": (margin > 0).float().sum(), "margin": margin.sum(),
                       "likelier": (mean[:, 0] > mean[:, 1]).float().sum(), "chosen": mean[:, 0].sum(),
                       "rejected": mean[:, 1].sum()}
        return Loss(total, torch.tensor(len(margin)), metrics)

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        """Return means over pairs: loss; accuracy (margin above 0); margin; likelier (the chosen answer's mean
        token log-probability is the higher one, whatever the reference says); chosen and rejected mean token
        log-probability in nats."""
        return {name: totals[name] / weight
                for name in ("loss", "accuracy", "margin", "likelier", "chosen", "rejected")}
