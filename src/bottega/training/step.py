"""One optimiser step: micro-batches forward and backward, gradients normalised, the player moved.

Sums, not means, are differentiated, and divided once by the weight of the whole step: eight micro-batches of one row
give the gradient of one micro-batch of eight, to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from weakref import WeakSet

import torch
from torch import Tensor, nn

from bottega.core.progress import say
from bottega.families.base import Batch, Loss
from bottega.training.optim import Optimiser

LossFunction = Callable[[Batch, str], Loss]
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at cuBLAS's first product; else its sums may differ


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


@contextmanager
def repeatable(device: torch.device, strict: bool = True) -> Iterator[None]:
    """Make the same step give the same bits on a GPU too, by PyTorch's deterministic kernels; a CPU's are already so.

    Args:
        device: where the step runs.
        strict: an operation without such a kernel raises RuntimeError; else it runs as it is, and attention too.
    """
    if device.type == "cpu":
        yield
        return
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing is read that was not written
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


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
    """Do one step of one player; without a batch, or when loss or gradient is not finite, nothing moves."""
    outcome = _repeatable_gradients(loss, batches, player, optimiser, model, precision, device)
    outcome.norm = optimiser.normalise(outcome.weight, clip)
    if batches and abs(outcome.loss) < float("inf") and outcome.norm < float("inf"):
        optimiser.step(share)
    return outcome


_loose: WeakSet[nn.Module] = WeakSet()  # models one of whose operations has no deterministic kernel


def _repeatable_gradients(loss: LossFunction, batches: list[Batch], player: str, optimiser: Optimiser,
                          model: nn.Module, precision: str, device: torch.device) -> Outcome:
    """Return the step's gradients, by deterministic kernels where there are such."""
    def once(strict: bool) -> Outcome:
        model.zero_grad(set_to_none=True)
        for parameter in optimiser.parameters:
            parameter.grad = None
        with repeatable(device, strict):
            return gradients(loss, batches, player, precision, device)

    if model not in _loose:
        try:
            return once(strict=True)
        except RuntimeError as error:
            if "deterministic" not in str(error):
                raise
            _loose.add(model)
            say(f"warning: two runs may differ in their last bits: {str(error).split('.')[0]}")
    return once(strict=False)
