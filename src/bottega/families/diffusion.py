"""Pictures out of noise by rectified flow: `family: diffusion` in a recipe trains one.

A network sees a picture mixed with noise and says what the clean one is; drawing starts from noise alone and walks back
in a few steps (flow.py). The same network completes pictures with holes, varies them and walks between two of them.
With `objective: meanflow` it learns whole steps instead of slopes, and one or two of them make a picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bottega.core.errors import ControlError, InputError
from bottega.core.request import Controls
from bottega.families import flow, pictures
from bottega.families.base import Batch, Loss
from bottega.families.conditions import ConditionStates, filled, joined
from bottega.families.diffusion_network import Denoiser, DiffusionConfig
from bottega.families.ema import EMA
from bottega.families.transformer import Transformer
from bottega.families.vae import VAE

_VARIATION = 0.6  # strength when none is said: the shapes change, the composition stays
_BLOCK = 8  # rows that the network is called for at a time: a row's bits then depend neither on its place nor company
_FAR = 4  # one of so many rows learns a whole step in a mean flow, the others a slope


class Diffusion(pictures.PictureGenerator):
    """Rectified flow over pixels or an autoencoder's codes, conditional on class and caption."""

    family = "diffusion"
    Config = DiffusionConfig
    understands: ClassVar[frozenset[str]] = frozenset(
        {"seed", "n", "steps", "guidance_scale", "negative_prompt", "strength", "sampler"})
    masks: ClassVar[bool] = True
    unsaved: ClassVar[tuple[str, ...]] = ("denoiser",)
    config: DiffusionConfig

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__(config)
        self.denoiser = Denoiser(config)
        self.latents = VAE(config.latents).requires_grad_(False) if config.latents else None
        self.text_encoder: Transformer | None = None
        if config.text_encoder and config.vocab:
            self.text_encoder = Transformer(config.text_encoder).requires_grad_(False)
            self.text_encoder.register_module("lm_head", nn.Identity())  # it reads and does not write
        self.average = EMA(self.denoiser, config.ema)

    @property
    def copies(self) -> dict[str, tuple[str, ...]]:
        """See `Generator.copies`."""
        return {"denoiser": ("average.shadow",)}

    @property
    def averaged(self) -> Denoiser:
        """The network with the averaged weights: the one that draws."""
        return cast(Denoiser, self.average.shadow)

    def after_step(self, step: int) -> None:
        """Take the new weights into the average."""
        self.average.update(self.denoiser)

    def restored(self) -> None:
        """Let training go on from the averaged weights, the only ones a bundle holds."""
        self.denoiser.load_state_dict(self.averaged.state_dict())

    def flops_per_item(self, context: int = 0) -> float:
        """Return floating-point operations of one call of the denoiser for one picture, its caption read once."""
        if self.text_encoder is None:
            return self.denoiser.flops()
        shape, length = self.text_encoder.config, self.config.text_length
        word = self.text_encoder.flops_per_item(length) - 2 * shape.vocab_size * shape.width
        return self.denoiser.flops() + word * length

    @torch.no_grad()
    def read(self, text: Tensor) -> Tensor | None:
        """Return captions int64 [B, T] (its tokens + 1, 0 is padding) as the imported text encoder reads them.

        [B, T, its width]; None without one. It looks back only, so that padding behind a caption changes nothing.
        """
        if self.text_encoder is None or not text.shape[1]:
            return None
        return self.text_encoder.hidden((text - 1).clamp_min(0))

    @property
    def encodes(self) -> bool:
        """Whether an autoencoder's codes are learned."""
        return self.latents is not None

    def measure(self, batches: Iterable[Tensor]) -> None:
        """Set the scale that gives codes unit variance."""
        if self.latents is not None:
            self.latents.measure_latents({"images": images} for images in batches)

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """Return what is denoised [B, *config.shape]: pictures [B, C, H, W] themselves, or their codes, scaled."""
        if self.latents is None:
            return images
        made = [self.latents.encode(filled(images[first:first + _BLOCK], _BLOCK))[0]
                for first in range(0, len(images), _BLOCK)]
        return torch.cat(made)[:len(images)] * self.latents.scaling_factor

    @torch.no_grad()
    def shown(self, codes: Tensor) -> Tensor:
        """Return the pictures in [-1, 1] that codes stand for."""
        if self.latents is None:
            return codes.clamp(-1, 1)
        codes = codes / self.latents.scaling_factor
        made = [self.latents.decode(filled(codes[first:first + _BLOCK], _BLOCK))
                for first in range(0, len(codes), _BLOCK)]
        return torch.cat(made)[:len(codes)].clamp(-1, 1)

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return the velocity's squared error, times t in a plain flow: `total` sums each picture's mean.

        The velocity's error is the picture's over t. Its square alone weighs a picture at t = 0.05 a hundred times one
        at 0.5, and a gradient of few such pictures is noise; times t, the picture's squared error has the weight 1/t.

        In training mode noise and times are drawn from torch's global generator. In evaluation mode they are always the
        same and the averaged weights answer, so that two figures differ only by the weights.

        Args:
            batch: `images` [B, C, H, W], or `codes` [B, *config.shape] in their place; `labels` [B], `text` [B, T].
            player: there is one.
        """
        x = batch["codes"] if "codes" in batch else self.codes(self.check_images(batch["images"]))
        count, device = len(x), x.device
        chance = None if self.training else torch.Generator(device).manual_seed(0)
        network = self.denoiser if self.training else self.averaged
        t = flow.logit_normal(flow.stratified(count, chance, device), self.config.time_mean, self.config.time_spread)
        noise = torch.randn(x.shape, generator=chance, device=device)
        dropped = torch.rand(count, device=device) < self.config.drop if self.training else None
        states = network.encode(batch["labels"], batch["text"], dropped, self.read(batch["text"]))
        z = flow.mix(x, noise, t)
        far = count // _FAR if self.training and self.config.objective == "meanflow" else 0
        near = network(z[far:], t[far:], torch.zeros_like(t[far:]), states.rows(far, count))
        error = (flow.velocity(z, x, t)[far:] - flow.velocity(z[far:], near, t[far:])).square().mean((1, 2, 3))
        if self.config.objective == "flow":  # else the few nearly clean pictures of a batch outweigh all others
            error = error * t
        if far:
            whole = self._whole_steps(x[:far], noise[:far], t[:far], states.rows(0, far))
            error = torch.cat((whole, error))
            error = error / (error.detach() + 1e-3).sqrt()  # a few hard steps must not outweigh the rest
        pixels = (near.detach() - x[far:]).square().mean((1, 2, 3)).sum() * (count / (count - far))
        return Loss(total=error.float().sum(), weight=torch.tensor(count, device=device),
                    metrics={"pixel_error": pixels})

    def _whole_steps(self, x: Tensor, noise: Tensor, t: Tensor, states: ConditionStates) -> Tensor:
        """Return [B] squared errors of mean velocities over steps of random length.

        The mean velocity u over a step of length s that ends at t obeys u = v - s · du/dt along the path, v = noise - x
        (MeanFlow, Geng et al. 2025, arXiv 2505.13447, eq. 6). The right side is computed from the network itself and
        taken as given.
        """
        other = flow.logit_normal(flow.stratified(len(t), None, t.device), self.config.time_mean,
                                  self.config.time_spread)
        start, span = torch.maximum(t, other), (t - other).abs()
        z = flow.mix(x, noise, start)

        def mean_velocity(z: Tensor, t: Tensor, span: Tensor) -> Tensor:
            return flow.velocity(z, self.denoiser(z, t, span, states), t)

        rates = (noise - x, torch.ones_like(t), torch.ones_like(t))
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no forward derivative
            mean, change = torch.func.jvp(mean_velocity, (z, start, span), rates)[:2]
        target = flow.velocity(z, x, start) - span.view(-1, 1, 1, 1) * change
        out: Tensor = (mean - target.detach()).square().mean((1, 2, 3))
        return out

    @torch.no_grad()
    def draw(self, labels: Tensor, text: Tensor, rng: list[torch.Generator], *, controls: Controls,
             negative: Tensor | None = None, exact: bool = True) -> Iterator[Tensor]:
        """Make pictures; yield at each step what they are going to be, float [B, C, H, W] in [-1, 1].

        Args:
            labels: int64 [B], -1 for no class.
            text: int64 [B, T], 0 for padding.
            rng: one CPU generator a picture.
            controls: `steps` (8; a mean flow 2), `guidance_scale` (1.5; 1 draws the data as they are, more follows
                the condition closer and varies less) and `sampler` (euler; see `flow.solve`).
            negative: int64 [T] or [B, T]: a caption to stay away from, by guidance.
            exact: call the network for a fixed number of rows at a time. Kernels sum in another order for a batch of
                another size, so only then has a picture the same bytes whatever is made beside it. Without, the whole
                batch goes at once.

        Raises:
            InputError: a class or word that the model does not have, or lengths that do not fit.
            ControlError: words to stay away from, and the model knows none.
        """
        self.check_conditions(labels, text, rng)
        noise = pictures.pixel_noise(rng, self.config.shape, self.device)
        wishes = self._wishes(labels, text, negative, self._scale(controls), exact)
        yield from self._walk(noise, wishes, flow.schedule(self.steps(controls)), controls, exact)

    @torch.no_grad()
    def redraw(self, images: Tensor, labels: Tensor, text: Tensor, rng: list[torch.Generator], *, controls: Controls,
               mask: Tensor | None = None, negative: Tensor | None = None, exact: bool = True) -> Iterator[Tensor]:
        """Start from given pictures: vary them, lead them to a condition, or fill holes; previews as in `draw`.

        Args:
            images: float [B, C, H, W] in [-1, 1].
            labels, text, rng, negative, exact: as in `draw`.
            controls: also `strength`, the time to start from: 0 returns the pictures, 1 keeps nothing of what is
                redrawn. 0.6 when unset, 1 with a mask.
            mask: bool [B, 1, H, W] or broadcastable to it, True where to redraw; all other pixels keep their exact
                values and are seen by the network at every step.

        Raises:
            InputError, ControlError: as in `draw`; pictures or a mask that do not fit.
        """
        self.check_conditions(labels, text, rng)
        images = self.check_images(images).to(self.device)
        if len(images) != len(rng):
            raise InputError(f"{len(images)} pictures and {len(rng)} seeds do not fit", fix="give as many of each")
        if mask is not None:
            mask = self._check_mask(mask, len(images))
        strength = controls.strength if controls.strength is not None else _VARIATION if mask is None else 1.0
        noise = pictures.pixel_noise(rng, self.config.shape, self.device)
        steps = math.ceil(self.steps(controls) * strength)  # a shorter way takes fewer steps of about the same length
        if not steps:
            yield images
            return
        wishes = self._wishes(labels, text, negative, self._scale(controls), exact)
        known, hole = self.codes(images), mask
        if mask is not None and self.latents is not None:  # a code is made anew when any of its pixels is
            hole = F.adaptive_max_pool2d(mask.float(), self.config.shape[1:]) > 0
        for picture in self._walk(flow.mix(known, noise, strength), wishes, flow.schedule(steps, strength), controls,
                                  exact, known, hole):
            yield picture if mask is None else torch.where(mask, picture, images)

    @torch.no_grad()
    def blend(self, labels: Tensor, text: Tensor, rng: list[torch.Generator], count: int, *,
              controls: Controls) -> Iterator[Tensor]:
        """Draw `count` pictures on the way from one to another, both ends included; previews as in `draw`.

        Args:
            labels, text, rng: of the two ends; the first and last picture are those that `draw` makes of them.
            count: at least 2.
            controls: as in `draw`.

        Raises:
            InputError: not two ends, or fewer than two pictures; otherwise as in `draw`.
        """
        self.check_walk(labels, text, rng, count)
        noise = pictures.pixel_noise(rng, self.config.shape, self.device)
        shares = [index / (count - 1) for index in range(count)]
        starts = torch.cat([flow.slerp(noise[:1], noise[1:], share) for share in shares])
        ends = self._wishes(labels, text, None, self._scale(controls), exact=True)
        wishes = [joined([states.rows(0, 1).between(states.rows(1, 2), share) for share in shares]) for states in ends]
        yield from self._walk(starts, wishes, flow.schedule(self.steps(controls)), controls, exact=True)

    def steps(self, controls: Controls) -> int:
        """Return how many steps a picture takes under these controls."""
        return controls.steps or (2 if self.config.objective == "meanflow" else 8)

    def _scale(self, controls: Controls) -> float:
        if not self.config.classes and not self.config.vocab:
            return 1.0
        return 1.5 if controls.guidance_scale is None else controls.guidance_scale

    def _check_mask(self, mask: Tensor, count: int) -> Tensor:
        try:
            return mask.to(self.device, torch.bool).expand(count, 1, *self.config.size)
        except RuntimeError:
            wanted = f"[{count}, 1, {self.config.size[0]}, {self.config.size[1]}]"
            raise InputError(f"a mask of shape {list(mask.shape)} does not fit", fix=f"give {wanted}") from None

    def _wishes(self, labels: Tensor, text: Tensor, negative: Tensor | None, scale: float,
                exact: bool) -> list[ConditionStates]:
        """Return what is asked for, and with guidance also what to lead away from; a row a picture in both."""
        labels, text = labels.to(self.device), text.to(self.device)
        plain = torch.zeros_like(text)
        if negative is not None:
            if not self.config.vocab:
                raise ControlError("this model knows no words to stay away from", where="negative_prompt",
                                   fix="leave negative_prompt out")
            plain = negative.to(self.device).expand(len(text), -1)
            longest = max(text.shape[1], plain.shape[1])
            text, plain = (F.pad(part, (0, longest - part.shape[1])) for part in (text, plain))
        asked = [(labels, text)] if scale == 1 else [(labels, text), (torch.full_like(labels, -1), plain)]
        size = _BLOCK if exact else len(labels)
        return [joined([self._encoded(filled(labels[first:first + size], size), filled(text[first:first + size], size))
                        for first in range(0, len(labels), size)]).rows(0, len(labels)) for labels, text in asked]

    def _encoded(self, labels: Tensor, text: Tensor) -> ConditionStates:
        states: ConditionStates = self.averaged.encode(labels, text, None, self.read(text))
        return states

    def _walk(self, z: Tensor, wishes: list[ConditionStates], times: list[float], controls: Controls, exact: bool,
              known: Tensor | None = None, mask: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the clean pictures seen at each step from z at times[0]."""
        size = _BLOCK // len(wishes) if exact else len(z)
        firsts = range(0, len(z), size)
        lanes = [joined([states.rows(first, first + size).filled(size) for states in wishes]) for first in firsts]

        def predict(z: Tensor, now: float, then: float) -> Tensor:
            made = []
            for first, states in zip(firsts, lanes, strict=True):
                part = filled(z[first:first + size], size).repeat(len(wishes), 1, 1, 1)
                t = torch.full((len(part),), now, device=z.device)
                clean = self.averaged(part, t, torch.full_like(t, now - then), states)
                made.append(clean if len(wishes) == 1 else
                            flow.guide(clean[:size], clean[size:], self._scale(controls)))
            return torch.cat(made)[:len(z)]

        known_kept = predict if mask is None or known is None else flow.keep_known(predict, known, mask)
        for picture in flow.solve(known_kept, z, times, controls.sampler or "euler"):
            yield self.shown(picture)
