"""The two networks that clean a noisy picture: a small U-Net and a transformer (DiT). Both see [B, C, H, W].

`pytest tests/families/test_diffusion.py` runs them. A U-Net is the better use of a CPU's minutes on pictures up to
32x32 (on 8x8 digits it reached the floor of real data in 120 core-seconds, a DiT came close in the same time); a DiT is
one shape for every grid and grows better on a GPU. Both fold blocks of pixels into channels first: fewer places, the
same picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bottega.families.attention import attend
from bottega.families.blocks import init_matrix
from bottega.families.conditions import ConditionStates

_GROUP = 8  # channels of a group of GroupNorm
_EPS = 1e-6
_MASKS = 8  # of a patch
_SHARP = 3.0  # of the first look at words: with 1 no place could take one word alone


class Look(nn.Module):
    """Attention of places over all places, and apart from it over the caption's words; queries and keys are normalised.

    Two sums and not one: a few words among many places would be drowned, and a place must be able to take one word.

    Args:
        width: of a place.
        head: of an attention head; divides the width.
        words: width of a word's state; 0: no captions.
    """

    def __init__(self, width: int, head: int, words: int) -> None:
        super().__init__()
        self.head = head
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.scale = nn.Parameter(torch.ones(head))
        self.words = nn.Linear(words, 2 * width, bias=False) if words else None
        self.ask = nn.Linear(width, width, bias=False) if words else None
        self.sharp = nn.Parameter(torch.full((head,), _SHARP)) if words else None
        for layer in (self.q, self.kv, self.words, self.ask):
            if layer is not None:
                init_matrix(layer.weight)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, condition: ConditionStates) -> Tensor:
        """Map [B, T, width] to [B, T, width]."""
        seen = self._attend(self.q(x), self.kv(x), self.scale, None)
        if self.words is not None and self.ask is not None and condition.words is not None:
            assert self.sharp is not None
            assert condition.seen is not None
            seen = seen + self._attend(self.ask(x), self.words(condition.words), self.sharp,
                                       condition.seen[:, None, None])
        out: Tensor = self.out(seen)
        return out

    def _attend(self, q: Tensor, kv: Tensor, scale: Tensor, mask: Tensor | None) -> Tensor:
        k, v = kv.view(*kv.shape[:2], 2, -1, self.head).unbind(2)
        q = q.view(*q.shape[:2], -1, self.head)
        q, k = F.rms_norm(q, (self.head,), scale, _EPS), F.rms_norm(k, (self.head,), None, _EPS)
        return attend(q, k.transpose(1, 2), v.transpose(1, 2), mask, causal=False)


class _Block(nn.Module):
    """Two normalised 3x3 convolutions round a shortcut; the condition scales and shifts between them."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(inputs // _GROUP, inputs), nn.GroupNorm(outputs // _GROUP, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.condition = nn.Linear(condition, 2 * outputs)
        self.short = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """Map [B, inputs, h, w] to [B, outputs, h, w]."""
        scale, shift = self.condition(vector)[:, :, None, None].chunk(2, 1)
        inner = self.conv1(F.silu(self.norm1(x)))
        inner = self.conv2(F.silu(self.norm2(inner) * (1 + scale) + shift))
        out: Tensor = self.short(x) + inner
        return out


