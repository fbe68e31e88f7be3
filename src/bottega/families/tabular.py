"""Tables: a Gaussian copula as a base, and an any-order network that learns what the base leaves over.

    bottega train recipes/patients-table.yaml

Rows are codes (`codecs/table.py`). Given any subset of a row's columns the model says how probable each code of each
other column is. The base does it in closed form: every column becomes features on a normal scale (a number its normal
score, a level 0/1), one mean and one covariance describe them (shrunk after Ledoit and Wolf 2004), and conditioning a
Gaussian gives mean and spread of what is hidden; a code's probability is the mass of its interval, or the clipped mean
of its level. The network sees the visible features, the base's means of the hidden ones and which is which, and adds
to the base's logits (an any-order autoregressive model: Uria, Murray, Larochelle 2014, arXiv 1310.1757). Its last
layer starts at zero, and the best weights by held-out loss are kept, the untrained ones among them: it is never worse
than the base on what is held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from bottega.core.errors import RecipeError
from bottega.core.validate import validate
from bottega.families import base
from bottega.families.base import Batch, Loss
from bottega.families.best import KeepsBest
from bottega.families.copula import Copula

FACTS = ("sizes", "ordered", "missing", "shares", "spikes", "place")
_SETTLED = 8     # validations in a row without a better one, after which training ends
_LEAST = -60.0  # of a logit under the row's highest: e to the power of it is the smallest that fp32 adds up


class TabularConfig(base.Config):
    """Facts of the columns, and the dial.

    Attributes:
        sizes: codes of each column.
        ordered: whether a column's codes are intervals of a number.
        missing: whether a column's last code means missing.
        shares: share of the training rows of every code, column after column.
        spikes: whether a code is a single number; of models from before it was kept, none is.
        place: of sequences: the column whose code 0 marks the first rows, which have a base of their own: nothing goes
            before them, so they spread more widely. None where all rows are alike.
        depth: residual blocks.
        width: of the network; 64 where there are fewer than 2,000 rows to train on.
        drop: share of units left out in training.
        forget: share of visible codes that training hides from the network, which then sees their features only: who
            reads every code knows the rows by heart.
        ema: largest decay of the averaged weights, which are judged and used.
    """

    sizes: list[int] = Field(min_length=1)
    ordered: list[bool]
    missing: list[bool]
    shares: list[float]
    spikes: list[bool] = []
    place: int | None = None
    depth: int = Field(ge=1)
    width: int = Field(ge=8, le=4096)
    drop: float = Field(default=0.1, ge=0, lt=1)
    forget: float = Field(default=0.2, ge=0, lt=1)
    ema: float = Field(default=0.995, ge=0, lt=1)

    # Tables have other facts than texts.
    @staticmethod
    def derive(depth: int, facts: dict[str, Any],  # type: ignore[override]
               overrides: dict[str, Any] | None = None) -> TabularConfig:
        """Fill in a whole configuration; width 128 x depth.

        Raises:
            RecipeError: an unknown key, a bad value, or a fact given as a key.
        """
        overrides = overrides or {}
        for key in FACTS:
            if key in overrides:
                raise RecipeError(f"'{key}' of a tabular model is decided by the table", where="generator",
                                  fix="leave it out; the codec sets it")
        return validate(TabularConfig, {"width": 128 * depth, **overrides, **facts, "depth": depth},
                        where="generator (tabular)")

    def derived(self) -> dict[str, Any]:
        """Return the settings to print."""
        return {"columns": len(self.sizes), "codes": sum(self.sizes), "depth": self.depth, "width": self.width}


class _Block(nn.Module):
    """x + W2 dropout(silu(W1 norm(x)))."""

    def __init__(self, width: int, drop: float) -> None:
        super().__init__()
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(drop)
        self.wide, self.back = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return float [B, width]."""
        found: Tensor = x + self.back(self.drop(functional.silu(self.wide(self.norm(x)))))
        return found


class Residual(nn.Module):
    """What is added to the base's logits.

    Args:
        features: of the base.
        config: width, depth, drop, sizes.
    """

    def __init__(self, features: int, config: TabularConfig) -> None:
        super().__init__()
        self.forget, self.nothing, self.sizes = config.forget, sum(config.sizes), config.sizes
        self.enter = nn.Linear(features + len(config.sizes), config.width)
        self.codes = nn.EmbeddingBag(self.nothing + 1, config.width, mode="sum")  # the last row: no code
        nn.init.normal_(self.codes.weight, std=0.02)
        self.blocks = nn.ModuleList(_Block(config.width, config.drop) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, sum(config.sizes))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def hidden(self, means: Tensor, flat: Tensor, visible: Tensor) -> Tensor:
        """Return float [B, width].

        Args:
            means: features [B, F], hidden ones as the base expects them.
            flat: int64 [B, D], codes counted through all columns.
            visible: bool [D] or [B, D].
        """
        shown = visible.expand_as(flat)
        x = self.enter(torch.cat([means, shown.to(means.dtype)], 1))
        if self.training:
            shown = shown & (torch.rand(flat.shape, device=flat.device) >= self.forget)
        x = x + self.codes(torch.where(shown, flat, self.nothing))
        for block in self.blocks:
            x = block(x)
        found: Tensor = self.norm(x)
        return found

    def logits(self, hidden: Tensor, columns: Sequence[int]) -> Tensor:
        """Return what is added to the codes of some columns, side by side, float32 [B, their codes].

        Args:
            hidden: float32 [B, width].
            columns: places among the columns.
        """
        if type(self.head) is not nn.Linear:  # an adapter's is a Linear too, and works it out in its own way
            parts = torch.split(self.head(hidden), self.sizes, 1)
            return torch.cat([parts[column] for column in columns], 1)
        weights, biases = torch.split(self.head.weight, self.sizes), torch.split(self.head.bias, self.sizes)
        return functional.linear(hidden, torch.cat([weights[column] for column in columns]),
                                 torch.cat([biases[column] for column in columns]))


