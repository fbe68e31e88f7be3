"""Weights of a matrix product packed for decoding. `pytest tests/generation/test_fast.py` compares each with fp32.

With one row a product is a walk over the weights, so bytes are time (measured on one Zen 4 core, weights out of cache,
768 x 4096: F.linear 940 us, fp32 transposed 490, fp16 180, int8 65).

- fp32: `F.linear`'s one-row kernel reads [N, K] at half the speed of [K, N], so wide matrices are stored transposed.
- fp16: FBGEMM, half-precision weights (11 significant bits), fp32 activations and sums.
- int8: one scale a weight row and one an activation row; the sums are integers, hence exact in any order.

fp16 and int8 give a row the same bits in any batch and with any number of threads; fp32 sums in another order for
each.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Linear = Callable[[Tensor], Tensor]
DTYPES = ("fp32", "fp16", "int8")


def supports_fp16() -> bool:
    """Whether this build of torch has FBGEMM's half-precision product (x86 processors)."""
    return "fbgemm" in torch.backends.quantized.supported_engines


def pack_fp32(weight: Tensor) -> Linear:
    """Return x ↦ x Wᵀ for fp32 x [M, K] and W [N, K]."""
    if weight.is_cuda or weight.shape[0] < 2 * weight.shape[1]:
        kept = weight.contiguous()
        return lambda x: F.linear(x, kept)
    turned = weight.t().contiguous()
    return lambda x: torch.mm(x, turned)


def pack_fp16(weight: Tensor) -> Linear:
    """Return x ↦ x Wᵀ with W rounded to half precision."""
    packed = torch.ops.quantized.linear_prepack_fp16(weight.contiguous(), None)
    product: Linear = torch.ops.quantized.linear_dynamic_fp16
    return lambda x: product(x, packed)  # type: ignore[call-arg]


def pack_int8(weight: Tensor) -> Linear:
    """Return x ↦ x Wᵀ with both sides rounded to 8 bits: |error| ≤ scale / 2 a factor, about 1 % of the result.

    Symmetric, scale = max |row| / 127 (Dettmers et al. 2022, "LLM.int8()", arXiv 2208.07339, eq. 4, without outliers).
    """
    scale = (weight.abs().amax(1) / 127).clamp_min(1e-12)
    turned = (weight / scale.unsqueeze(1)).round().to(torch.int8).contiguous().t()

    def product(x: Tensor) -> Tensor:
        step = torch.linalg.vector_norm(x, math.inf, 1, keepdim=True).mul_(1 / 127).clamp_min_(1e-12)
        narrow = (x / step).round_().to(torch.int8)
        return (torch._int_mm(narrow, turned) * scale).mul_(step)

    return product


def packer(dtype: str) -> Callable[[Tensor], Linear]:
    """Return the packing function of one of `DTYPES`."""
    return {"fp32": pack_fp32, "fp16": pack_fp16, "int8": pack_int8}[dtype]
