"""Rotary frequencies, plain or stretched to longer contexts. `pytest tests/families/test_import_text.py` compares all.

A model trained on short texts reads longer ones when its angles turn more slowly. Published models do so in four ways;
the names are those of config.json's `rope_type`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from bottega.core.validate import Strict


class Scaling(Strict):
    """How the rotary angles are stretched.

    Attributes:
        rope_type: `linear`: all angles by 1 / factor (Chen et al. 2023, arXiv 2306.15595); `dynamic`: none within the
            model's context, which is all we use (transformers stretches beyond it); `llama3`: slow angles by
            1 / factor, fast ones not, those between smoothly (Llama 3.1's published code); `yarn`: the same by number
            of turns, and the scores scaled (Peng et al. 2023, arXiv 2309.00071, §3).
        factor: by how much longer texts become.
        original_context: tokens that the model was first trained with; needed by `llama3` and `yarn`.
        low_freq_factor, high_freq_factor: of `llama3`: original_context over these are the wavelengths between which
            angles are blended.
        beta_fast, beta_slow: of `yarn`: turns within original_context between which angles are blended.
        attention_factor: of `yarn`: scale of cos and sin; None is 0.1 ln(factor) + 1, or what mscale and
            mscale_all_dim say.
        mscale, mscale_all_dim: see there; 0 when not given.
        truncate: of `yarn`: whether the blend begins and ends at whole dimensions.
    """

    rope_type: Literal["linear", "dynamic", "llama3", "yarn"]
    factor: float = Field(ge=1)
    original_context: int = Field(default=0, ge=0)
    low_freq_factor: float = Field(default=1.0, gt=0)
    high_freq_factor: float = Field(default=4.0, gt=0)
    beta_fast: float = Field(default=32.0, gt=0)
    beta_slow: float = Field(default=1.0, gt=0)
    attention_factor: float | None = Field(default=None, gt=0)
    mscale: float = Field(default=0.0, ge=0)
    mscale_all_dim: float = Field(default=0.0, ge=0)
    truncate: bool = True

    @field_validator("original_context")
    @classmethod
    def _known(cls, value: int, info: ValidationInfo) -> int:
        if not value and info.data.get("rope_type") in ("llama3", "yarn"):
            raise ValueError(f"{info.data['rope_type']} needs the context of the first training")
        return value

    @property
    def amplitude(self) -> float:
        """By what cos and sin are multiplied."""
        if self.rope_type != "yarn":
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return _gain(self.factor, self.mscale) / _gain(self.factor, self.mscale_all_dim)
        return _gain(self.factor, 1.0)


def _gain(factor: float, scale: float) -> float:
    """Return YaRN's temperature (eq. 22) as a factor of queries and keys each."""
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0


def frequencies(head_dim: int, theta: float, scaling: Scaling | None, device: torch.device) -> Tensor:
    """Return the angle a position, fp32 [head_dim / 2]: theta^(-2i / head_dim), stretched.

    RoPE, Su et al. 2021, arXiv 2104.09864, eq. 15.
    """
    powers = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    plain = 1.0 / theta**powers
    if scaling is None or scaling.rope_type == "dynamic":
        return plain
    slow = plain / scaling.factor
    if scaling.rope_type == "linear":
        return slow
    # share of the plain angle in each dimension: 1 where it turns often within the first training's context
    turns = scaling.original_context * plain / (2 * math.pi)
    if scaling.rope_type == "llama3":
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        share = ((turns - low) / (high - low)).clamp(0, 1)
    else:
        first, last = (_dimension(turn, head_dim, theta, scaling) for turn in (scaling.beta_fast, scaling.beta_slow))
        if scaling.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, head_dim - 1)
        places = torch.arange(head_dim // 2, dtype=torch.float32, device=device)
        share = 1 - ((places - first) / (last - first or 0.001)).clamp(0, 1)
    return slow * (1 - share) + plain * share


def _dimension(turns: float, head_dim: int, theta: float, scaling: Scaling) -> float:
    """Return the (fractional) pair of dimensions that turns so often within original_context; YaRN's eq. 17 solved."""
    return head_dim * math.log(scaling.original_context / (turns * 2 * math.pi)) / (2 * math.log(theta))


def rotary_tables(positions: Tensor, head_dim: int, theta: float, scaling: Scaling | None = None) -> \
        tuple[Tensor, Tensor]:
    """Return cos and sin, fp32 [..., T, 1, head_dim / 2], of positions times `frequencies`.

    The axis of size 1 stands for the heads.
    """
    angles = positions.unsqueeze(-1).float() * frequencies(head_dim, theta, scaling, positions.device)
    cos, sin = angles.cos().unsqueeze(-2), angles.sin().unsqueeze(-2)
    if scaling is not None and scaling.amplitude != 1.0:
        return cos * scaling.amplitude, sin * scaling.amplitude
    return cos, sin
