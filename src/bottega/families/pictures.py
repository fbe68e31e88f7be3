"""What the picture families share: facts, conditions, checks, files. `pytest tests/families/test_vae.py` runs it.

A picture batch holds `images` float32 [B, C, H, W] in [-1, 1] (or in their place the `codes` that a model of codes is
trained on), `labels` int64 [B] (-1: none) and `text` int64 [B, T] (word numbers, 0 is padding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bottega.core.errors import CorruptError, InputError, RecipeError
from bottega.core.request import Controls
from bottega.core.validate import validate
from bottega.families import base
from bottega.families.weights import read_config, read_weights, write_model

Made = TypeVar("Made")
FACTS = ("channels", "size", "classes", "vocab", "text_length")


class PictureConfig(base.Config):
    """What every picture family knows about its pictures, and its dial.

    Attributes:
        channels: 1 (grey) or 3 (colour).
        size: height and width in pixels.
        classes: number of classes; 0 is unconditional.
        vocab: words of the captions, padding included; 0 is no text.
        text_length: words a caption, padding included.
        depth: the dial the widths derive from.
    """

    channels: Literal[1, 3]
    size: tuple[int, int]
    classes: int = Field(default=0, ge=0)
    vocab: int = Field(default=0, ge=0)
    text_length: int = Field(default=0, ge=0)
    depth: int = Field(ge=1)

    # Pictures have other facts than texts: no vocabulary and context, but a size and classes.
    @staticmethod
    def derive(depth: int, facts: dict[str, Any],  # type: ignore[override]
               overrides: dict[str, Any] | None = None) -> PictureConfig:
        """Fill in a whole configuration from `depth` and the pictures' facts; see the family's own.

        Raises:
            RecipeError: an unknown key, a bad value, a fact given as a key, or a size the family cannot make.
        """
        raise NotImplementedError


def refuse_facts(overrides: dict[str, Any], family: str) -> None:
    """Refuse generator keys that the data decides.

    Raises:
        RecipeError: naming the key.
    """
    for key in FACTS:
        if key in overrides:
            raise RecipeError(f"'{key}' of a {family} is decided by the pictures", where="generator",
                              fix="leave it out; the codec and the data set it")


def halvings(size: tuple[int, int], patch: int, smallest: int) -> int:
    """Return how often both sides, counted in patches, halve evenly, at most down to `smallest`; at least once."""
    sides, count = [side // patch for side in size], 0
    while all(side // 2 >= smallest and side % 2 == 0 for side in sides):
        sides, count = [side // 2 for side in sides], count + 1
    return max(1, count)


def patch_of(size: tuple[int, int]) -> int:
    """Return the side of the squares of pixels that the network sees as one place: 1 for small pictures.

    A quarter of the places is a quarter of the work, and what is lost is made up by more steps in the same time.
    """
    return 1 if min(size) < 24 else 2 if min(size) < 96 else 4


def refuse_size(size: tuple[int, int], multiple: int) -> None:
    """Refuse a height and width that the network cannot halve.

    Raises:
        ValueError: naming the nearest size that works; a Config turns it into its own error.
    """
    if any(side < multiple or side % multiple for side in size):
        near = [max(multiple, round(side / multiple) * multiple) for side in size]
        raise ValueError(f"height and width must be multiples of {multiple}: take {near[0]}x{near[1]}")


def on_meta(build: Callable[[], Made]) -> Made:
    """Call `build` so that what it makes has shapes but neither memory nor work."""
    with torch.device("meta"):
        return build()


def count_flops(run: Callable[[], object]) -> float:
    """Return the floating-point operations of the matrix products and convolutions that `run` does."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def pixel_noise(rng: Sequence[torch.Generator], shape: Sequence[int], device: torch.device) -> Tensor:
    """Return standard normal numbers [B, *shape], row b from generator b alone."""
    return torch.stack([torch.randn(*shape, generator=one) for one in rng]).to(device)


def drop_captions(text: Tensor | None, share: float) -> Tensor | None:
    """Take the caption (int64 [B, T]) from a share (0..1) of the pictures of a batch, at random."""
    if text is None or not share:
        return text
    return text.masked_fill(torch.rand(len(text), 1, device=text.device) < share, 0)


