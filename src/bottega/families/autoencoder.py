"""The networks of the autoencoder: settings, encoder, decoder. `pytest tests/families/test_vae.py` runs them.

Residual blocks of 3x3 convolutions with group normalisation; height and width halve (or double) from level to level.
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
from bottega.families.pictures import Condition, PictureConfig, halvings, on_meta, patch_of, refuse_facts, refuse_size

VARIANCE_FLOOR = (1 / 255) ** 2  # variance of half a grey level of [-1, 1]: below it there is nothing to learn


class VAEConfig(PictureConfig):
    """Shape of a variational autoencoder.

    Attributes:
        width: channels at the finest level, doubled at the next two; 16 x depth.
        levels: halvings of height and width; down to at least 4 places, or two at most when `spatial`.
        blocks: residual blocks a level.
        patch: side of the squares of pixels taken as one place; 1 below 24 pixels, 2 below 96, then 4.
        spatial: the code is a map [latent, h, w] instead of a vector [latent], made for another generator, which is
            told class and caption: this one is not.
        latent: numbers of the vector (8, 16, 32 or 64 by size), or channels of the map (4).
        condition: numbers that class and caption become.
        drop: share of the pictures that are learned without their caption, so that it can be left out: 0.1, or 0 with
            classes, one of which is then drawn.
        beta: weight of the codes' divergence from normal; above 1 asks for independent dimensions (Higgins et al.
            2017, "beta-VAE").
        warmup_steps: optimiser steps over which that weight rises from 0, against codes that carry nothing. A learned
            variance starts large, which does the same; a rise on top of it lets codes carry the class.
        variance: of the decoder around its mean; None learns it.
        edges: weight of the error of neighbouring pixels' differences beside the error of pixels.
    """

    width: int = Field(ge=1)
    levels: int = Field(ge=1)
    blocks: int = Field(default=1, ge=1)
    patch: int = Field(ge=1)
    spatial: bool = False
    latent: int = Field(ge=1)
    condition: int = Field(default=32, ge=1)
    drop: float = Field(default=0.0, ge=0, le=1)
    beta: float = Field(default=1.0, ge=0)
    warmup_steps: int = Field(default=0, ge=0)
    variance: float | None = Field(default=None, ge=VARIANCE_FLOOR)
    edges: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> VAEConfig:
        refuse_size(self.size, self.patch << self.levels)
        return self

    @staticmethod
    def derive(depth: int, facts: dict[str, Any], overrides: dict[str, Any] | None = None) -> VAEConfig:  # type: ignore[override]
        """Fill in a whole configuration from `depth` and the pictures' facts; what derives follows overrides.

        Raises:
            RecipeError: an unknown key, a bad value, a fact given as a key, or a size that cannot be halved.
        """
        overrides = overrides or {}
        refuse_facts(overrides, "vae")
        side, spatial = min(facts["size"]), bool(overrides.get("spatial"))
        patch = pick(overrides, "patch", patch_of(facts["size"]))
        levels = halvings(facts["size"], patch, 4)
        values = {
            **facts, "depth": depth, "width": 16 * depth, "patch": patch,
            "levels": min(levels, 2 if patch == 1 else 1) if spatial else levels,
            "drop": 0.0 if facts["classes"] else 0.1,
            "latent": 4 if spatial else 8 if side < 24 else 16 if side < 48 else 32 if side < 96 else 64,
        }
        return validate(VAEConfig, {**values, **overrides}, where="generator")

    def derived(self) -> dict[str, Any]:
        """Return the settings to print, with the number of parameters."""
        nets = on_meta(lambda: (Encoder(self), Decoder(self)))
        return {**self.model_dump(mode="json"), "parameters": sum(p.numel() for net in nets for p in net.parameters())}

    def conditions(self) -> Condition:
        """Return a new network for class and caption; its vector is empty when `spatial`."""
        return Condition(self.model_copy(update={"classes": 0, "vocab": 0}) if self.spatial else self, self.condition)

    def channels_at(self, level: int) -> int:
        """Return the channels after `level` halvings."""
        return self.width << min(level, 2)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one code."""
        scale = self.patch << self.levels
        return (self.latent, self.size[0] // scale, self.size[1] // scale) if self.spatial else (self.latent,)


class Block(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + condition))); the last convolution starts at zero."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = (nn.GroupNorm(math.gcd(channels, 8), channels) for _ in range(2))
        self.conv_in, self.conv_out = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.condition = nn.Linear(condition, channels, bias=False) if condition else None

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Map [B, channels, h, w] to the same; `c` is [B, condition]."""
        y = self.conv_in(F.silu(self.norm_in(x)))
        if self.condition is not None:
            y = y + self.condition(c)[:, :, None, None]
        out: Tensor = x + self.conv_out(F.silu(self.norm_out(y)))
        return out


class Encoder(nn.Module):
    """Picture and condition to the mean and log-variance of its code."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.condition = config.conditions()
        self.patch, self.spatial = config.patch, config.spatial
        self.stem = nn.Conv2d(config.channels * config.patch**2, config.width, 3, padding=1)
        self.blocks = nn.ModuleList()
        self.downs = nn.ModuleList()
        for level in range(config.levels):
            here, next_one = config.channels_at(level), config.channels_at(level + 1)
            self.blocks.extend(Block(here, self.condition.width) for _ in range(config.blocks))
            self.downs.append(nn.Conv2d(here, next_one, 3, stride=2, padding=1))
        top = config.channels_at(config.levels)
        self.norm = nn.GroupNorm(math.gcd(top, 8), top)
        places = config.size[0] * config.size[1] // (config.patch << config.levels) ** 2
        self.head = (nn.Conv2d(top, 2 * config.latent, 3, padding=1) if config.spatial
                     else nn.Linear(top * places, 2 * config.latent))

    def forward(self, images: Tensor, labels: Tensor | None, text: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, [B, *latent_shape] each."""
        c = self.condition(images, labels, text)
        x = self.stem(F.pixel_unshuffle(images, self.patch))
        each = len(self.blocks) // len(self.downs)
        for index, block in enumerate(self.blocks):
            x = block(x, c)
            if index % each == each - 1:
                x = self.downs[index // each](x)
        x = F.silu(self.norm(x))
        mean, logvar = self.head(x if self.spatial else x.flatten(1)).chunk(2, dim=1)
        return mean.float(), logvar.float().clamp(-20, 10)


class Decoder(nn.Module):
    """Code and condition to the mean of its picture."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.condition = config.conditions()
        self.patch, self.spatial = config.patch, config.spatial
        top, scale = config.channels_at(config.levels), config.patch << config.levels
        self.map = (top, config.size[0] // scale, config.size[1] // scale)
        self.stem = (nn.Conv2d(config.latent, top, 3, padding=1) if config.spatial
                     else nn.Linear(config.latent + self.condition.width, math.prod(self.map)))
        self.ups = nn.ModuleList()
        self.blocks = nn.ModuleList()
        for level in reversed(range(config.levels)):
            here = config.channels_at(level)
            self.ups.append(nn.Conv2d(config.channels_at(level + 1), here, 3, padding=1))
            self.blocks.extend(Block(here, self.condition.width) for _ in range(config.blocks))
        self.norm = nn.GroupNorm(math.gcd(config.width, 8), config.width)
        self.head = nn.Conv2d(config.width, config.channels * config.patch**2, 3, padding=1)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Return pictures [B, C, H, W]; `c` comes from `condition`."""
        x = self.stem(z if self.spatial else torch.cat([z, c], 1).to(z.dtype))
        x = x.view(-1, *self.map)
        each = len(self.blocks) // len(self.ups)
        for index, block in enumerate(self.blocks):
            if index % each == 0:
                x = self.ups[index // each](F.interpolate(x, scale_factor=2.0, mode="nearest"))
            x = block(x, c)
        return F.pixel_shuffle(self.head(F.silu(self.norm(x))).float(), self.patch)
