"""Rectified flow as plain functions: paths, times, solvers, guidance. `pytest tests/families/test_flow.py` runs them.

A picture x and noise n are joined by the straight path z_t = (1 - t) x + t n (Liu et al. 2022, arXiv 2209.03003;
Lipman et al. 2022, arXiv 2210.02747), whose velocity is n - x = (z_t - x) / t. Networks predict the clean x: noise has
full rank and pictures do not, so a narrow network can carry x where it cannot carry n (measured on 28x28 pictures at
equal time: 0.50 to 0.69 of the digits right against 0.34 to 0.52). Solvers walk from t = 1 (noise) to t = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from bottega.core.errors import ControlError, suggest

# (z, now, then) → the clean picture that takes the path from z at `now` to `then`; then = now: the one expected there
Predict = Callable[[Tensor, float, float], Tensor]
Sampler = Literal["euler", "heun", "dpm"]
SMALLEST = 0.05  # times below count as this one in the loss: the velocity's error is x's error / t


def mix(x: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
    """Return the point of the path at t (0: x, 1: noise); a tensor t has one number a row."""
    if isinstance(t, Tensor):
        t = t.view(-1, *(1,) * (x.ndim - 1))
    return x * (1 - t) + noise * t


def velocity(z: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """Return (z - x) / max(t, SMALLEST), with one time a row."""
    return (z - x) / t.clamp_min(SMALLEST).view(-1, *(1,) * (z.ndim - 1))


def logit_normal(uniform: Tensor, mean: float, spread: float) -> Tensor:
    """Return times whose logit is normal, from uniform numbers in (0, 1).

    Esser et al. 2024, arXiv 2403.03206, eq. 19: the middle of the path is where learning is hardest.
    """
    return torch.sigmoid(mean + spread * torch.special.ndtri(uniform))


def stratified(count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Return uniform numbers, one in each of `count` equal parts of (0, 1), in random order.

    A batch then holds early and late times in fixed shares, which makes its loss vary less than independent draws do.
    """
    places = torch.randperm(count, generator=generator, device=device)
    inside = torch.rand(count, generator=generator, device=device).clamp(1e-4, 1 - 1e-4)
    return (places + inside) / count


def schedule(steps: int, start: float = 1.0) -> list[float]:
    """Return steps + 1 times falling evenly from `start` to exactly 0."""
    return [start * (steps - step) / steps for step in range(steps + 1)]


def solve(predict: Predict, z: Tensor, times: list[float], sampler: Sampler = "euler") -> Iterator[Tensor]:
    """Walk from times[0] to times[-1] = 0 and yield the clean picture seen at each step; the last one is the result.

    Args:
        predict: one call a step; two for `heun`, save at the last.
        z: the point of the path at times[0].
        times: strictly falling, from at most 1 to 0.
        sampler: `euler`; `heun` (Karras et al. 2022, arXiv 2206.00364, algorithm 1); `dpm`: second order from the step
            before, in data prediction (DPM-Solver++ 2M, Lu et al. 2022, arXiv 2211.01095, algorithm 2).

    Raises:
        ControlError: there is no such sampler.
    """
    if sampler not in get_args(Sampler):
        raise ControlError(f"there is no sampler '{sampler}'", fix=suggest(sampler, get_args(Sampler)))
    before: Tensor | None = None
    rise_before = math.inf
    for now, then in pairwise(times):
        x = predict(z, now, then if sampler == "euler" else now)
        yield x
        if then == 0:
            return
        # all three are this step with another x: on a path of constant x it is exact
        keep = then / now
        target = x
        if sampler == "dpm":
            rise = _log_ratio(then) - _log_ratio(now)
            if before is not None:
                target = x + (x - before) * (rise / (2 * rise_before))
            before, rise_before = x, rise
        elif sampler == "heun":
            ahead = z * keep + x * (1 - keep)
            slope = ((z - x) / now + (ahead - predict(ahead, then, then)) / then) * 0.5
            z = z + slope * (then - now)
            continue
        z = z * keep + target * (1 - keep)


def _log_ratio(t: float) -> float:
    """Return log((1 - t) / t), the logarithm of signal over noise."""
    return math.log((1 - t) / t) if t < 1 else -math.inf


def guide(wanted: Tensor, plain: Tensor, scale: float) -> Tensor:
    """Return plain + scale · (wanted - plain): classifier-free guidance, Ho & Salimans 2022, arXiv 2207.12598."""
    return plain + (wanted - plain) * scale


def keep_known(predict: Predict, known: Tensor, mask: Tensor) -> Predict:
    """Return `predict` with the known picture wherever the mask is False.

    Started from mix(known, noise, t), every solver then keeps the known area on its own path, noised to the step's
    time: what RePaint does at each step (Lugmayr et al. 2022, arXiv 2201.09865) without fresh noise.
    """
    return lambda z, now, then: torch.where(mask, predict(z, now, then), known)


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Return the point at `share` (0: a, 1: b) of the great circle between two noises.

    A straight line between two normal noises passes through points shorter than any noise; the circle does not.
    """
    if share in (0, 1):  # to the bit
        return b if share else a
    cosine = float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-12))
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    if math.sin(angle) < 1e-4:
        return a * (1 - share) + b * share
    return (a * math.sin((1 - share) * angle) + b * math.sin(share * angle)) / math.sin(angle)
