"""Generators that keep their best weights: averaged while they train, judged by the held-out loss.

`pytest tests/families/test_tabular.py tests/families/test_graph_family.py` runs it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from bottega.core.validate import validate
from bottega.families import base
from bottega.families.ema import EMA
from bottega.families.weights import read_config, read_weights, write_model


class KeepsBest(base.Generator):
    """A generator with one network that is trained; a subclass names it and calls `_keep` once it is there.

    Attributes:
        trained: name of the network.
        average: of its weights; what is judged.
        best: the averaged weights with the lowest held-out loss so far; what makes new data, and what is saved.
        best_loss: that loss, float64 scalar, infinite before the first.
        misses: held-out losses in a row that were no better, int64 scalar.
    """

    trained: ClassVar[str]
    average: EMA
    best: nn.Module
    best_loss: Tensor
    misses: Tensor

    def _keep(self, decay: float) -> None:
        network = getattr(self, self.trained)
        self.average = EMA(network, decay)
        self.best = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer("best_loss", torch.tensor(float("inf"), dtype=torch.float64))
        self.register_buffer("misses", torch.zeros((), dtype=torch.int64))

    @property
    def copies(self) -> dict[str, tuple[str, ...]]:
        """See `Generator.copies`."""
        return {self.trained: ("average.shadow", "best")}

    def after_step(self, step: int) -> None:
        """Average the weights."""
        self.average.update(getattr(self, self.trained))

    @torch.no_grad()
    def judge(self, loss: float) -> bool:
        """Hear the held-out loss of the averaged weights; keep them when they are the best so far.

        Returns:
            Whether they are.
        """
        better = loss < float(self.best_loss)
        if better:
            self.best.load_state_dict(self.average.shadow.state_dict())
            self.best_loss.fill_(loss)
            self.misses.zero_()
        else:
            self.misses += 1
        return better

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors, without what only training needs."""
        write_model(folder, self, self.config.model_dump(mode="json"), skip=self._working)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; evaluation mode."""
        config: Any = validate(cls.Config, read_config(folder), where=str(folder))
        model = cls(config)
        read_weights(folder, model, skip=model._working)
        for network in (getattr(model, model.trained), model.average.shadow):  # training goes on from the best
            network.load_state_dict(model.best.state_dict())
        return model.eval()

    @torch.no_grad()
    def begin_again(self) -> None:
        """Forget also how good the best weights were: other data judge anew."""
        super().begin_again()
        self.best_loss.fill_(float("inf"))
        self.misses.zero_()

    @property
    def _working(self) -> frozenset[str]:
        """Tensors that only training needs."""
        return frozenset(name for name in self.state_dict() if name.startswith((f"{self.trained}.", "average.")))
