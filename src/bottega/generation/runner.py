"""One model as the decode loop sees it: prompts are read piece by piece, rows of many requests step together.

`GeneratorRunner` drives any `TokenGenerator`; the transformer has a faster one in fast.py. Both keep these names:
a `Reading` is one prompt on its way into the model, `Rows` are the sequences under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from bottega.core.errors import InputError, suggest
from bottega.families.base import Cache, TokenGenerator
from bottega.families.transformer import Transformer
from bottega.generation.adapted import shared_runner
from bottega.generation.linear import DTYPES, supports_fp16

PIECE = 256  # tokens of a prompt read at once; fixed, so that a prompt gives the same bits whatever else is going on


class Reading(Protocol):
    """A prompt being read. `remaining` tokens are still to come."""

    remaining: int


class Rows(Protocol):
    """Sequences under way, in the order they were added."""

    def add(self, reading: Reading, copies: int, room: int) -> Tensor:
        """Append `copies` rows that go on from a finished reading, each with room for `room` more tokens.

        Returns:
            fp32 logits [V] after the prompt's last token.
        """

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token a row, int64 [B], and return the fp32 logits [B, V] after it, on the CPU."""

    def keep(self, rows: list[int]) -> None:
        """Forget all rows but these, given in ascending order."""


class Runner(Protocol):
    """What the engine asks of a model."""

    dtype: str

    def read(self, prompt: list[int]) -> Reading:
        """Begin to read a prompt."""

    def advance(self, readings: Sequence[Reading]) -> None:
        """Read the next piece of unfinished readings, together where that is faster."""

    def rows(self) -> Rows:
        """Return an empty set of rows."""

    def all_logits(self, tokens: list[int]) -> Tensor:
        """Return the logits [T, V] after each token of one sequence."""

    def pooled(self, tokens: list[int]) -> Tensor:
        """Return the mean [width] of the final hidden states of one sequence."""


class _GeneratorReading:
    """See `Reading`; the cache is one row."""

    def __init__(self, generator: TokenGenerator, prompt: list[int]) -> None:
        self._generator, self._prompt, self.remaining = generator, prompt, len(prompt)
        self.cache = generator.new_cache(1, len(prompt))
        self.hidden = torch.empty(0)

    @torch.inference_mode()
    def advance(self) -> None:
        """Read the next piece."""
        start = len(self._prompt) - self.remaining
        piece = torch.tensor([self._prompt[start:start + PIECE]], device=self._generator.head_weight.device)
        self.hidden = self._generator.hidden(piece, cache=self.cache)
        self.remaining -= piece.shape[1]


class _GeneratorRows:
    """See `Rows`; one cache holds all rows and is rebuilt when rows come or go."""

    def __init__(self, generator: TokenGenerator) -> None:
        self._generator, self._device = generator, generator.head_weight.device
        self._cache: Cache | None = None

    @torch.inference_mode()
    def add(self, reading: Reading, copies: int, room: int) -> Tensor:
        assert isinstance(reading, _GeneratorReading)
        capacity = int(reading.cache.lengths[0]) + room
        fresh = reading.cache.select(torch.zeros(copies, dtype=torch.int64, device=self._device))
        self._cache = fresh.join(None, capacity) if self._cache is None else self._cache.join(fresh, capacity)
        logits: Tensor = self._generator.head(reading.hidden[0, -1])
        return logits.float().cpu()

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self._generator(tokens.to(self._device).unsqueeze(1), cache=self._cache)
        return logits[:, 0].float().cpu()

    @torch.inference_mode()
    def keep(self, rows: list[int]) -> None:
        assert self._cache is not None
        self._cache = self._cache.select(torch.tensor(rows, device=self._device)) if rows else None


class GeneratorRunner:
    """Any generator of tokens, by its own cached forward pass in its own precision."""

    def __init__(self, generator: TokenGenerator) -> None:
        self._generator = generator
        self._device = generator.head_weight.device
        name = str(generator.head_weight.dtype).removeprefix("torch.")
        self.dtype = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}.get(name, name)

    def read(self, prompt: list[int]) -> Reading:
        """See `Runner.read`."""
        return _GeneratorReading(self._generator, prompt)

    def advance(self, readings: Sequence[Reading]) -> None:
        """See `Runner.advance`."""
        for reading in readings:
            assert isinstance(reading, _GeneratorReading)
            reading.advance()

    def rows(self) -> Rows:
        """See `Runner.rows`."""
        return _GeneratorRows(self._generator)

    @torch.inference_mode()
    def all_logits(self, tokens: list[int]) -> Tensor:
        """See `Runner.all_logits`."""
        logits: Tensor = self._generator(torch.tensor([tokens], device=self._device))
        return logits[0].float().cpu()

    @torch.inference_mode()
    def pooled(self, tokens: list[int]) -> Tensor:
        """See `Runner.pooled`."""
        hidden: Tensor = self._generator.hidden(torch.tensor([tokens], device=self._device))
        return hidden[0].float().mean(0).cpu()


def make_runner(generator: TokenGenerator, dtype: str = "auto") -> Runner:
    """Return the fastest runner of a generator.

    Args:
        generator: the model.
        dtype: `auto`: fp16 weights where the processor multiplies them (rows are then independent of their batch bit
            for bit), else the generator's own; `fp32`, `fp16`, `int8`: as it says, for the transformer on a CPU.

    Raises:
        InputError: there is no such dtype, or not for this model or machine.
    """
    if dtype != "auto" and dtype not in DTYPES:
        raise InputError(f"unknown dtype '{dtype}'", fix=suggest(dtype, ("auto", *DTYPES)))
    on_cpu = generator.head_weight.device.type == "cpu"
    if isinstance(generator, Transformer) and on_cpu:
        if dtype == "auto":
            dtype = "fp16" if supports_fp16() else "fp32"
        if dtype == "fp16" and not supports_fp16():
            raise InputError("this processor has no half-precision product in torch", fix="use fp32 or int8")
        return shared_runner(generator, dtype, PIECE)
    if dtype in ("fp16", "int8"):
        raise InputError(f"dtype {dtype} is for transformers on a CPU", fix="use dtype=auto")
    return GeneratorRunner(generator)
