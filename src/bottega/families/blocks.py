"""What families share: norm, rotation by position, gated MLP, masks. `pytest tests/families` runs them.

Plain functions on tensors, free of state and of data-dependent control flow, so that torch.compile takes them whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return x / sqrt(mean(x²) + eps) · weight over the last axis, computed in fp32.

    RMSNorm, Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4. The result has x's dtype, or the autocast dtype when
    autocast is on: one rounding here instead of one in each matrix product that reads it.
    """
    device = x.device.type
    cast = device != "meta" and torch.is_autocast_enabled(device)  # to count operations only, autocast is unknown
    dtype = torch.get_autocast_dtype(device) if cast else x.dtype
    wide = x.float()
    if device == "cpu" and not torch.compiler.is_compiling():
        scale = _inverse_root_mean_square(wide, eps)
        if torch.is_grad_enabled() and wide.requires_grad:
            out: Tensor = _Scaled.apply(wide, scale.detach(), weight, dtype)  # type: ignore[no-untyped-call]
            return out
        return (wide * scale * weight).to(dtype)
    plain: Tensor = F.rms_norm(wide, wide.shape[-1:], weight.float(), eps)
    return plain.to(dtype)


def _inverse_root_mean_square(x: Tensor, eps: float) -> Tensor:
    with torch.no_grad():
        norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()


class _Scaled(torch.autograd.Function):
    """x · scale · weight, scale = 1 / rms(x): four times faster on a CPU than what autograd makes of the formula."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(x, scale, weight)
        return torch.mul(x * scale, weight, out=torch.empty(x.shape, dtype=dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, None]:
        """LayerNorm's fused backward with a mean of zero, less the term by which the two norms differ."""
        x, scale, weight = ctx.saved_tensors
        grad, wide, width = grad.float(), weight.float(), x.shape[-1]
        to_x, to_weight, _ = torch.ops.aten.native_layer_norm_backward(
            grad, x, [width], torch.zeros_like(scale), scale, wide, None, [True, True, False])
        mean = torch.mv(grad.reshape(-1, width), wide).view(scale.shape).mul_(scale).div_(width)
        return to_x.add_(mean), None, to_weight.to(weight.dtype), None


class RMSNorm(nn.Module):
    """`rms_norm` with a learned weight [width], ones at the start.

    Args:
        width: of the last axis.
        eps: added under the root.
        from_one: the weight is stored less 1, zeros at the start, as Gemma's files have it.
    """

    def __init__(self, width: int, eps: float, *, from_one: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width) if from_one else torch.ones(width))
        self.eps, self.from_one = eps, from_one

    @property
    def scale(self) -> Tensor:
        """What the normalised values are multiplied by."""
        return 1.0 + self.weight if self.from_one else self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [..., width]."""
        return rms_norm(x, self.scale, self.eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + head_dim / 2]) of [..., T, heads, head_dim] by its angle, in x's dtype.

    The pairing of halves ("NEOX") is that of the Llama and Qwen checkpoints, so exports need no permutation.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


class SwiGLU(nn.Module):
    """down(f(gate(x)) · up(x)), Shazeer 2020, arXiv 2002.05202, eq. 6.

    Args:
        width, intermediate: outer and inner width.
        activation: f: `silu`, or `gelu_tanh` (then it is GeGLU, eq. 5, as in Gemma).
        bias: whether each of the three products has one.
    """

    def __init__(self, width: int, intermediate: int, *, activation: str = "silu", bias: bool = False) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, intermediate, bias=bias)
        self.up_proj = nn.Linear(width, intermediate, bias=bias)
        self.down_proj = nn.Linear(intermediate, width, bias=bias)
        self.activate = activation_of(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to [..., width]."""
        down: Tensor = self.down_proj(self.activate(self.gate_proj(x)) * self.up_proj(x))
        return down


def _gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh formula, Hendrycks & Gimpel 2016, arXiv 1606.08415, §2."""
    return F.gelu(x, approximate="tanh")


def activation_of(name: str) -> Callable[[Tensor], Tensor]:
    """Return the function of an activation's name, `silu` or `gelu_tanh`."""
    known: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu_tanh": _gelu_tanh}
    return known[name]


def document_mask(segments: Tensor) -> Tensor:
    """Return bool [B, 1, T, T]: a token sees itself and what precedes it in its own document.

    Args:
        segments: int64 [B, T], equal within a document.
    """
    length = segments.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    return ((segments[:, :, None] == segments[:, None, :]) & earlier).unsqueeze(1)


def window_mask(length: int, window: int, device: torch.device) -> Tensor:
    """Return bool [1, 1, T, T]: a token sees itself and the `window` - 1 tokens before it.

    Sliding-window attention, Beltagy et al. 2020, arXiv 2004.05150, §3.1.
    """
    all_of_it = torch.ones(length, length, dtype=torch.bool, device=device)
    return (all_of_it.tril() & all_of_it.triu(1 - window))[None, None]


def document_starts(segments: Tensor) -> Tensor:
    """Return bool [B, T]: True at the first token of each document of a row."""
    starts = torch.ones_like(segments, dtype=torch.bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return starts


def document_positions(segments: Tensor) -> Tensor:
    """Return int64 [B, T]: the place of each token within its own document, from 0."""
    places = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    return places - torch.where(document_starts(segments), places, 0).cummax(dim=1).values


def init_matrix(weight: Tensor) -> None:
    """Fill [out, in] uniformly with standard deviation 1 / sqrt(in): unit-variance input gives unit-variance output.

    As in nanochat (Karpathy 2025). Matrices that write into the residual stream start at zero there and here (Zhang et
    al. 2019, "Fixup", arXiv 1901.09321), so that every block is the identity at first.
    """
    bound = math.sqrt(3.0 / weight.shape[1])
    nn.init.uniform_(weight, -bound, bound)
