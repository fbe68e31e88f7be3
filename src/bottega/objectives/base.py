"""What training minimises. An objective wraps one or more generators and supplies their batches.

The loop asks for `batch(step)` and never keeps a reader's position: the order of data is a pure function of
(seed, step), so resuming needs one integer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import nn

from bottega.families.base import Batch, Generator, Loss


class Objective(Protocol):
    """One training goal for the one loop."""

    kind: str
    generator: Generator  # the model being made, saved in checkpoints and in the bundle

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Return who is optimised in turn."""

    def batch(self, step: int) -> list[Batch]:
        """Return the micro-batches (CPU tensors) of optimiser step `step`, the same for the same step always."""

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Score one micro-batch (training mode; gradients flow)."""

    def validation(self) -> Iterator[Batch]:
        """Yield the fixed held-out batches."""

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        """Turn summed validation figures into named metrics, the first one the figure to watch (lower is better).

        Args:
            totals: sums of `loss` and of each metric over all validation batches.
            weight: sum of the batches' weights.
        """

    def tokens(self, batch: Batch) -> int:
        """Return how many tokens (items) of work a micro-batch holds, for rates and token budgets."""
