"""The variational autoencoder of pictures: `generator.family: vae` in a recipe; `pytest tests/families/test_vae.py`.

An encoder turns a picture into a small code, a decoder turns a code into a picture, and codes are kept close to normal
numbers, so that drawn ones decode too (Kingma & Welling 2014, arXiv 1312.6114). Codes can be interpolated, varied and
traversed. The decoder's variance is learned, so that reconstruction and closeness need no weight between them (Rybkin
et al. 2021, "sigma-VAE", arXiv 2006.13202). `spatial: true` keeps a small map of codes instead of one vector, which
other generators can be trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bottega.core.errors import InputError
from bottega.core.request import Controls
from bottega.families import base
from bottega.families.autoencoder import VARIANCE_FLOOR, Block, Decoder, Encoder, VAEConfig
from bottega.families.flow import slerp
from bottega.families.pictures import (
    PictureGenerator,
    count_flops,
    drop_captions,
    init_convolutions,
    on_meta,
    pixel_noise,
)

_ACTIVE = 0.1  # a dimension whose mean varies less than this carries nothing
_VARIATION = 0.3  # strength when none is asked for: plainly the same picture, plainly changed


class VAE(PictureGenerator):
    """Convolutional autoencoder, conditional on class and words.

    Attributes:
        steps: int64, optimiser steps done, for the rise of beta.
        variance: the decoder's, a running mean of the squared error; `seen` collects a step's error and pictures.
        scaling_factor: 1 / standard deviation of codes' means; `spread`: that deviation for each dimension.
    """

    family = "vae"
    Config = VAEConfig
    understands = PictureGenerator.understands | {"temperature", "strength"}
    config: VAEConfig
    steps: Tensor
    variance: Tensor
    seen: Tensor
    scaling_factor: Tensor
    spread: Tensor

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config)
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("variance", torch.tensor(config.variance or 1.0))
        self.register_buffer("seen", torch.zeros(2))
        self.register_buffer("scaling_factor", torch.ones(()))
        self.register_buffer("spread", torch.zeros(config.latent))
        init_convolutions(self)
        for block in self.modules():
            if isinstance(block, Block):
                nn.init.zeros_(block.conv_out.weight)

    def encode(self, images: Tensor, labels: Tensor | None = None,
               text: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the codes of pictures, [B, *latent_shape] each.

        Raises:
            InputError: the pictures have another shape than the model's.
        """
        mean, logvar = self.encoder(self.check_images(images), labels, text)
        return mean, logvar

    def decode(self, z: Tensor, labels: Tensor | None = None, text: Tensor | None = None) -> Tensor:
        """Return the pictures [B, C, H, W] that codes mean; not clipped to [-1, 1]."""
        images: Tensor = self.decoder(z, self.decoder.condition(z, labels, text))
        return images

    def loss(self, batch: base.Batch, player: str = "model") -> base.Loss:
        """Return the negative evidence bound in nats a picture (of values in [-1, 1]).

        Metrics are `mse` a pixel and `kl`, the codes' divergence from normal in nats. In evaluation mode beta counts as
        1, so that it is the bound itself, and the noise is always the same.
        """
        images, labels, text = batch["images"], batch.get("labels"), batch.get("text")
        text = drop_captions(text, self.config.drop if self.training else 0)
        mean, logvar = self.encode(images, labels, text)
        if self.training:
            noise = torch.randn_like(mean)
        else:
            noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0)).to(mean.device)
        made = self.decode(mean + noise * (0.5 * logvar).exp(), labels, text)
        error = (made - images).square().mean((1, 2, 3))
        full = self._with_edges(made - images, error)
        if self.training:
            self.seen += torch.stack([full.detach().sum(), full.new_tensor(len(images))])
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1)
        numbers = images[0].numel()
        fit = 0.5 * numbers * (torch.log(2 * math.pi * self.variance) + full / self.variance)
        return base.Loss(total=(fit + self._beta() * kl).sum(), weight=torch.tensor(len(images), device=images.device),
                         metrics={"mse": error.sum(), "kl": kl.sum()})

    def _beta(self) -> Tensor | float:
        if not self.training:
            return 1.0
        if self.config.warmup_steps:
            return self.config.beta * (self.steps / self.config.warmup_steps).clamp(max=1)
        return self.config.beta

    def _with_edges(self, difference: Tensor, error: Tensor) -> Tensor:
        """Return the error that the bound sees: of pixels, and of the differences between neighbours."""
        if not self.config.edges:
            return error
        down, right = difference.diff(dim=2).square().mean((1, 2, 3)), difference.diff(dim=3).square().mean((1, 2, 3))
        return error + self.config.edges * (down + right)

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Count the step and let the decoder's variance follow the error of the last twenty steps or so.

        The best variance of a Gaussian is its mean squared error; a running one is the same for all micro-batches of a
        step, so that their losses add up.
        """
        self.steps += 1
        if self.config.variance is None and float(self.seen[1]):
            follow = max(0.05, 1 / float(self.steps))
            self.variance.lerp_(self.seen[0] / self.seen[1], follow).clamp_(min=VARIANCE_FLOOR)
        self.seen.zero_()

    @torch.inference_mode()
    def draw(self, labels: Tensor, text: Tensor, rng: list[torch.Generator], *,
             controls: Controls) -> Iterator[Tensor]:
        """Make pictures from drawn codes; see `PictureGenerator.draw`. `temperature` scales the codes.

        Raises:
            InputError: also for a class or caption when the codes are maps: those are told none.
        """
        self.check_conditions(labels, text, rng)
        self._refuse_words(labels, text)
        heat = 1.0 if controls.temperature is None else controls.temperature
        z = pixel_noise(rng, self.config.latent_shape, self.device) * heat
        yield self._one_by_one(z, self.with_class(labels, text, rng), text)

    def _refuse_words(self, labels: Tensor, text: Tensor) -> None:
        if self.config.spatial and (bool((labels >= 0).any()) or bool((text != 0).any())):
            raise InputError("a vae of maps of codes is told neither class nor caption", where="prompt",
                             fix="train a diffusion model on its codes (generator.latents=NAME) and ask that one")

    def _one_by_one(self, z: Tensor, labels: Tensor | None, text: Tensor | None) -> Tensor:
        """Decode and clip each code alone: the order of sums may follow the size of a batch, and bytes must not."""
        labels = None if labels is None else labels.to(z.device)
        text = None if text is None else text.to(z.device)
        return torch.cat([self.decode(z[row:row + 1], None if labels is None else labels[row:row + 1],
                                      None if text is None else text[row:row + 1])
                          for row in range(len(z))]).clamp(-1, 1)

    @torch.inference_mode()
    def blend(self, labels: Tensor, text: Tensor, rng: list[torch.Generator], count: int, *,
              controls: Controls) -> Iterator[Tensor]:
        """Make pictures on the way between two drawn codes; see `PictureGenerator.blend`.

        Codes go along the sphere, conditions along a straight line; the ends are the pictures that `draw` makes.
        """
        self.check_walk(labels, text, rng, count)
        self._refuse_words(labels, text)
        heat = 1.0 if controls.temperature is None else controls.temperature
        z = pixel_noise(rng, self.config.latent_shape, self.device) * heat
        labels, text = self.with_class(labels, text, rng).to(z.device), text.to(z.device)
        yield self._walk(z, [self.decoder.condition(z[end:end + 1], labels[end:end + 1], text[end:end + 1])
                             for end in range(2)], count)

    def _walk(self, z: Tensor, ends: Sequence[Tensor], steps: int) -> Tensor:
        """Return `steps` pictures from code z[0] under condition ends[0] to z[1] under ends[1], each decoded alone."""
        shares = [step / (steps - 1) for step in range(steps)]
        return torch.cat([self.decoder(slerp(z[0], z[1], share)[None], torch.lerp(ends[0], ends[1], share))
                          for share in shares]).clamp(-1, 1)

    @torch.inference_mode()
    def interpolate(self, a: Tensor, b: Tensor, steps: int, *, labels: Tensor | None = None,
                    text: Tensor | None = None) -> Tensor:
        """Return `steps` pictures [steps, C, H, W] from picture `a` to picture `b` [C, H, W] along the sphere.

        Args:
            a, b: the two ends, shown as the model sees them.
            steps: at least 2, ends included.
            labels: int64 [2] and text: int64 [2, T], the ends' conditions, which are mixed on the way.

        Raises:
            InputError: fewer than two steps, or pictures of another shape.
        """
        if steps < 2:
            raise InputError(f"{steps} steps are too few to go from one picture to another", fix="give at least 2")
        mean, _ = self.encode(torch.stack([a, b]), labels, text)
        return self._walk(mean, self.decoder.condition(mean, labels, text).split(1), steps)

    @torch.inference_mode()
    def redraw(self, images: Tensor, labels: Tensor, text: Tensor, rng: list[torch.Generator], *, controls: Controls,
               mask: Tensor | None = None) -> Iterator[Tensor]:
        """Make relatives of pictures; see `PictureGenerator.redraw`, and `vary` for what `strength` (0.3) means.

        Raises:
            InputError: a mask was given, or as in `draw`.
        """
        if mask is not None:
            raise InputError("a vae sees a picture as a whole and cannot redraw a part of it", where="mask",
                             fix="leave the mask out, or take a diffusion model")
        self.check_conditions(labels, text, rng)
        images = self.check_images(images).to(self.device)
        strength = _VARIATION if controls.strength is None else controls.strength
        labels, text = labels.to(self.device), text.to(self.device)
        if self.config.classes and not self.config.spatial:
            unknown = (labels < 0) & ~(text != 0).any(1)
            labels = torch.where(unknown, self.recognise(images), labels)
        yield self.vary(images, strength, rng, labels=labels, text=text)

    @torch.inference_mode()
    def recognise(self, images: Tensor) -> Tensor:
        """Return the class of each picture, int64 [B]: the one under which its evidence bound is best (of mean codes).

        Raises:
            InputError: the pictures have another shape than the model's.
        """
        found = []
        every = torch.arange(self.config.classes, device=self.device)
        for image in self.check_images(images):
            same = image.expand(len(every), *image.shape)
            mean, logvar = self.encode(same, every)
            error = (self.decode(mean, every) - same).square().flatten(1).sum(1)
            kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1)
            found.append((0.5 * error / self.variance + kl).argmin())
        return torch.stack(found)

    @torch.inference_mode()
    def vary(self, images: Tensor, strength: float, rng: list[torch.Generator], *, labels: Tensor | None = None,
             text: Tensor | None = None) -> Tensor:
        """Return relatives [B, C, H, W] of pictures: strength 0 is the picture as the model sees it, 1 is a new one.

        Raises:
            InputError: the strength is outside 0..1, or a picture has no random generator.
        """
        if not 0 <= strength <= 1 or len(rng) != len(images):
            raise InputError(f"strength {strength} with {len(rng)} seeds for {len(images)} pictures is not possible",
                             fix="give a strength from 0 to 1, and a seed a picture")
        z = torch.cat([self.encode(images[row:row + 1], None if labels is None else labels[row:row + 1],
                                   None if text is None else text[row:row + 1])[0] for row in range(len(images))])
        noise = pixel_noise(rng, self.config.latent_shape, self.device)
        angle = strength * math.pi / 2  # a quarter turn keeps the code's variance at 1
        return self._one_by_one(math.cos(angle) * z + math.sin(angle) * noise, labels, text)

    @torch.inference_mode()
    def traverse(self, image: Tensor, dimension: int, values: Tensor, *, labels: Tensor | None = None,
                 text: Tensor | None = None) -> Tensor:
        """Return the picture [C, H, W] with one dimension (or channel) of its code set to each of the values [V].

        Raises:
            InputError: there is no such dimension.
        """
        if not 0 <= dimension < self.config.latent:
            raise InputError(f"there is no dimension {dimension}", fix=f"give 0 to {self.config.latent - 1}")
        mean, _ = self.encode(image[None], labels, text)
        z = mean.repeat(len(values), *[1] * (mean.dim() - 1))
        z[:, dimension] = values.to(z).view(-1, *[1] * (mean.dim() - 2))
        again = [None if c is None else c.expand(len(values), *c.shape[1:]) for c in (labels, text)]
        return self._one_by_one(z, again[0], again[1])

    @torch.no_grad()
    def measure_latents(self, batches: Iterable[base.Batch]) -> dict[str, Any]:
        """Measure the codes of pictures, keep what others need, and return `latents()`.

        Raises:
            InputError: there are no pictures.
        """
        means = [self.encode(batch["images"], batch.get("labels"), batch.get("text"))[0] for batch in batches]
        if not means:
            raise InputError("there are no pictures to measure", fix="give at least one batch")
        codes = torch.cat(means)
        self.scaling_factor.copy_(1 / codes.std().clamp(min=1e-6))
        self.spread.copy_(codes.transpose(0, 1).flatten(1).std(1))
        return self.latents()

    def latents(self) -> dict[str, Any]:
        """Return facts about the codes: shape, scaling factor to unit variance, dimensions in use (largest first)."""
        order = self.spread.argsort(descending=True).tolist()
        return {"shape": list(self.config.latent_shape), "scaling_factor": float(self.scaling_factor),
                "active": [place for place in order if float(self.spread[place]) > _ACTIVE]}

    def flops_per_item(self, context: int = 0) -> float:
        """Return floating-point operations to encode and decode one picture."""
        model = on_meta(lambda: VAE(self.config))
        images = torch.empty(1, self.config.channels, *self.config.size, device="meta")
        return count_flops(lambda: model.decode(model.encode(images)[0]))
