"""Recurrent language models: `family: recurrent` with `cell: gru` or `cell: mingru` in a recipe trains one.

The residual blocks of the transformer with a recurrent cell where attention was. The state has one size however long
the text: a token costs the same at position 10 and at position 100,000. minGRU's gates look at the input alone, so
training runs it as a parallel scan (Feng et al. 2024, "Were RNNs All We Needed?", arXiv 2410.01201).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from bottega.core.errors import CorruptError, InputError
from bottega.core.validate import validate
from bottega.families import base
from bottega.families.blocks import RMSNorm, SwiGLU, document_starts, init_matrix
from bottega.families.config import mlp_width, pick, refuse_foreign
from bottega.families.scans import gru_scan, linear_scan
from bottega.families.weights import read_config, read_weights, write_model

MODEL_TYPE = "bottega-recurrent"
_HEAD = frozenset({"lm_head.weight"})


class RecurrentConfig(base.Config):
    """Shape of a recurrent model.

    Attributes:
        vocab_size, context: from codec and training.
        depth: layers.
        cell: `mingru` (parallel in training) or `gru` (step by step, more expressive a layer).
        width: residual stream; 64 x depth.
        state: numbers a layer remembers; width for gru, 2 x width for mingru, so that both weigh about the same.
        intermediate: inner width of the MLP; 8/3 width, rounded up to a multiple of 64.
        norm_eps: added under the root of RMSNorm.
        tied: the output matrix is the embedding.
        special: id by name of reserved tokens (bos, eos, pad, end).
    """

    vocab_size: int = Field(ge=1)
    context: int = Field(ge=1)
    depth: int = Field(ge=1)
    cell: Literal["gru", "mingru"] = "mingru"
    width: int = Field(ge=2)
    state: int = Field(ge=1)
    intermediate: int = Field(ge=1)
    norm_eps: float = Field(default=1e-6, gt=0, lt=1)
    tied: bool = True
    special: dict[str, int] = {}

    @staticmethod
    def derive(depth: int, vocab_size: int, context: int, overrides: dict[str, Any] | None = None,
               special: dict[str, int] | None = None) -> RecurrentConfig:
        """Fill in a whole configuration from `depth`; what derives from an overridden value follows it.

        Raises:
            RecipeError: an unknown key (with the nearest right one), a bad value, or a key that belongs elsewhere.
        """
        overrides = overrides or {}
        refuse_foreign(overrides, "recurrent model")
        width = pick(overrides, "width", 64 * depth)
        values = {
            "vocab_size": vocab_size, "context": context, "depth": depth, "width": width,
            "state": width if overrides.get("cell") == "gru" else 2 * width, "intermediate": mlp_width(width),
            "special": special or {},
        }
        return validate(RecurrentConfig, {**values, **overrides}, where="generator")

    def derived(self) -> dict[str, Any]:
        """Return the settings to print, with the number of parameters."""
        return {**self.model_dump(exclude={"special"}), "parameters": self.parameters()}

    def parameters(self) -> int:
        """Return the number of weights; a tied output matrix counts once."""
        vectors = self.depth * (2 * self.width + self.state) + self.width
        embedding = self.vocab_size * self.width
        return self.matrix_parameters() + vectors + embedding * (1 if self.tied else 2)

    def matrix_parameters(self) -> int:
        """Return the number of weights in the layers' matrices."""
        inputs, inner = (3, 3 * self.state * self.state) if self.cell == "gru" else (2, 0)
        cell = (inputs + 1) * self.width * self.state + inner
        return self.depth * (cell + 3 * self.width * self.intermediate)


class StateCache:
    """States of sequences under way, of one size at any length; a token once read cannot be taken back.

    Attributes:
        states: fp32, one [B, state] a layer.
        capacity: what was asked for; a recurrent model has no limit.
        lengths: int64 [B], tokens read by each row.
    """

    def __init__(self, states: list[Tensor], capacity: int, lengths: Tensor) -> None:
        self.states, self.capacity, self.lengths = states, capacity, lengths

    def select(self, rows: Tensor) -> StateCache:
        """Return a cache of the given rows (int64 [R], repeats allowed)."""
        return StateCache([state[rows] for state in self.states], self.capacity, self.lengths[rows])

    def join(self, other: StateCache | None, capacity: int) -> StateCache:
        """Return a cache of these rows and then another's."""
        caches = [self] if other is None else [self, other]
        states = [torch.cat(layer) for layer in zip(*(cache.states for cache in caches), strict=True)]
        return StateCache(states, max(capacity, self.capacity), torch.cat([cache.lengths for cache in caches]))


class Cell(nn.Module):
    """Input projections, recurrence, output projection: [B, T, width] to [B, T, width]."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.kind, self.state = config.cell, config.state
        gates = 3 if config.cell == "gru" else 2
        self.in_proj = nn.Linear(config.width, gates * config.state, bias=False)
        self.update_bias = nn.Parameter(torch.zeros(config.state))
        if config.cell == "gru":
            self.state_proj = nn.Linear(config.state, 3 * config.state, bias=False)
        self.out_proj = nn.Linear(config.state, config.width, bias=False)

    def forward(self, x: Tensor, state: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return outputs [B, T, width] and all states fp32 [B, T, state].

        Args:
            x: [B, T, width].
            state: fp32 [B, state] before the first token.
            keep: fp32 [B, T], 0 at a token that starts a document; None: none does.
        """
        gates = self.in_proj(x)
        bias = self.update_bias
        if self.kind == "gru":
            shift = torch.cat((torch.zeros_like(bias), bias, torch.zeros_like(bias)))
            states = gru_scan(gates + shift.to(gates.dtype), self.state_proj.weight, state, keep)
        else:
            remember, new = gates.float().chunk(2, dim=-1)
            decay = torch.sigmoid(remember + bias)  # 1 - z of the paper, eq. in §3.1
            drive = (1 - decay) * new
            states = linear_scan(decay if keep is None else decay * keep.unsqueeze(2), drive, state)
        return self.out_proj(states.to(gates.dtype)), states