class Tabular(KeepsBest):
    """The two layers.

    A batch holds `codes` int64 [B, D], `places` float32 [B, D] (where in its interval a value lies), and `visible` bool
    [G, D]: what the first, second … of G equal parts of the rows show. Of sequences, the rows of a part are all first
    rows, or none is.
    """

    family: ClassVar[str] = "tabular"
    Config: ClassVar[type[base.Config]] = TabularConfig
    understands: ClassVar[frozenset[str]] = frozenset({"rows", "seed", "temperature", "conditions", "balance", "fair"})
    trained: ClassVar[str] = "residual"
    config: TabularConfig
    best: Residual
    _starts: Tensor

    def __init__(self, config: TabularConfig) -> None:
        super().__init__(config)
        facts = (config.sizes, config.ordered, config.missing, config.shares, config.spikes)
        self.base = Copula(*facts, alone=config.place is None)
        self.first = None if config.place is None else Copula(*facts, alone=False)
        self.residual = Residual(self.base.features, config)
        self._keep(config.ema)
        self.offsets = [0, *accumulate(config.sizes)]
        self.register_buffer("_starts", torch.tensor(self.offsets[:-1]), persistent=False)

    def base_of(self, codes: Tensor) -> Copula:
        """Return the base of rows of one part, int64 [B, D]."""
        if self.first is None or self.config.place is None:
            return self.base
        return self.first if int(codes[0, self.config.place]) == 0 else self.base

    @torch.no_grad()
    def fit_base(self, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Fit the base, or both, to rows given as (codes, places) batches."""
        if self.first is None:
            self.base.fit(batches)
            return
        first = [codes[:, self.config.place] == 0 for codes, _ in batches]
        self.first.fit([(codes[one], places[one]) for (codes, places), one in zip(batches, first, strict=True)])
        later = [(codes[~one], places[~one]) for (codes, places), one in zip(batches, first, strict=True)]
        self.base.fit(later if any(len(codes) for codes, _ in later) else batches)

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Return the cross-entropy of the hidden columns, as nats a row: the mean hidden one times all columns."""
        network = cast(Residual, self.residual if self.training else self.average.shadow)
        codes, places, visible = batch["codes"], batch["places"], batch["visible"]
        features = self.base.encode(codes, places)
        rows, means, spreads = codes.size(0) // visible.size(0), torch.empty_like(features), []
        spans = [slice(first, first + rows) for first in range(0, codes.size(0), rows)]
        with torch.no_grad():
            for span, shown in zip(spans, visible, strict=True):
                means[span], spread = self.base_of(codes[span]).conditional(features[span], shown)
                spreads.append(spread)
        hidden = network.hidden(means, codes + self._starts, visible.repeat_interleave(rows, 0))
        total = hidden.new_zeros(())
        for span, shown, spread in zip(spans, visible, spreads, strict=True):
            columns = (~shown).nonzero()[:, 0].tolist()  # what is seen is not scored: half of the last layer's work
            with torch.no_grad():
                base = self.base_of(codes[span])
                known = torch.cat([base.column_logits(column, means[span], spread) for column in columns], 1)
            logits = known + network.logits(hidden[span], columns)
            total = total + self.nats(logits, codes[span], columns).sum() * codes.size(1) / len(columns)
        return Loss(total=total, weight=torch.tensor(float(codes.size(0)), device=codes.device))

    def nats(self, logits: Tensor, codes: Tensor, columns: Sequence[int]) -> Tensor:
        """Return -log p of the codes of some columns, float32 [B, C].

        Args:
            logits: float32, of all codes of each of these columns, side by side.
            codes: int64 [B, D].
            columns: places among the D.
        """
        sizes = [self.config.sizes[column] for column in columns]
        owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(logits.device)
        starts = torch.tensor([0, *accumulate(sizes)][:-1], device=logits.device)
        shifted = (logits - logits.detach().amax(1, keepdim=True)).clamp_min(_LEAST)
        whole: Tensor = (shifted.exp() @ functional.one_hot(owner, len(sizes)).to(logits.dtype)).log()
        return whole - shifted.gather(1, codes[:, columns] + starts)

    @property
    def settled(self) -> bool:
        """Whether many held-out losses in a row brought nothing better."""
        return int(self.misses) >= _SETTLED

    def flops_per_item(self, context: int) -> float:
        """Return operations of a forward pass for one row."""
        width, total = self.config.width, sum(self.config.sizes)
        return 2.0 * (self.base.features * width + self.config.depth * 2 * width**2 + width * total)
