"""A running average of a model's weights: `pytest tests/families/test_gan.py` runs it.

Pictures made by averaged weights are steadier than those of the weights at any one step. The average lives in the
state dict, so that a resumed run goes on with the same one.
"""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA(nn.Module):
    """Exponential moving average of a module's parameters, w ← d·w + (1 - d)·live.

    The decay d of update k (from 0) is min(limit, (1 + k) / (10 + k)): a fixed one near 1 would remember the random
    start for longer than a short run lasts.

    Args:
        module: what is averaged; its present weights are the first average.
        limit: largest decay.

    Attributes:
        shadow: a copy of the module with the averaged weights, without gradients.
        updates: int64, how often `update` was called.
    """

    updates: torch.Tensor

    def __init__(self, module: nn.Module, limit: float = 0.999) -> None:
        super().__init__()
        self.limit = limit
        self.shadow = copy.deepcopy(module).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the present weights of `module`; its buffers are copied."""
        count = int(self.updates)
        decay = min(self.limit, (1 + count) / (10 + count))
        moved = [(mine, live) for mine, live in zip(self.shadow.parameters(), module.parameters(), strict=True)
                 if live.requires_grad]  # the others, of an adapted model's base, are the same tensors
        torch._foreach_lerp_([mine for mine, _ in moved], [live for _, live in moved], 1 - decay)
        for mine, live in zip(self.shadow.buffers(), module.buffers(), strict=True):
            mine.copy_(live)
        self.updates += 1