class _Attention(nn.Module):
    """x + look(norm(x) + places) over the places of a grid; convolutions alone do not know left from right."""

    def __init__(self, width: int, grid: tuple[int, int], head: int, words: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(width, *grid) * 0.7)
        self.norm = nn.GroupNorm(width // _GROUP, width)
        self.look = Look(width, head, words)

    def forward(self, x: Tensor, condition: ConditionStates) -> Tensor:
        """Map [B, width, h, w] to [B, width, h, w]."""
        mixed: Tensor = self.look((self.norm(x) + self.places).flatten(2).transpose(1, 2), condition)
        return x + mixed.transpose(1, 2).reshape(x.shape)


class UNet(nn.Module):
    """Convolutions on halving grids with shortcuts across (Ronneberger et al. 2015, arXiv 1505.04597).

    Args:
        channels: of the picture.
        size: height and width.
        patch: pixels a side folded into channels.
        width: channels of the finest grid, twice as many below; a multiple of 8.
        levels: grids; attention works on the coarsest.
        blocks: convolution blocks a level and direction.
        head: width of an attention head.
        condition: width of the condition's vector.
        words: width of a word's state; 0: no captions.
    """

    def __init__(self, *, channels: int, size: tuple[int, int], patch: int, width: int, levels: int, blocks: int,
                 head: int, condition: int, words: int) -> None:
        super().__init__()
        self.patch, folded = patch, channels * patch * patch
        coarse = patch << (levels - 1)
        grid = (size[0] // coarse, size[1] // coarse)
        widths = [width] + [2 * width] * (levels - 1)
        self.enter = nn.Conv2d(folded, width, 3, padding=1)
        self.down, self.lower = nn.ModuleList(), nn.ModuleList()
        for level, here in enumerate(widths):
            self.down.append(nn.ModuleList(_Block(here, here, condition) for _ in range(blocks)))
            if level + 1 < levels:
                self.lower.append(nn.Conv2d(here, widths[level + 1], 3, stride=2, padding=1))
        bottom = widths[-1]
        self.attend_down = _Attention(bottom, grid, head, words)
        self.middle = _Block(bottom, bottom, condition)
        self.attend_up = _Attention(bottom, grid, head, words)
        self.up, self.higher = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(levels)):
            here = widths[level]
            self.up.append(nn.ModuleList(_Block(2 * here, here, condition) for _ in range(blocks)))
            if level:
                self.higher.append(nn.Conv2d(here, widths[level - 1], 3, padding=1))
        self.norm = nn.GroupNorm(width // _GROUP, width)
        self.leave = nn.Conv2d(width, folded, 3, padding=1)
        nn.init.zeros_(self.leave.weight)

    def forward(self, z: Tensor, condition: ConditionStates) -> Tensor:
        """Return the clean picture [B, C, H, W] expected behind a noisy one."""
        vector = F.silu(condition.vector)
        x = self.enter(F.pixel_unshuffle(z, self.patch))
        kept: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            x = self.lower[level - 1](x) if level else x
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, vector)
                kept.append(x)
        x = self.middle(self.attend_down(x, condition), vector)
        x = self.attend_up(x, condition)
        for level, blocks in enumerate(self.up):
            x = self.higher[level - 1](F.interpolate(x, scale_factor=2.0)) if level else x
            for block in blocks:  # type: ignore[attr-defined]
                x = block(torch.cat((x, kept.pop()), 1), vector)
        out: Tensor = self.leave(F.silu(self.norm(x)))
        return F.pixel_shuffle(out, self.patch)


class _Layer(nn.Module):
    """A transformer block whose norms the condition scales, shifts and gates (adaLN-zero)."""

    def __init__(self, width: int, head: int, words: int) -> None:
        super().__init__()
        self.look = Look(width, head, words)
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.modulate = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        init_matrix(self.look.out.weight)  # the zero gates silence the block already
        init_matrix(self.inner.weight)
        init_matrix(self.outer.weight)

    def forward(self, x: Tensor, condition: ConditionStates, vector: Tensor) -> Tensor:
        """Map [B, T, width] to [B, T, width]."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulate(vector).unsqueeze(1).chunk(6, -1)
        x = x + gate1 * self.look(_norm(x) * (1 + scale1) + shift1, condition)
        hidden = F.gelu(self.inner(_norm(x) * (1 + scale2) + shift2), approximate="tanh")
        out: Tensor = x + gate2 * self.outer(hidden)
        return out


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=_EPS)


class _Painted(nn.Module):
    """A patch out of its state: numbers a pixel, and masks that are painted in a colour each.

    A shape is then learned once for all colours; a linear map alone has to learn it in every colour anew.
    """

    def __init__(self, width: int, channels: int, pixels: int) -> None:
        super().__init__()
        self.pixels = nn.Linear(width, channels * pixels)
        self.masks, self.colours = nn.Linear(width, _MASKS * pixels), nn.Linear(width, _MASKS * channels)
        nn.init.normal_(self.masks.weight, std=width ** -0.5)
        for layer in (self.pixels, self.colours):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, T, width] to [B, T, channels * pixels]."""
        masks, colours = self.masks(x).unflatten(-1, (_MASKS, -1)), self.colours(x).unflatten(-1, (_MASKS, -1))
        out: Tensor = self.pixels(x) + (colours.transpose(-1, -2) @ masks).flatten(-2)
        return out


class DiT(nn.Module):
    """A transformer over patches, Peebles & Xie 2022, arXiv 2212.09748.

    Args:
        channels: of the picture.
        size: height and width.
        patch: pixels a side of a patch.
        width: of a patch's state, and of the condition's vector.
        depth: layers.
        head: width of an attention head.
        words: width of a word's state; 0: no captions.
    """

    def __init__(self, *, channels: int, size: tuple[int, int], patch: int, width: int, depth: int, head: int,
                 words: int) -> None:
        super().__init__()
        self.patch, folded = patch, channels * patch * patch
        self.grid = (size[0] // patch, size[1] // patch)
        self.enter = nn.Linear(folded, width)
        self.places = nn.Embedding(self.grid[0] * self.grid[1], width)
        nn.init.normal_(self.places.weight, std=0.7)
        self.layers = nn.ModuleList(_Layer(width, head, words) for _ in range(depth))
        self.modulate = nn.Linear(width, 2 * width)
        self.head = _Painted(width, channels, patch * patch)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, z: Tensor, condition: ConditionStates) -> Tensor:
        """Return the clean picture [B, C, H, W] expected behind a noisy one."""
        vector = F.silu(condition.vector)
        x = F.pixel_unshuffle(z, self.patch).flatten(2).transpose(1, 2)
        x = self.enter(x) + self.places.weight
        for layer in self.layers:
            x = layer(x, condition, vector)
        shift, scale = self.modulate(vector).unsqueeze(1).chunk(2, -1)
        x = self.head(_norm(x) * (1 + scale) + shift)
        return F.pixel_shuffle(x.transpose(1, 2).unflatten(2, self.grid), self.patch)
