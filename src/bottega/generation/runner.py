"""One model as the decode loop sees it: read prompts, then one token a sequence and step. Rows may differ in length.

`GeneratorRunner` drives any `TokenGenerator`; the transformer has a faster one in fast.py.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from bottega.core.errors import InputError, suggest
from bottega.families.base import Cache, TokenGenerator
from bottega.families.transformer import Transformer
from bottega.generation.fast import FastTransformer
from bottega.generation.linear import DTYPES, supports_fp16


class Runner(Protocol):
    """What the decode loop asks of a model. Logits are fp32 on the CPU."""

    dtype: str

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """Return an empty cache."""

    def prefill(self, prompts: list[list[int]], cache: Cache) -> Tensor:
        """Read whole prompts into an empty cache and return the logits [B, V] after the last token of each."""

    def step(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Read one more token a row, int64 [B], and return the logits [B, V] after it."""

    def all_logits(self, tokens: list[int]) -> Tensor:
        """Return the logits [T, V] after each token of one sequence."""


class GeneratorRunner:
    """Any generator of tokens, by its own cached forward pass in its own precision."""

    def __init__(self, generator: TokenGenerator) -> None:
        self._generator = generator
        self._device = generator.head_weight.device
        name = str(generator.head_weight.dtype).removeprefix("torch.")
        self.dtype = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}.get(name, name)

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """Return an empty cache."""
        return self._generator.new_cache(batch, capacity)

    @torch.inference_mode()
    def prefill(self, prompts: list[list[int]], cache: Cache) -> Tensor:
        """See `Runner.prefill`; prompts are padded on the right."""
        sizes = torch.tensor([len(prompt) for prompt in prompts])
        padded = torch.zeros(len(prompts), int(sizes.max()), dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            padded[row, :len(prompt)] = torch.tensor(prompt)
        even = bool((sizes == sizes[0]).all())
        counts = None if even else sizes.to(self._device)
        hidden = self._generator.hidden(padded.to(self._device), cache=cache, counts=counts)
        last = hidden[torch.arange(len(prompts), device=self._device), sizes.to(self._device) - 1]
        logits: Tensor = self._generator.head(last)
        return logits.float().cpu()

    @torch.inference_mode()
    def step(self, tokens: Tensor, cache: Cache) -> Tensor:
        """See `Runner.step`."""
        logits: Tensor = self._generator(tokens.to(self._device).unsqueeze(1), cache=cache)
        return logits[:, 0].float().cpu()

    @torch.inference_mode()
    def all_logits(self, tokens: list[int]) -> Tensor:
        """See `Runner.all_logits`."""
        logits: Tensor = self._generator(torch.tensor([tokens], device=self._device))
        return logits[0].float().cpu()


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
        return FastTransformer(generator, dtype)
    if dtype in ("fp16", "int8"):
        raise InputError(f"dtype {dtype} is for transformers on a CPU", fix="use dtype=auto")
    return GeneratorRunner(generator)
