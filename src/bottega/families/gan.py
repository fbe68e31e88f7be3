"""The adversarial generator of pictures: `generator.family: gan` in a recipe; `pytest tests/families/test_gan.py`.

Two players in turn: a discriminator scores pictures, a generator makes pictures that score like real ones. The loss
compares each real picture with a made one (Jolicoeur-Martineau 2019, arXiv 1807.00734) and keeps the discriminator's
slope small at both (R1 and R2, Mescheder et al. 2018, arXiv 1801.04406), which together converge where either alone
may not (Huang et al. 2024, "R3GAN", arXiv 2501.05441). Plain 3x3 convolutions without normalisation: the penalties need
a second backward pass, which grouped convolutions make four times slower on a CPU. One pass makes a picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bottega.core.errors import InputError
from bottega.core.request import Controls
from bottega.families import base
from bottega.families.adversaries import Critic, GANConfig, Maker
from bottega.families.ema import EMA
from bottega.families.flow import slerp
from bottega.families.pictures import PictureGenerator, count_flops, drop_captions, on_meta, pixel_noise

# One picture of so many has its slope measured, and counts as many times: the second backward pass would be half of a
# step's work.
_SLOPED = 4
_SETTLED = 200  # steps before which classes need not be told apart
_PAIRS = 8  # pictures a step that are made twice to see whether chance still changes them


class GAN(PictureGenerator):
    """Generator, its running average (which draws and is saved), and discriminator."""

    family = "gan"
    Config = GANConfig
    understands = PictureGenerator.understands | {"temperature"}
    # The other player's last move makes an old gradient wrong: at equal steps (400 of 64 digits, width 24) the energy
    # distance was 0.003 without momentum and 0.060 with 0.9.
    betas = (0.0, 0.95)
    unsaved = ("generator",)
    config: GANConfig

    def __init__(self, config: GANConfig) -> None:
        super().__init__(config)
        self.generator, self.discriminator = Maker(config), Critic(config)
        self.ema = EMA(self.generator, config.ema)
        self._progress = 0.0  # of the run; the loop tells it before each step

    @property
    def copies(self) -> dict[str, tuple[str, ...]]:
        """See `Generator.copies`."""
        return {"generator": ("ema.shadow",)}

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Return the discriminator, which moves first, and the generator."""
        return {"discriminator": list(self.discriminator.parameters()), "generator": list(self.generator.parameters())}

    # the compiler has no second backward pass, and says so only after its work
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def loss(self, batch: base.Batch, player: str = "model") -> base.Loss:
        """Return a player's loss; for `model` the energy distance of made from real pictures, for validation.

        The discriminator's metrics: `balance`, share of pairs in which the real picture scores higher (0.5 when it
        cannot tell); `r1` and `r2`, squared slope at real and made pictures; `diversity`, squared distance of two
        pictures made for one condition, over that of two real pictures (0 when the generator has collapsed).

        Always fp32: slopes of slopes do not survive bfloat16.

        Raises:
            InputError: there is no such player, or the pictures have another shape than the model's.
        """
        losses = {"discriminator": self._discriminator_loss, "generator": self._generator_loss, "model": self._distance}
        if player not in losses:
            raise InputError(f"there is no player '{player}'", fix=f"give one of {', '.join(losses)}")
        images = self.check_images(batch["images"])
        with torch.autocast(images.device.type, enabled=False):
            labels, text = batch.get("labels"), batch.get("text")
            text = drop_captions(text, self.config.drop if self.training else 0)
            return losses[player](images.float(), labels, text)

    def _noise(self, count: int) -> Tensor:
        return torch.randn(count, self.config.latent, device=self.device)

    def _discriminator_loss(self, real: Tensor, labels: Tensor | None, text: Tensor | None) -> base.Loss:
        count = len(real)
        with torch.no_grad():
            made = self.generator(self._noise(count), labels, text)
            few = min(count, _PAIRS)
            again = self.generator(self._noise(few), *(None if c is None else c[:few] for c in (labels, text)))
            apart = (again - made[:few]).square().mean() / (2 * real.var(0, unbiased=False).mean()).clamp(min=1e-6)
        first = max(1, count // _SLOPED)
        sloped, others = slice(first), slice(first, count)
        both = torch.cat([real[sloped], made[sloped]]).requires_grad_()
        scores = self._scores(both, labels, text, sloped)
        (slopes,) = torch.autograd.grad(scores.sum(), both, create_graph=True)
        r1, r2 = slopes.square().flatten(1).sum(1).view(2, first).sum(1) * (count / first)
        lead = scores[:first] - scores[first:]
        if first < count:
            rest = self._scores(torch.cat([real[others], made[others]]), labels, text, others)
            lead = torch.cat([lead, rest[:count - first] - rest[count - first:]])
        total = F.softplus(-lead).sum() + 0.5 * self.gamma() * (r1 + r2)
        return base.Loss(total=total, weight=torch.tensor(count, device=real.device),
                         metrics={"balance": (lead > 0).float().sum(), "r1": r1, "r2": r2, "diversity": apart * count})

    def _scores(self, both: Tensor, labels: Tensor | None, text: Tensor | None, rows: slice) -> Tensor:
        """Score real pictures and then made ones under the same conditions, those of some rows of a batch."""
        labels, text = (None if c is None else c[rows].repeat(2, *[1] * (c.dim() - 1)) for c in (labels, text))
        scores: Tensor = self.discriminator(both, labels, text)
        return scores

    def _generator_loss(self, real: Tensor, labels: Tensor | None, text: Tensor | None) -> base.Loss:
        with _frozen(self.discriminator):
            made = self.discriminator(self.generator(self._noise(len(real)), labels, text), labels, text)
        with torch.no_grad():
            true = self.discriminator(real, labels, text)
        return base.Loss(total=F.softplus(true - made).sum(), weight=torch.tensor(len(real), device=real.device))

    @torch.no_grad()
    def _distance(self, real: Tensor, labels: Tensor | None, text: Tensor | None) -> base.Loss:
        """Return 2 E|x - y| - E|x - x'| - E|y - y'| of pixels, 0 for equal distributions (Szekely & Rizzo 2013).

        Unbiased, so it may be a little below 0; pairs of one condition are left out between real and made as they are
        within each. The made pictures are those of the running average, always from the same noise. The metric
        `covered` is the share of real pictures whose nearest made one was asked for their class, which a class that is
        not made, or made as another, lowers; `covered_real` is the same with other real pictures for made ones.
        """
        count = len(real)
        z = torch.randn(count, self.config.latent, generator=torch.Generator().manual_seed(0)).to(real.device)
        made = self.ema.shadow(z, labels, text)
        x, y = real.flatten(1), made.flatten(1)
        others = 1 - torch.eye(count, device=real.device)
        between, within_x, within_y = (torch.cdist(a, b) for a, b in ((x, y), (x, x), (y, y)))
        sums = [(distances * others).sum() for distances in (between, within_x, within_y)]
        distance = (2 * sums[0] - sums[1] - sums[2]) / (max(count - 1, 1) * math.sqrt(x.shape[1]))
        lead = self.discriminator(real, labels, text) - self.discriminator(made, labels, text)
        metrics = {"balance": (lead > 0).float().sum()}
        if labels is not None and self.config.classes:
            for name, distances in (("covered", between), ("covered_real", within_x)):
                nearest = distances.masked_fill(others == 0, math.inf).argmin(1)
                metrics[name] = (labels[nearest] == labels).float().sum()
        return base.Loss(total=distance, weight=torch.tensor(count, device=real.device), metrics=metrics)

    def gamma(self) -> float:
        """Return the present weight of the slope penalties: a cosine over the run from `gamma` to `gamma_final`."""
        start, end = self.config.gamma, self.config.gamma_final
        return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(self._progress, 1.0)))

    def before_step(self, progress: float) -> None:
        """Hear how far along the run is, which `gamma` follows."""
        self._progress = progress

    def after_step(self, step: int) -> None:
        """Take the generator's weights into the running average."""
        self.ema.update(self.generator)

    @torch.inference_mode()
    def draw(self, labels: Tensor, text: Tensor, rng: list[torch.Generator], *,
             controls: Controls) -> Iterator[Tensor]:
        """Make pictures in one pass each; see `PictureGenerator.draw`.

        `temperature` scales the drawn numbers: below 1 pictures are more alike and more typical.
        """
        self.check_conditions(labels, text, rng)
        heat = 1.0 if controls.temperature is None else controls.temperature
        z = pixel_noise(rng, (self.config.latent,), self.device) * heat
        labels, text = self.with_class(labels, text, rng).to(self.device), text.to(self.device)
        # one by one: the order of sums may follow the size of a batch, and bytes must not
        yield torch.cat([self.ema.shadow(z[row:row + 1], labels[row:row + 1], text[row:row + 1])
                         for row in range(len(z))]).clamp(-1, 1)

    @torch.inference_mode()
    def blend(self, labels: Tensor, text: Tensor, rng: list[torch.Generator], count: int, *,
              controls: Controls) -> Iterator[Tensor]:
        """Make pictures on the way between two drawn ones; see `PictureGenerator.blend`.

        Drawn numbers go along the sphere, conditions along a straight line; the ends are those that `draw` makes.
        """
        self.check_walk(labels, text, rng, count)
        heat = 1.0 if controls.temperature is None else controls.temperature
        z = pixel_noise(rng, (self.config.latent,), self.device) * heat
        maker: Any = self.ema.shadow
        labels, text = self.with_class(labels, text, rng).to(z.device), text.to(z.device)
        first, last = (maker.condition(z[end:end + 1], labels[end:end + 1], text[end:end + 1]) for end in range(2))
        shares = [step / (count - 1) for step in range(count)]
        yield torch.cat([maker.paint(slerp(z[0], z[1], share)[None], torch.lerp(first, last, share))
                         for share in shares]).clamp(-1, 1)

    @staticmethod
    def warnings(history: Sequence[dict[str, Any]]) -> list[str]:
        """Return advice on a run that goes wrong.

        Args:
            history: lines of the run's log (`read_history`); the last tenth of them, at least 10, is judged, and the
                last validation.
        """
        lines = [line["metrics"] for line in history if "balance" in line.get("metrics", {})]
        recent = lines[-max(10, len(lines) // 10):]
        if len(recent) < 10:
            return []
        mean = {key: sum(line[key] for line in recent) / len(recent) for key in recent[0]}
        looks = [line["validation"] for line in history
                 if line["step"] >= _SETTLED and "covered" in line.get("validation", {})]
        found = []
        if looks and looks[-1]["covered"] < 0.5 * looks[-1]["covered_real"]:
            found.append(f"classes are missing or mixed up: of {looks[-1]['covered']:.0%} of the held-out pictures the "
                         f"nearest made one has their class (of real ones {looks[-1]['covered_real']:.0%}): train "
                         "longer, or lower training.learning_rate")
        if mean["diversity"] < 0.05:
            found.append(f"the generator makes nearly one picture a condition (diversity {mean['diversity']:.3f}): "
                         "raise generator.gamma or the batch, or lower training.learning_rate")
        if mean["balance"] > 0.99:
            found.append(f"the discriminator tells {mean['balance']:.0%} of the pairs: raise generator.gamma, "
                         "give more data, or train longer")
        if mean["balance"] < 0.35:
            found.append(f"the discriminator is wrong about {1 - mean['balance']:.0%} of the pairs: lower "
                         "generator.gamma or training.learning_rate")
        if max(mean["r1"], mean["r2"]) > 100:
            found.append(f"the discriminator is steep (squared slope {max(mean['r1'], mean['r2']):.0f}): raise "
                         "generator.gamma_final or lower training.learning_rate")
        return found

    def restored(self) -> None:
        """Start the generator from its running average."""
        self.generator.load_state_dict(self.ema.shadow.state_dict())

    def flops_per_item(self, context: int = 0) -> float:
        """Return a third of the operations of both players' steps for a picture: three times it is the training work.

        The discriminator's step makes a picture and passes two through the Critic, each three times as dear as a plain
        pass, or six times where the slope is measured (forward, slope, and the two inputs of each in the pass back);
        the generator's step is three passes of each. Drawing a picture takes one pass of the Maker.
        """
        maker, critic = on_meta(lambda: (Maker(self.config), Critic(self.config)))
        z = torch.empty(1, self.config.latent, device="meta")
        image = torch.empty(1, self.config.channels, *self.config.size, device="meta")
        make, score = (count_flops(run) for run in (lambda: maker(z, None, None), lambda: critic(image, None, None)))
        return ((1 + 3) * make + (2 * (3 + 3 / _SLOPED) + 3) * score) / 3


@contextmanager
def _frozen(net: nn.Module) -> Iterator[None]:
    """Let gradients flow through a network in the block, but none into its weights."""
    moved = [parameter for parameter in net.parameters() if parameter.requires_grad]
    net.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in moved:
            parameter.requires_grad_(True)