class Condition(nn.Module):
    """Class and caption as one vector: an embedding of the class plus a small network of the mean word embedding.

    Attributes:
        width: numbers of the vector; 0 when the pictures have neither classes nor captions.
    """

    def __init__(self, config: PictureConfig, width: int) -> None:
        super().__init__()
        self.classes, self.vocab = config.classes, config.vocab
        self.width = width if config.classes or config.vocab else 0
        if config.classes:
            self.labels = nn.Embedding(config.classes + 1, width)  # the last row stands for no class
        if config.vocab:
            self.words = nn.Embedding(config.vocab, width, padding_idx=0)
            self.mix = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, rows: Tensor, labels: Tensor | None, text: Tensor | None) -> Tensor:
        """Return fp32 [B, width].

        Args:
            rows: [B, ...], what is conditioned; says how many there are and where.
            labels: int64 [B], -1 for no class; None: none has one.
            text: int64 [B, T], 0 for padding; None: none has a caption.
        """
        out = torch.zeros(len(rows), self.width, device=rows.device)
        if self.classes and labels is not None:
            out = out + self.labels(torch.where(labels < 0, self.classes, labels))
        elif self.classes:
            out = out + self.labels.weight[-1]
        if self.vocab and text is not None and text.shape[1]:
            known = (text != 0).unsqueeze(-1)
            mean = (self.words(text) * known).sum(1) / known.sum(1).clamp(min=1)
            out = out + self.mix(mean)
        return out


