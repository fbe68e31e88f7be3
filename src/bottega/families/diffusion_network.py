"""Settings and network of the diffusion family. `pytest tests/families/test_diffusion.py` runs them."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from bottega.core.errors import RecipeError
from bottega.core.validate import validate
from bottega.families import pictures
from bottega.families.autoencoder import VAEConfig
from bottega.families.conditions import ConditionEncoder, ConditionStates, Times
from bottega.families.config import pick
from bottega.families.denoisers import DiT, UNet
from bottega.families.transformer_config import TransformerConfig

_COARSEST = 8  # places a side of a U-Net's last grid, at most: there attention sees all of them


class DiffusionConfig(pictures.PictureConfig):
    """Shape of a diffusion model.

    Attributes:
        denoiser: `unet` or `dit`.
        patch: pixels a side folded into one place.
        width: unet: channels of the finest grid, 8 x depth; dit: a place's state, 32 x depth.
        levels: unet: grids, each half of the one before, down to 8 places a side; dit: layers, the depth.
        blocks: unet: convolution blocks a grid and direction.
        head: width of an attention head.
        words_width, words_layers: the transformer that reads captions.
        drop: share of training pictures shown without their condition; guidance needs both kinds.
        ema: largest decay of the averaged weights, which draw.
        time_mean, time_spread: of the logit of the training times; a positive mean trains more on noise.
        latents: the spatial autoencoder whose codes are denoised instead of pixels; a recipe names its model.
        text_encoder: the language model, never changed, through which captions are read; a recipe names a transformer
            of the workshop. None: a table of the training captions' words.
        objective: `flow`, or `meanflow` for one or two steps a picture at about twice the work a training step.
    """

    denoiser: Literal["unet", "dit"] = "unet"
    patch: int = Field(ge=1)
    width: int = Field(ge=8, multiple_of=8)
    levels: int = Field(ge=1, le=64)
    blocks: int = Field(default=2, ge=1)
    head: int = Field(ge=2)
    words_width: int = Field(default=64, ge=32, multiple_of=32)
    words_layers: int = Field(default=2, ge=0)
    drop: float = Field(default=0.1, ge=0, lt=1)
    ema: float = Field(default=0.999, ge=0, lt=1)
    time_mean: float = 0.0
    time_spread: float = Field(default=1.0, gt=0)
    latents: VAEConfig | None = None
    text_encoder: TransformerConfig | None = None
    objective: Literal["flow", "meanflow"] = "flow"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what is denoised: pictures or their codes."""
        if self.latents is None:
            return (self.channels, *self.size)
        channels, height, width = self.latents.latent_shape
        return channels, height, width

    @model_validator(mode="after")
    def _fits(self) -> Self:
        pictures.refuse_size(self.shape[1:], self.patch * (2 ** (self.levels - 1) if self.denoiser == "unet" else 1))
        looking = self.width if self.denoiser == "dit" or self.levels == 1 else 2 * self.width
        if looking % self.head:
            raise ValueError(f"head ({self.head}) must divide the width that attention sees ({looking})")
        return self

    @staticmethod
    def derive(depth: int, facts: dict[str, Any],  # type: ignore[override]
               overrides: dict[str, Any] | None = None) -> DiffusionConfig:
        """Fill in a whole configuration from `depth` and the pictures' facts.

        Raises:
            RecipeError: an unknown key, a bad value, a fact given as a key, or a size that cannot be halved.
        """
        overrides = overrides or {}
        pictures.refuse_facts(overrides, "diffusion model")
        dit = overrides.get("denoiser") == "dit"
        size = _grid(facts, overrides.get("latents"))
        patch = pick(overrides, "patch", _large_patch(size) if dit else pictures.patch_of(size))
        levels = 2
        while not dit and max(size) / patch / 2 ** (levels - 1) > _COARSEST:
            levels += 1
        values = {**facts, "depth": depth, "patch": patch, "levels": depth if dit else levels,
                  "width": 32 * depth if dit else 8 * depth, "head": 32 if dit else 16}
        return validate(DiffusionConfig, {**values, **overrides}, where="generator")

    def derived(self) -> dict[str, Any]:
        """Return the settings to print, with the number of parameters of the network that draws."""
        network = pictures.on_meta(lambda: Denoiser(self))
        return {**self.model_dump(), "parameters": sum(p.numel() for p in network.parameters())}


def _grid(facts: dict[str, Any], latents: object) -> tuple[int, int]:
    """Return height and width of what is denoised.

    Raises:
        RecipeError: an autoencoder whose codes are no maps, or of other pictures.
    """
    if not isinstance(latents, VAEConfig):
        height, width = facts["size"]
        return height, width
    if not latents.spatial:
        raise RecipeError("its codes are vectors, diffusion needs maps", where="generator.latents",
                          fix="train that vae with generator.spatial=true")
    if (latents.channels, tuple(latents.size)) != (facts["channels"], tuple(facts["size"])):
        raise RecipeError(f"it is for pictures of {latents.channels} x {latents.size[0]} x {latents.size[1]}",
                          where="generator.latents", fix="train a vae on pictures of the codec's size and channels")
    _, height, width = latents.latent_shape
    return height, width


def _large_patch(size: tuple[int, int]) -> int:
    """Return the largest patch up to 8 that leaves at least 4 a side: a transformer's work grows with their number."""
    fitting = [patch for patch in range(1, 9) if all(side % patch == 0 and side // patch >= 4 for side in size)]
    return max(fitting, default=1)


class Denoiser(nn.Module):
    """The network with its readers of conditions and times: noisy pictures in, clean ones out."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        dit = config.denoiser == "dit"
        vector = config.width if dit else 4 * config.width
        words = config.words_width if config.vocab else 0
        self.read = config.text_encoder.width if config.text_encoder and config.vocab else 0
        self.encode = ConditionEncoder(config.classes, config.vocab, config.text_length, vector, config.words_width,
                                       config.words_layers, read=self.read)
        self.times = Times(vector)
        self.spans = Times(vector) if config.objective == "meanflow" else None
        self.network: UNet | DiT = (
            DiT(channels=config.shape[0], size=config.shape[1:], patch=config.patch, width=config.width,
                depth=config.levels, head=config.head, words=words) if dit else
            UNet(channels=config.shape[0], size=config.shape[1:], patch=config.patch, width=config.width,
                 levels=config.levels, blocks=config.blocks, head=config.head, condition=vector, words=words))

    def forward(self, z: Tensor, t: Tensor, span: Tensor, states: ConditionStates) -> Tensor:
        """Return the clean pictures [B, C, H, W] behind z at times t [B].

        Args:
            z: float [B, C, H, W].
            t: float [B], 0 (clean) to 1 (noise).
            span: float [B], length of the step that the answer is for; only a mean flow heeds it.
            states: the conditions, from `encode`.
        """
        vector = states.vector + self.times(t)
        if self.spans is not None:
            vector = vector + self.spans(span)
        out: Tensor = self.network(z, states._replace(vector=vector))
        return out

    @torch.no_grad()
    def flops(self) -> float:
        """Return floating-point operations of one call for one picture with a caption of full length."""
        device = next(self.parameters()).device
        labels, text = (torch.zeros(shape, dtype=torch.int64, device=device)
                        for shape in ((1,), (1, self.config.text_length)))
        z, t = torch.zeros(1, *self.config.shape, device=device), torch.zeros(1, device=device)
        states = torch.zeros(1, self.config.text_length, self.read, device=device) if self.read else None
        return pictures.count_flops(lambda: self(z, t, t, self.encode(labels, text, None, states)))
