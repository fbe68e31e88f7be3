"""Learning the texts of a table's rows: `sft` that keeps the weights with the lowest held-out loss and ends early.

A table has few texts, and a model that goes over them often enough knows them by heart: what it learns after its
held-out loss stopped falling are its rows. `pytest tests/training/test_table_texts.py` trains with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bottega.objectives.sft import SFT

_SETTLED = 4     # validations in a row without a better one, after which training ends
_BEST = "best/"  # before the names of the best weights, in a checkpoint


class RowTexts(SFT):
    """See the module and `objectives.base.Lively`; arguments are those of `SFT`."""

    kind = "texts"  # a fresh model learns at full rates; one that is trained further is tuned like any other, "sft"

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._best: dict[str, Tensor] = {}
        self._first, self._loss, self._right, self._misses = math.nan, math.inf, 0.0, 0

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        """Return what `SFT` does, and keep the weights when they are the best so far."""
        found = super().summarise(totals, weight)
        if math.isnan(self._first):
            self._first = found["loss"]
        if found["loss"] < self._loss:
            self._best = {name: tensor.detach().clone() for name, tensor in self.generator.state_dict().items()}
            self._loss, self._right, self._misses = found["loss"], found["token_accuracy"], 0
        else:
            self._misses += 1
        return found

    @property
    def settled(self) -> bool:
        """Whether many held-out losses in a row brought nothing better."""
        return self._misses >= _SETTLED

    def finish(self) -> dict[str, float]:
        """Put the best weights back and return their held-out figures, with the loss before anything was learned."""
        if self._best:
            self.generator.load_state_dict(self._best)
        return {"loss": self._loss, "perplexity": math.exp(min(self._loss, 700.0)), "token_accuracy": self._right,
                "untrained": self._first}

    def figures(self) -> dict[str, float]:
        """Return nothing besides the loss."""
        return {}

    def warnings(self, history: Sequence[dict[str, Any]]) -> list[str]:
        """Return none."""
        return []

    def tensors(self) -> dict[str, Tensor]:
        """Return the best weights and how good they are."""
        state = torch.tensor([self._first, self._loss, self._right, self._misses], dtype=torch.float64)
        return {"state": state, **{f"{_BEST}{name}": tensor for name, tensor in self._best.items()}}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        self._first, self._loss, self._right, misses = tensors["state"].tolist()
        self._misses = int(misses)
        self._best = {name.removeprefix(_BEST): tensor for name, tensor in tensors.items() if name.startswith(_BEST)}
