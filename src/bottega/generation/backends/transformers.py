"""Models of text that are not native, run by the transformers library: GPT-2, GPT-NeoX, Phi and whatever else it knows.

`bottega import FOLDER` chooses this back-end where the native transformer lacks a part. Requests, controls and steps
are the same; each output keeps a cache of its own and steps by itself, so many at once gain no speed over one.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from bottega.core.errors import BottegaError, CorruptError, InputError, MissingExtraError
from bottega.families.base import Cache, TokenGenerator

if TYPE_CHECKING:
    from bottega.generation.runner import Reading, Rows

_CONTEXTS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length")
_USUAL = 2048  # context where the configuration names none
_CACHES = ("cache", "past_key_values")  # the name of a model's cache: of transformers from 5.20 on, and before


def context_of(config: Any) -> int:
    """Return how many tokens a model reads, by its configuration."""
    found = (getattr(config, name, None) for name in _CONTEXTS)
    return next((value for value in found if isinstance(value, int) and value > 0), _USUAL)


class PretrainedGenerator(TokenGenerator):
    """A causal language model of transformers.

    Args:
        model: an `AutoModelForCausalLM`.

    Raises:
        InputError: it has no output matrix.
    """

    family = "transformers"

    def __init__(self, model: Any) -> None:
        super().__init__(SimpleNamespace(context=context_of(model.config.get_text_config())))
        if model.get_output_embeddings() is None:
            raise InputError(f"{type(model).__name__} makes no text token by token",
                             fix="import a causal language model")
        self.model = model
        known = inspect.signature(model.forward).parameters
        self.cache_name = next((name for name in _CACHES if name in known), "")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder: safetensors weights only, no code of others, nothing fetched.

        Raises:
            MissingExtraError: transformers is not installed.
            InputError: it has no such architecture, or needs code of others.
            CorruptError: the weights do not fit the configuration.
        """
        try:
            import transformers
        except ImportError as error:
            raise MissingExtraError("hub", "a model that is not native") from error
        settings: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
        try:
            config = transformers.AutoConfig.from_pretrained(folder, **settings)
            model, report = transformers.AutoModelForCausalLM.from_pretrained(
                folder, config=config, use_safetensors=True, output_loading_info=True, **settings,
                dtype=None if torch.cuda.is_available() else torch.float32)
        except BottegaError:
            raise
        except Exception as error:  # many kinds, depending on the model
            raise InputError(f"transformers cannot load this model: {str(error)[:300]}", where=str(folder),
                             fix="use a model of an architecture that transformers has itself, with .safetensors "
                             "weights") from error
        if report["missing_keys"] or report["mismatched_keys"]:
            names = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
            raise CorruptError(f"the weights lack '{names[0]}'", where=str(folder), fix="get the whole folder")
        return cls(model).eval()

    @property
    def head_weight(self) -> Tensor:
        """The output matrix [vocab, width]; some models add a bias to it or bound the logits: see `forward`."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight

    def hidden(self, tokens: Tensor, *, positions: Tensor | None = None, segments: Tensor | None = None,
               cache: Cache | None = None, counts: Tensor | None = None) -> Tensor:
        """Return the last hidden states [B, T, width].

        Raises:
            InputError: anything but tokens is given: this model is not trained here.
        """
        if any(part is not None for part in (positions, segments, cache, counts)):
            raise InputError("a model of the transformers back-end reads one text a row", fix="use a native model")
        states: Tensor = self.model(tokens, output_hidden_states=True, use_cache=False).hidden_states[-1]
        return states

    def forward(self, tokens: Tensor, **more: Any) -> Tensor:
        """Return logits [B, T, vocab] of tokens int64 [B, T], as the model itself makes them."""
        if any(value is not None for value in more.values()):
            return self.head(self.hidden(tokens, **more))
        logits: Tensor = self.model(tokens, use_cache=False).logits
        return logits


class _Text:
    """A text on its way through the model: its tokens, and the model's cache of them where it has one."""

    def __init__(self, generator: PretrainedGenerator) -> None:
        self._generator = generator
        self._cache: Any = None
        self._tokens: list[int] = []

    def fork(self) -> _Text:
        """Return an independent copy."""
        other = _Text(self._generator)
        other._cache, other._tokens = copy.deepcopy(self._cache), list(self._tokens)
        return other

    @torch.inference_mode()
    def read(self, tokens: list[int]) -> Tensor:
        """Read more tokens and return the logits [V] after the last."""
        generator, name = self._generator, self._generator.cache_name
        self._tokens += tokens
        device = generator.head_weight.device
        if not name:  # a model without a cache reads all of it again
            whole: Tensor = generator(torch.tensor([self._tokens], device=device))[0, -1]
            return whole.float().cpu()
        before = {} if self._cache is None else {name: self._cache}
        out = generator.model(torch.tensor([tokens], device=device), use_cache=True, **before)
        self._cache = getattr(out, name)
        last: Tensor = out.logits[0, -1].float().cpu()
        return last


class _Reading:
    """See `runner.Reading`."""

    def __init__(self, generator: PretrainedGenerator, prompt: list[int]) -> None:
        self._prompt, self.remaining = prompt, len(prompt)
        self.text, self.logits = _Text(generator), torch.empty(0)

    def advance(self) -> None:
        """Read all of it: models with a state other than keys and values take a text in one piece."""
        self.logits, self.remaining = self.text.read(self._prompt), 0


class _Rows:
    """See `runner.Rows`."""

    def __init__(self) -> None:
        self._texts: list[_Text] = []

    def add(self, reading: Reading, copies: int, room: int) -> Tensor:
        assert isinstance(reading, _Reading)
        self._texts += [reading.text.fork() for _ in range(copies)]
        return reading.logits

    def step(self, tokens: Tensor) -> Tensor:
        return torch.stack([text.read([token]) for text, token in zip(self._texts, tokens.tolist(), strict=True)])

    def keep(self, rows: list[int]) -> None:
        self._texts = [self._texts[row] for row in rows]


class PretrainedRunner:
    """A `Runner` of one model of transformers."""

    def __init__(self, generator: PretrainedGenerator) -> None:
        self._generator = generator
        name = str(generator.head_weight.dtype).removeprefix("torch.")
        self.dtype = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}.get(name, name)

    def read(self, prompt: list[int]) -> Reading:
        """See `Runner.read`."""
        return _Reading(self._generator, prompt)

    def advance(self, readings: Sequence[Reading]) -> None:
        """See `Runner.advance`."""
        for reading in readings:
            assert isinstance(reading, _Reading)
            reading.advance()

    def rows(self) -> Rows:
        """See `Runner.rows`."""
        return _Rows()

    @torch.inference_mode()
    def all_logits(self, tokens: list[int]) -> Tensor:
        """See `Runner.all_logits`."""
        logits: Tensor = self._generator(torch.tensor([tokens], device=self._generator.head_weight.device))
        return logits[0].float().cpu()

    @torch.inference_mode()
    def pooled(self, tokens: list[int]) -> Tensor:
        """See `Runner.pooled`."""
        hidden = self._generator.hidden(torch.tensor([tokens], device=self._generator.head_weight.device))
        return hidden[0].float().mean(0).cpu()
