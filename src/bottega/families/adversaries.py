"""The two networks of the adversarial generator, and its settings. `pytest tests/families/test_gan.py` runs them.

Residual blocks of 3x3 convolutions; the Maker goes from the smallest map to the finest, the Critic goes back.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from bottega.core.validate import validate
from bottega.families.config import pick
from bottega.families.pictures import (
    Condition,
    PictureConfig,
    halvings,
    init_convolutions,
    on_meta,
    patch_of,
    refuse_facts,
    refuse_size,
)


class GANConfig(PictureConfig):
    """Shape and dials of an adversarial generator.

    Attributes:
        width: channels of both networks at the finest size, twice as many at the others; 16 x depth.
        levels: doublings of height and width from the smallest map, of at least 4 places, to the finest.
        blocks: residual blocks at each size.
        patch: side of the squares of pixels made as one place; 1 below 24 pixels, 2 below 96, then 4.
        latent: numbers drawn for a picture; 32 below 24 pixels, else 64.
        condition: numbers that class and caption become.
        drop: share of the pictures that are learned without their caption, so that it can be left out: 0.1, or 0 with
            classes, one of which is then drawn.
        gamma, gamma_final: weight of the slope penalties at the start and at the end of the run (a cosine between).
        ema: largest decay of the generator's running average.
    """

    width: int = Field(ge=1)
    levels: int = Field(ge=1)
    blocks: int = Field(default=1, ge=1)
    patch: int = Field(ge=1)
    latent: int = Field(ge=1)
    condition: int = Field(default=32, ge=1)
    drop: float = Field(default=0.0, ge=0, le=1)
    gamma: float = Field(default=0.5, ge=0)
    gamma_final: float = Field(default=0.05, ge=0)
    ema: float = Field(default=0.998, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> GANConfig:
        refuse_size(self.size, self.patch << self.levels)
        return self

    @staticmethod
    def derive(depth: int, facts: dict[str, Any], overrides: dict[str, Any] | None = None) -> GANConfig:  # type: ignore[override]
        """Fill in a whole configuration from `depth` and the pictures' facts; what derives follows overrides.

        Raises:
            RecipeError: an unknown key, a bad value, a fact given as a key, or a size that cannot be halved.
        """
        overrides = overrides or {}
        refuse_facts(overrides, "gan")
        side = min(facts["size"])
        patch = pick(overrides, "patch", patch_of(facts["size"]))
        values = {**facts, "depth": depth, "width": 16 * depth, "patch": patch,
                  "drop": 0.0 if facts["classes"] else 0.1,
                  "levels": halvings(facts["size"], patch, 4), "latent": 32 if side < 24 else 64}
        return validate(GANConfig, {**values, **overrides}, where="generator")

    def derived(self) -> dict[str, Any]:
        """Return the settings to print, with the number of parameters of both players."""
        nets = on_meta(lambda: (Maker(self), Critic(self)))
        return {**self.model_dump(mode="json"), "parameters": sum(p.numel() for net in nets for p in net.parameters())}

    def channels_at(self, level: int) -> int:
        """Return the channels after `level` halvings."""
        return self.width << min(level, 1)

    @property
    def map(self) -> tuple[int, int]:
        """Height and width of the smallest map."""
        scale = self.patch << self.levels
        return self.size[0] // scale, self.size[1] // scale


class Block(nn.Module):
    """x + conv(act(conv(act(x)))); the last convolution starts at zero, as the network has no normalisation (Fixup)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_in, self.conv_out = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, channels, h, w] to the same."""
        out: Tensor = x + self.conv_out(F.leaky_relu(self.conv_in(F.leaky_relu(x, 0.2)), 0.2))
        return out


def _stage(config: GANConfig, level: int) -> nn.Sequential:
    """Return the blocks at the size after `level` halvings."""
    return nn.Sequential(*(Block(config.channels_at(level)) for _ in range(config.blocks)))


def _change(config: GANConfig, before: int, after: int) -> nn.Module:
    """Return what brings the channels of one size to those of another."""
    there, here = config.channels_at(before), config.channels_at(after)
    return nn.Identity() if there == here else nn.Conv2d(there, here, 1)


def _start(net: nn.Module) -> None:
    init_convolutions(net)
    for block in net.modules():
        if isinstance(block, Block):
            nn.init.zeros_(block.conv_out.weight)


class Maker(nn.Module):
    """Drawn numbers and a condition to a picture: learned maps weighted by them, then blocks and bilinear doublings."""

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.condition = Condition(config, config.condition)
        self.patch = config.patch
        top, levels = config.channels_at(config.levels), range(config.levels - 1, -1, -1)
        self.weights = nn.Linear(config.latent + self.condition.width, top)
        self.maps = nn.Parameter(torch.randn(top, *config.map))
        self.first = _stage(config, config.levels)
        self.changes = nn.ModuleList(_change(config, level + 1, level) for level in levels)
        self.stages = nn.ModuleList(_stage(config, level) for level in levels)
        self.out = nn.Conv2d(config.width, config.channels * config.patch**2, 3, padding=1)
        _start(self)

    def forward(self, z: Tensor, labels: Tensor | None, text: Tensor | None) -> Tensor:
        """Return pictures [B, C, H, W]; not clipped to [-1, 1]."""
        return self.paint(z, self.condition(z, labels, text))

    def paint(self, z: Tensor, c: Tensor) -> Tensor:
        """Return the pictures of drawn numbers [B, latent] under conditions [B, condition]."""
        x = self.maps * self.weights(torch.cat([z, c], 1))[:, :, None, None]
        x = self.first(x)
        for change, stage in zip(self.changes, self.stages, strict=True):
            x = stage(F.interpolate(change(x), scale_factor=2.0, mode="bilinear", align_corners=False))
        return F.pixel_shuffle(self.out(F.leaky_relu(x, 0.2)), self.patch)


class Critic(nn.Module):
    """Picture and condition to a score: the Maker mirrored, ended by a projection on the condition.

    Miyato & Koyama 2018, arXiv 1802.05637, eq. 3.
    """

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.condition = Condition(config, config.condition)
        self.patch = config.patch
        self.stem = nn.Conv2d(config.channels * config.patch**2, config.width, 3, padding=1)
        top, levels = config.channels_at(config.levels), range(config.levels)
        self.first = _stage(config, 0)
        self.changes = nn.ModuleList(_change(config, level, level + 1) for level in levels)
        self.stages = nn.ModuleList(_stage(config, level + 1) for level in levels)
        self.maps = nn.Parameter(torch.randn(top, *config.map) / math.sqrt(math.prod(config.map)))
        self.score = nn.Linear(top, 1)
        self.project = nn.Linear(top, self.condition.width) if self.condition.width else None
        _start(self)

    def forward(self, images: Tensor, labels: Tensor | None, text: Tensor | None) -> Tensor:
        """Return scores [B]."""
        x = self.first(self.stem(F.pixel_unshuffle(images, self.patch)))
        for change, stage in zip(self.changes, self.stages, strict=True):
            x = stage(change(F.avg_pool2d(x, 2)))
        features = F.leaky_relu((F.leaky_relu(x, 0.2) * self.maps).sum((2, 3)), 0.2)
        scores: Tensor = self.score(features).squeeze(1)
        if self.project is not None:
            c = self.condition(images, labels, text)
            scores = scores + (self.project(features) * c).sum(1) / math.sqrt(c.shape[1])
        return scores
