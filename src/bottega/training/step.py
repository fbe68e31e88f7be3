"""One optimiser step: micro-batches forward and backward, gradients normalised, the player moved.

Sums, not means, are differentiated, and divided once by the weight of the whole step: eight micro-batches of one row
give the gradient of one micro-batch of eight, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bottega.families.base import Batch, Loss
from bottega.training.optim import Optimiser

LossFunction = Callable[[Batch, str], Loss]


@dataclass(slots=True)
class Outcome:
    """What a step saw: mean loss over `weight` items, mean metrics, gradient norm before clipping."""

    loss: float
    weight: float
    norm: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context of a precision: `bf16` casts matrix products (weights stay fp32), `fp32` changes nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch with its tensors on the device."""
    if device.type == "cpu":
        return batch
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}


def seed_step(seed: int, step: int) -> None:
    """Make all randomness inside a step (dropout, noise) a function of (seed, step)."""
    number = (seed * 1_000_003 + step * 7_919 + 1) % (1 << 63)
    torch.default_generator.manual_seed(number)  # torch.manual_seed also records a stack trace: 0.3 ms a step
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(number)


def gradients(loss: LossFunction, batches: Iterable[Batch], player: str, precision: str,
              device: torch.device) -> Outcome:
    """Accumulate the gradients of the summed loss over micro-batches; the caller divides them by the weight."""
    total: Tensor | float = 0.0
    weight: Tensor | float = 0.0
    metrics: dict[str, Tensor] = {}
    for batch in batches:
        with autocast(precision, device):
            part = loss(to_device(batch, device), player)
        part.total.backward()  # type: ignore[no-untyped-call]
        total = total + part.total.detach()
        weight = weight + part.weight
        for name, value in part.metrics.items():
            metrics[name] = metrics[name] + value.detach() if name in metrics else value.detach()
    items = max(float(weight), 1.0)
    return Outcome(float(total) / items, items, metrics={name: float(value) / items for name, value in metrics.items()})


def take(loss: LossFunction, batches: list[Batch], player: str, optimiser: Optimiser, *, model: nn.Module,
         precision: str, clip: float, share: float, device: torch.device) -> Outcome:
    """Do one step of one player; when loss or gradient is not finite the parameters are left as they are."""
    model.zero_grad(set_to_none=True)
    for parameter in optimiser.parameters:
        parameter.grad = None
    outcome = gradients(loss, batches, player, precision, device)
    outcome.norm = optimiser.normalise(outcome.weight, clip)
    if abs(outcome.loss) < float("inf") and outcome.norm < float("inf"):
        optimiser.step(share)
    return outcome
