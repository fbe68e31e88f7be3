"""Weights in four bits, for a base that is not trained: `adapter: {quantise: nf4}`. `pytest tests/families/test_nf4.py`

NormalFloat 4 (Dettmers et al. 2023, "QLoRA", arXiv 2305.14314, §3): blocks of 64 numbers share one fp32 scale, their
largest magnitude; each number is the nearest of sixteen levels, which lie where normal numbers do. 4.5 bits a number in
all, a seventh of fp32. The numbers are made again whenever a product needs them and never kept for the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bottega.core.errors import InputError

BLOCK = 64
_ENDS = 0.9677083  # quantile of the outermost level: (29/30 + 31/32 + …) of the paper's released code, eq. 4 with k = 4


def levels() -> Tensor:
    """Return the sixteen levels of NF4, float32, ascending from -1 to 1, 0 among them (appendix E of the paper)."""
    above = torch.special.ndtri(torch.linspace(_ENDS, 0.5, 9, dtype=torch.float64)[:-1])
    below = -torch.special.ndtri(torch.linspace(_ENDS, 0.5, 8, dtype=torch.float64)[:-1])
    every = torch.cat([below, torch.zeros(1, dtype=torch.float64), above]).sort().values
    return (every / every.abs().max()).float()


class NF4(nn.Module):
    """One weight in four bits.

    Attributes:
        codes: uint8 [ceil(n / 64) · 32], two numbers a byte, the first in the high half.
        scales: fp32 [ceil(n / 64)], largest magnitude of each block.
        shape: of the weight.
        pairs: fp32 [256, 2], the two levels of a byte.
    """

    codes: Tensor
    scales: Tensor
    pairs: Tensor

    def __init__(self, codes: Tensor, scales: Tensor, shape: torch.Size) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        known = levels().to(codes.device)
        both = torch.arange(256, device=codes.device)
        self.register_buffer("pairs", torch.stack([known[both >> 4], known[both & 15]], 1), persistent=False)

    @staticmethod
    @torch.no_grad()
    def of(weight: Tensor) -> NF4:
        """Return a weight of any shape, rounded.

        Raises:
            InputError: it holds a number that is not finite.
        """
        if not bool(torch.isfinite(weight).all()):
            raise InputError("a weight that is not finite cannot be held in four bits", fix="train the base again")
        flat = weight.detach().float().flatten()
        blocks = torch.nn.functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
        scales = blocks.abs().amax(1)
        known = levels().to(flat.device)
        middle = (known[1:] + known[:-1]) / 2  # a number belongs to the nearest level
        codes = torch.bucketize(blocks / scales.clamp_min(1e-30).unsqueeze(1), middle).to(torch.uint8).view(-1, 2)
        return NF4(codes[:, 0] << 4 | codes[:, 1], scales, weight.shape)

    def numbers(self) -> Tensor:
        """Return the weight as fp32 of its own shape."""
        made = nn.functional.embedding(self.codes.int(), self.pairs).view(-1, BLOCK) * self.scales.unsqueeze(1)
        return made.view(-1)[:math.prod(self.shape)].view(self.shape)

    def used_by(self, product: Callable[[Tensor], Tensor], device: str) -> Tensor:
        """Return product(weight), differentiable in all but the weight, which the backward pass makes again.

        Args:
            product: of the weight and whatever it closes over; keeps no reference to the weight.
            device: type of the device, whose autocast dtype the weight takes when autocast is on.
        """
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32

        def made() -> Tensor:
            with torch.no_grad():
                return self.numbers().to(dtype)

        weight = made()
        place = weight.untyped_storage().data_ptr()

        def pack(tensor: Tensor) -> Any:
            if tensor.device != weight_device or tensor.untyped_storage().data_ptr() != place:
                return tensor
            return tensor.shape, tensor.stride(), tensor.storage_offset()  # a view of the weight: only its geometry

        def unpack(kept: Any) -> Tensor:
            return kept if isinstance(kept, Tensor) else made().as_strided(*kept)

        weight_device = weight.device
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return product(weight)
