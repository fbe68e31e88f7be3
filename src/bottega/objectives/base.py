"""What training minimises. An objective wraps one or more generators and supplies their batches.

The loop asks for `batch(step)` and never keeps a reader's position: the order of data is a pure function of
(seed, step), so resuming needs one integer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

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


@runtime_checkable
class Lively(Protocol):
    """What an objective does besides when it makes its own data as it goes, as reinforcement learning does.

    Its batches differ in shape from step to step, and it has a state besides the generator's weights.
    """

    @property
    def settled(self) -> bool:
        """Whether the run should end before its budget."""

    def finish(self) -> dict[str, float]:
        """Do what follows the last step; return the held-out figures when the weights are others than those."""

    def figures(self) -> dict[str, float]:
        """Return figures for the log of the step whose batch was asked for last."""

    def warnings(self, history: Sequence[dict[str, Any]]) -> list[str]:
        """Return advice on a run that goes wrong, from the lines of its log so far."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, for a checkpoint."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