class PictureGenerator(base.Generator):
    """A generator of pictures."""

    understands: ClassVar[frozenset[str]] = frozenset({"seed", "n"})
    masks: ClassVar[bool] = False  # whether `redraw` can keep a part of a picture
    unsaved: ClassVar[tuple[str, ...]] = ()  # first parts of the names of tensors that a bundle does not need
    config: PictureConfig

    def draw(self, labels: Tensor, text: Tensor, rng: list[torch.Generator], *,
             controls: Controls) -> Iterator[Tensor]:
        """Make pictures; yield previews float [B, C, H, W] in [-1, 1], the last of which is the result.

        Args:
            labels: int64 [B], -1 for no class.
            text: int64 [B, T], 0 for padding.
            rng: one CPU generator a picture, so that a picture does not depend on what is made beside it.
            controls: those that the family understands.

        Raises:
            InputError: a class or a word that the model does not have, or lengths that do not fit.
        """
        raise NotImplementedError

    def redraw(self, images: Tensor, labels: Tensor, text: Tensor, rng: list[torch.Generator], *, controls: Controls,
               mask: Tensor | None = None) -> Iterator[Tensor]:
        """Make pictures that start from others; previews and result as in `draw`.

        Args:
            images: float [B, C, H, W] in [-1, 1].
            labels, text, rng: as in `draw`.
            controls: `strength` says how much is made anew.
            mask: bool [B, 1, H, W], True where to draw anew; the other pixels are kept.

        Raises:
            InputError: this family cannot, or as in `draw`.
        """
        raise InputError(f"a {self.family} model cannot start from a picture", where="image",
                         fix="leave the picture out, or take a diffusion model or a vae")

    def blend(self, labels: Tensor, text: Tensor, rng: list[torch.Generator], count: int, *,
              controls: Controls) -> Iterator[Tensor]:
        """Make `count` pictures on the way from one to another, both ends included; previews and result as in `draw`.

        Args:
            labels: int64 [2]; text: int64 [2, T]; rng: two generators, of the two ends.
            count: at least 2.
            controls: as in `draw`.

        Raises:
            InputError: this family cannot, or as in `draw`.
        """
        raise InputError(f"a {self.family} model cannot walk between two prompts", where="toward",
                         fix="leave the second prompt out")

    @property
    def encodes(self) -> bool:
        """Whether training takes `codes`, which never change, in place of the pictures."""
        return False

    def codes(self, images: Tensor) -> Tensor:
        """Return what the network learns of pictures [B, C, H, W]: they themselves, or their codes."""
        return images

    def measure(self, batches: Iterable[Tensor]) -> None:
        """Look at pictures before `codes` are made of them: how large codes are, for instance."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def check_images(self, images: Tensor) -> Tensor:
        """Return pictures that have the model's shape.

        Raises:
            InputError: they have another one.
        """
        wanted = (self.config.channels, *self.config.size)
        if images.dim() != 4 or tuple(images.shape[1:]) != wanted:
            raise InputError(f"pictures of shape {list(images.shape)} do not fit this {self.family}",
                             fix=f"give [B, {', '.join(map(str, wanted))}]")
        return images

    def check_conditions(self, labels: Tensor, text: Tensor, rng: Sequence[torch.Generator]) -> None:
        """Refuse conditions that the model does not have.

        Raises:
            InputError: naming the class or word number.
        """
        if not len(labels) == len(text) == len(rng) > 0:
            raise InputError(f"{len(labels)} classes, {len(text)} captions and {len(rng)} seeds do not fit",
                             fix="give as many of each, at least one")
        for name, values, limit in (("class", labels, self.config.classes), ("word", text, self.config.vocab)):
            wrong = values[values >= limit] if name == "class" or limit else values[values > 0]
            if len(wrong):
                raise InputError(f"{name} number {int(wrong[0])} is not one of this model's {limit}",
                                 fix=f"give 0 to {limit - 1}" if limit else f"leave it out: it knows no {name}")
        if self.config.vocab and text.shape[1] > self.config.text_length:
            raise InputError(f"a caption of {text.shape[1]} places is longer than this model's "
                             f"{self.config.text_length}", fix="shorten it")

    def with_class(self, labels: Tensor, text: Tensor, rng: Sequence[torch.Generator]) -> Tensor:
        """Return classes in which a picture that is asked for by nothing has one at random, from its own generator.

        A model that is always told the class has not learned pictures without one.
        """
        if not self.config.classes:
            return labels
        nothing = (labels < 0) & ~(text != 0).any(1)
        drawn = [int(torch.randint(self.config.classes, (), generator=one)) if row else -1
                 for row, one in zip(nothing.tolist(), rng, strict=True)]
        return torch.where(nothing, torch.tensor(drawn, device=labels.device), labels)

    def check_walk(self, labels: Tensor, text: Tensor, rng: Sequence[torch.Generator], count: int) -> None:
        """Refuse what is no way between two pictures; otherwise as `check_conditions`.

        Raises:
            InputError: not two ends, or fewer than two pictures.
        """
        self.check_conditions(labels, text, rng)
        if len(rng) != 2 or count < 2:
            raise InputError(f"a way between {len(rng)} pictures in {count} pictures is none",
                             fix="give two ends and ask for at least two pictures")

    def flops_per_item(self, context: int = 0) -> float:
        """Return floating-point operations of a forward pass for one picture; `context` means nothing here."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        skip = frozenset(name for name in self.state_dict() if name.split(".")[0] in self.unsaved)
        write_model(folder, self, {"model_type": f"bottega-{self.family}", **self.config.model_dump(mode="json")},
                    skip=skip)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; fp32, evaluation mode.

        Raises:
            InputError: a file is not there, or the folder holds another architecture.
            CorruptError: the weights do not fit the configuration.
        """
        data = read_config(folder)
        kind = data.pop("model_type", None)
        if kind != f"bottega-{cls.family}":
            raise InputError(f"model_type {kind!r} is not a {cls.family}", where=str(folder),
                             fix="load it with the family that made it")
        model = cls(validate(cls.Config, data, where=str(folder), error=CorruptError))
        skip = frozenset(name for name in model.state_dict() if name.split(".")[0] in cls.unsaved)
        read_weights(folder, model, skip=skip)
        model.restored()
        return model.eval()

    def restored(self) -> None:
        """Fill what `unsaved` left out; called after the weights were read."""


def init_convolutions(module: nn.Module) -> None:
    """Draw the weights of convolutions and linear layers so that variance is kept through SiLU or leaky ReLU."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, a=0.2)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