class Layer(nn.Module):
    """One block: x + cell(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.cell_norm = RMSNorm(config.width, config.norm_eps)
        self.cell = Cell(config)
        self.mlp_norm = RMSNorm(config.width, config.norm_eps)
        self.mlp = SwiGLU(config.width, config.intermediate)

    def forward(self, x: Tensor, state: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return [B, T, width] and all states fp32 [B, T, state]."""
        mixed, states = self.cell(self.cell_norm(x), state, keep)
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), states


class Recurrent(base.TokenGenerator):
    """A stack of recurrent blocks."""

    family = "recurrent"
    Config = RecurrentConfig
    config: RecurrentConfig

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.lm_head = nn.Linear(config.width, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.embed_tokens.weight
        self.reset()

    def reset(self) -> None:
        """Draw fresh weights from torch's global generator (see `init_matrix`).

        The bias of the update gate is log(τ - 1) for times τ spread evenly on a log scale from 2 to the context, so
        that units forget at all these speeds (chrono initialisation, Tallec & Ollivier 2018, arXiv 1804.11188, eq. 16).
        """
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        if not self.config.tied:
            nn.init.normal_(self.lm_head.weight, std=0.02)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            for linear in (layer.cell.in_proj, layer.mlp.gate_proj, layer.mlp.up_proj):
                init_matrix(linear.weight)
            if self.config.cell == "gru":
                init_matrix(layer.cell.state_proj.weight)
            times = torch.logspace(1, math.log2(max(2, self.config.context)), self.config.state, base=2.0)
            with torch.no_grad():
                layer.cell.update_bias.copy_((times - 1).log())
            nn.init.zeros_(layer.cell.out_proj.weight)
            nn.init.zeros_(layer.mlp.down_proj.weight)

    @property
    def head_weight(self) -> Tensor:
        """The output matrix [vocab, width]."""
        return self.lm_head.weight

    def hidden(self, tokens: Tensor, *, positions: Tensor | None = None, segments: Tensor | None = None,
               cache: base.Cache | None = None, counts: Tensor | None = None) -> Tensor:
        """Return the final normalised hidden states [B, T, width]; see `TokenGenerator.hidden`.

        Order is all a recurrent model knows of place: `positions` is accepted and not used.

        Raises:
            InputError: a cache is used together with segments.
        """
        keep: Tensor | None = None
        if segments is not None:
            if cache is not None:
                raise InputError("a cache cannot be used with segments", fix="give one of the two")
            keep = (~document_starts(segments)).float()
        assert cache is None or isinstance(cache, StateCache)
        x: Tensor = self.embed_tokens(tokens)
        empty = torch.zeros(tokens.shape[0], self.config.state, device=tokens.device) if cache is None else None
        for index, layer in enumerate(self.layers):
            x, states = layer(x, empty if cache is None else cache.states[index], keep)
            if cache is not None:
                cache.states[index] = _last(states, cache.states[index], counts)
        if cache is not None:
            cache.lengths += tokens.shape[1] if counts is None else counts
        out: Tensor = self.norm(x)
        return out

    def new_cache(self, batch: int, capacity: int) -> StateCache:
        """Return an empty cache for `batch` sequences."""
        device = self.head_weight.device
        states = [torch.zeros(batch, self.config.state, device=device) for _ in range(self.config.depth)]
        return StateCache(states, capacity, torch.zeros(batch, dtype=torch.int64, device=device))

    def flops_per_item(self, context: int) -> float:
        """Return forward FLOPs a token, 2 for each weight of a matrix (head included), the same at any context."""
        return 2.0 * (self.config.matrix_parameters() + self.config.vocab_size * self.config.width)

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        config = {"model_type": MODEL_TYPE, "architectures": ["Recurrent"], **self.config.model_dump()}
        write_model(folder, self, config, skip=_HEAD if self.config.tied else frozenset())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; fp32, evaluation mode.

        Raises:
            InputError: a file is not there, or the folder holds another architecture.
            CorruptError: configuration or weights are damaged.
        """
        data = read_config(folder)
        if data.pop("model_type", None) != MODEL_TYPE:
            raise InputError(f"{folder} does not hold a recurrent model", fix="load it with its own family")
        data.pop("architectures", None)
        model = cls(validate(RecurrentConfig, data, where=str(folder), error=CorruptError))
        read_weights(folder, model, skip=_HEAD if model.config.tied else frozenset())
        return model.eval()


def _last(states: Tensor, old: Tensor, counts: Tensor | None) -> Tensor:
    """Return each row's state after its last real token, [B, state]; a row without one keeps the old state."""
    if counts is None:
        return states[:, -1]
    rows = torch.arange(states.shape[0], device=states.device)
    return torch.where(counts.unsqueeze(1) > 0, states[rows, (counts - 1).clamp_min(0)], old)
