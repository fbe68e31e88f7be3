"""What families share: norm, rotary positions, gated MLP, attention, masks. `pytest tests/families` runs them.

Plain functions on tensors, free of state and of data-dependent control flow, so that torch.compile takes them whole.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return x / sqrt(mean(x²) + eps) · weight over the last axis, computed in fp32, in x's dtype.

    RMSNorm, Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4. Written out because `F.rms_norm` is slower on a CPU.
    """
    wide = x.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * scale * weight).to(x.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` with a learned weight [width], ones at the start."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [..., width]."""
        return rms_norm(x, self.weight, self.eps)


def rotary_tables(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return cos and sin, fp32 [..., T, 1, head_dim / 2], of positions · theta^(-2i / head_dim).

    RoPE, Su et al. 2021, arXiv 2104.09864, eq. 15. The axis of size 1 stands for the heads.
    """
    powers = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    angles = positions.unsqueeze(-1).float() * (1.0 / theta**powers)
    return angles.cos().unsqueeze(-2), angles.sin().unsqueeze(-2)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + head_dim / 2]) of [..., T, heads, head_dim] by its angle, in x's dtype.

    The pairing of halves ("NEOX") is that of the Llama and Qwen checkpoints, so exports need no permutation.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x)), Shazeer 2020, arXiv 2002.05202, eq. 6, without biases."""

    def __init__(self, width: int, intermediate: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, intermediate, bias=False)
        self.up_proj = nn.Linear(width, intermediate, bias=False)
        self.down_proj = nn.Linear(intermediate, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to [..., width]."""
        down: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return down


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
    """Return softmax(q kᵀ / sqrt(head_dim)) v with grouped key/value heads.

    Args:
        q: [B, T, heads, head_dim].
        k: [B, kv_heads, S, head_dim]; v: the same.
        mask: bool, broadcastable to [B, 1, T, S]: True where a query may look; None with `causal`.
        causal: T = S and query t sees keys 0 … t.

    Returns:
        [B, T, heads · head_dim].
    """
    batch, length, heads, head_dim = q.shape
    groups = heads // k.shape[1]
    if length == 1 and mask is None:
        # one query: its heads that share a key head become rows of one small product, and nothing is repeated
        folded = q.view(batch, k.shape[1], groups, head_dim)
        return F.scaled_dot_product_attention(folded, k, v).reshape(batch, 1, heads * head_dim)
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, attn_mask=mask, is_causal=causal and mask is None)
    return out.transpose(1, 2).reshape(batch, length, heads * head_dim)


def document_mask(segments: Tensor) -> Tensor:
    """Return bool [B, 1, T, T]: a token sees itself and what precedes it in its own document.

    Args:
        segments: int64 [B, T], equal within a document.
    """
    length = segments.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    return ((segments[:, :, None] == segments[:, None, :]) & earlier).unsqueeze(1)


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
