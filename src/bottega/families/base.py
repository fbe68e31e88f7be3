"""The one interface every architecture keeps. A new architecture is one file beside this one.

A generator scores data (`loss`) and makes new data. Models that make one token after another (`TokenGenerator`) expose
a cached forward pass instead of their own sampler, because the engine steps many requests through one model at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeAlias

import torch
from torch import Tensor, nn

from bottega.core.request import Request, Step
from bottega.core.validate import Strict
from bottega.families.ema import EMA
from bottega.families.score import IGNORED, cross_entropy, token_logprobs

__all__ = ["IGNORED", "TEXT_CONTROLS", "Batch", "Cache", "Config", "Generator", "Loss", "TokenGenerator",
           "token_logprobs"]

Batch: TypeAlias = dict[str, Tensor]
TEXT_CONTROLS = frozenset({
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
    "logit_bias", "seed", "max_tokens", "stop", "n", "best_of", "format"})


@dataclass(slots=True)
class Loss:
    """A loss as a sum and the number of things summed, so that micro-batches add up exactly.

    Attributes:
        total: scalar fp32 sum over `weight` items (tokens, pairs, images); what is differentiated.
        weight: how many items; the optimiser sees total / weight of the whole step.
        metrics: sums of other figures over the same items; the loop shows them divided by `weight`.
    """

    total: Tensor
    weight: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Config(Strict):
    """Base of every family's settings; what `depth` derives is filled in by `derive`."""

    @staticmethod
    def derive(depth: int, vocab_size: int, context: int, overrides: dict[str, Any] | None = None,
               special: dict[str, int] | None = None) -> Config:
        """Fill in a whole configuration from `depth`; see the family's own.

        Raises:
            RecipeError: an unknown key or a bad value.
        """
        raise NotImplementedError

    def derived(self) -> dict[str, Any]:
        """Return the settings to print, with the number of parameters."""
        raise NotImplementedError


class Generator(nn.Module):
    """A model that can score data and make new data."""

    family: ClassVar[str]
    Config: ClassVar[type[Config]]
    understands: ClassVar[frozenset[str]]  # names of the controls this family obeys
    modules_to_save: ClassVar[frozenset[str]] = frozenset()  # what no base has: trained whole beside an adapter
    betas: ClassVar[tuple[float, float]] = (0.9, 0.95)  # decay of AdamW's means of the gradient and of its square
    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def copies(self) -> dict[str, tuple[str, ...]]:
        """Averaged copies of each network that is trained, by name; the last one makes new data and is saved."""
        return {}

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Return who is optimised in turn: one player unless the family is adversarial."""
        return {"model": [p for p in self.parameters() if p.requires_grad]}

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Score a batch for one player; see the family for the batch's keys, shapes and dtypes."""
        raise NotImplementedError

    def begin_again(self) -> None:
        """Forget what an earlier training counted: a finished model is going to learn from other data."""
        for module in self.modules():
            if isinstance(module, EMA):
                module.updates.zero_()  # a fresh average follows quickly

    def before_step(self, progress: float) -> None:
        """Hear before an optimiser step how much of the run is behind (0..1); nothing in most families."""

    def after_step(self, step: int) -> None:
        """Do what follows an optimiser step of all players; nothing in most families."""

    @property
    def settled(self) -> bool:
        """Whether more training would not help; the loop then ends before its budget. Most families never say so."""
        return False

    @staticmethod
    def warnings(history: Sequence[dict[str, Any]]) -> list[str]:
        """Return advice on a run that goes wrong, from the lines of its log so far; most families have none."""
        return []

    def sample(self, request: Request, rng: torch.Generator) -> Iterator[Step]:
        """Make what is asked, every step visible."""
        raise NotImplementedError

    def flops_per_item(self, context: int) -> float:
        """Return forward-pass floating-point operations for one item (token) at the given context length."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and config.json into a folder."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; fp32, evaluation mode."""
        raise NotImplementedError


class Cache(Protocol):
    """State of sequences under way. Row r of every tensor belongs to sequence r; rows may differ in length."""

    capacity: int
    lengths: Tensor  # int64 [B]: tokens written for each row

    def select(self, rows: Tensor) -> Self:
        """Return a cache of the given rows (int64 [R], repeats allowed): forks a prompt, drops finished rows."""

    def join(self, other: Self | None, capacity: int) -> Self:
        """Return a cache of these rows and then another's, each with room for at least `capacity` tokens."""


class TokenGenerator(Generator):
    """A generator of token sequences: text, code, music, and all media once tokenised."""

    understands: ClassVar[frozenset[str]] = TEXT_CONTROLS

    @property
    def head_weight(self) -> Tensor:
        """The matrix [vocab, width] that turns hidden states into logits."""
        raise NotImplementedError

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return the cross-entropy of a batch: `total` in nats over all targets, `weight` their number.

        Args:
            batch: `tokens` int64 [B, T] inputs, `targets` int64 [B, T] (IGNORED carries no loss), optional `segments`
                and `positions` int64 [B, T] for rows that hold several documents.
            player: there is one.
        """
        targets = batch["targets"]
        hidden = self.hidden(batch["tokens"], positions=batch.get("positions"), segments=batch.get("segments"))
        return Loss(total=cross_entropy(hidden, self.head_weight, targets), weight=(targets != IGNORED).sum())

    def hidden(self, tokens: Tensor, *, positions: Tensor | None = None, segments: Tensor | None = None,
               cache: Cache | None = None, counts: Tensor | None = None) -> Tensor:
        """Return the final normalised hidden states [B, T, width].

        Args:
            tokens: int64 [B, T].
            positions: int64 [B, T] place of each token within its document; default counts from 0, or from the cache's
                lengths.
            segments: int64 [B, T] document number within the row; a token attends only within its own segment.
            cache: keys and values (or state) of the tokens before; extended in place. Exclusive with segments.
            counts: int64 [B], with a cache: how many of the T tokens of each row are real (the rest is padding on the
                right, whose outputs are meaningless); default all. The cache's lengths grow by `counts`.
        """
        raise NotImplementedError

    def head(self, hidden: Tensor) -> Tensor:
        """Return logits [..., vocab] of hidden states [..., width]."""
        return nn.functional.linear(hidden, self.head_weight)

    def forward(self, tokens: Tensor, *, positions: Tensor | None = None, segments: Tensor | None = None,
                cache: Cache | None = None, counts: Tensor | None = None) -> Tensor:
        """Return logits [B, T, vocab]; arguments as in `hidden`."""
        hidden = self.hidden(tokens, positions=positions, segments=segments, cache=cache, counts=counts)
        return self.head(hidden)

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """Return an empty cache for `batch` sequences of at most `capacity` tokens."""
        raise NotImplementedError
