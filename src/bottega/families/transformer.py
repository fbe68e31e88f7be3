"""The transformer language model, shaped and named as Qwen3. `bottega train recipes/python-lm.yaml depth=4` trains one.

RMSNorm before each part, rotary positions, grouped-query attention with per-head query/key norm, SwiGLU, no biases,
tied embeddings. `save` writes a folder that transformers, vLLM and the GGUF writers read as Qwen3ForCausalLM (as
LlamaForCausalLM when `qk_norm` is off).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from bottega.core.errors import CorruptError, InputError
from bottega.core.files import write_json
from bottega.core.validate import validate
from bottega.families import base
from bottega.families.attention import attend
from bottega.families.blocks import (
    RMSNorm,
    SwiGLU,
    document_mask,
    document_positions,
    init_matrix,
    rotary_tables,
    rotate,
)
from bottega.families.cache import KeyValueCache, Span
from bottega.families.config import mlp_width, pick, refuse_foreign
from bottega.families.weights import read_config, read_weights, write_model

_HEAD = frozenset({"lm_head.weight"})


class TransformerConfig(base.Config):
    """Shape of a transformer.

    Attributes:
        vocab_size, context: from codec and training.
        depth: layers.
        width: residual stream; 64 x depth.
        head_dim: 64.
        heads: query heads; width / head_dim.
        kv_heads: key/value heads, a divisor of `heads`; half of them when even.
        intermediate: inner width of the MLP; 8/3 width, rounded up to a multiple of 64.
        rope_theta: base of the rotary angles; 10,000, or 1,000,000 for contexts over 4096.
        norm_eps: added under the root of RMSNorm.
        qk_norm: RMSNorm on each query and key head (Qwen3); off makes a Llama.
        tied: the output matrix is the embedding.
        special: id by name of reserved tokens (bos, eos, pad, end).
    """

    vocab_size: int = Field(ge=1)
    context: int = Field(ge=1)
    depth: int = Field(ge=1)
    width: int = Field(ge=2)
    head_dim: int = Field(ge=2, multiple_of=2)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    intermediate: int = Field(ge=1)
    rope_theta: float = Field(default=10_000.0, gt=1)
    norm_eps: float = Field(default=1e-6, gt=0, lt=1)
    qk_norm: bool = True
    tied: bool = True
    special: dict[str, int] = {}

    @field_validator("kv_heads")
    @classmethod
    def _divides(cls, value: int, info: ValidationInfo) -> int:
        heads = info.data.get("heads", value)
        if heads % value:
            raise ValueError(f"give a divisor of heads ({heads})")
        return value

    @staticmethod
    def derive(depth: int, vocab_size: int, context: int, overrides: dict[str, Any] | None = None,
               special: dict[str, int] | None = None) -> TransformerConfig:
        """Fill in a whole configuration from `depth`; what derives from an overridden value follows it.

        Raises:
            RecipeError: an unknown key (with the nearest right one), a bad value, or a key that belongs elsewhere.
        """
        overrides = overrides or {}
        refuse_foreign(overrides, "transformer")
        width = pick(overrides, "width", 64 * depth)
        head_dim = pick(overrides, "head_dim", 64)
        heads = pick(overrides, "heads", max(1, width // head_dim))
        values = {
            "vocab_size": vocab_size, "context": context, "depth": depth, "width": width, "head_dim": head_dim,
            "heads": heads, "kv_heads": heads // 2 if heads % 2 == 0 else heads,
            "intermediate": mlp_width(width), "rope_theta": 10_000.0 if context <= 4096 else 1_000_000.0,
            "special": special or {},
        }
        return validate(TransformerConfig, {**values, **overrides}, where="generator")

    def derived(self) -> dict[str, Any]:
        """Return the settings to print, with the number of parameters."""
        return {**self.model_dump(exclude={"special"}), "parameters": self.parameters()}

    def parameters(self) -> int:
        """Return the number of weights; a tied output matrix counts once."""
        norms = self.depth * (2 * self.width + 2 * self.head_dim * self.qk_norm) + self.width
        embedding = self.vocab_size * self.width
        return self.matrix_parameters() + norms + embedding * (1 if self.tied else 2)

    def matrix_parameters(self) -> int:
        """Return the number of weights in the layers' matrices."""
        attention = self.width * self.head_dim * 2 * (self.heads + self.kv_heads)
        return self.depth * (attention + 3 * self.width * self.intermediate)


class Attention(nn.Module):
    """Grouped-query attention, Ainslie et al. 2023, arXiv 2305.13245."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.q_proj = nn.Linear(config.width, config.heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.width, config.kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.width, config.kv_heads * config.head_dim, bias=False)
        self.o_proj = nn.Linear(config.heads * config.head_dim, config.width, bias=False)
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.norm_eps)
        self.qk_norm = config.qk_norm

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, span: Span | None,
                layer: int) -> Tensor:
        """Mix [B, T, width] over time."""
        batch, length, _ = x.shape
        q = self.q_proj(x).view(batch, length, self.heads, self.head_dim)
        k = self.k_proj(x).view(batch, length, self.kv_heads, self.head_dim)
        v = self.v_proj(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin).transpose(1, 2)
        causal = True
        if span is not None:
            k, v = span.write(layer, k, v)
            mask, causal = span.mask, span.causal
        out: Tensor = self.o_proj(attend(q, k, v, mask, causal=causal))
        return out


class Layer(nn.Module):
    """One block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = SwiGLU(config.width, config.intermediate)
        self.input_layernorm = RMSNorm(config.width, config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, span: Span | None,
                layer: int) -> Tensor:
        """Map [B, T, width] to [B, T, width]."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask, span, layer)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Decoder(nn.Module):
    """Embedding, layers, last norm; a module of its own so that weights carry Hugging Face's names."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.norm = RMSNorm(config.width, config.norm_eps)


class Transformer(base.TokenGenerator):
    """Decoder-only transformer in the Qwen3 layout."""

    family = "transformer"
    Config = TransformerConfig
    config: TransformerConfig

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.width, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.reset()

    def reset(self) -> None:
        """Draw fresh weights from torch's global generator (see `init_matrix`)."""
        nn.init.normal_(self.model.embed_tokens.weight, std=0.02)
        if not self.config.tied:
            nn.init.normal_(self.lm_head.weight, std=0.02)
        for layer in self.model.layers:
            assert isinstance(layer, Layer)
            attention, mlp = layer.self_attn, layer.mlp
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
                init_matrix(linear.weight)
            nn.init.zeros_(attention.o_proj.weight)
            nn.init.zeros_(mlp.down_proj.weight)

    @property
    def head_weight(self) -> Tensor:
        """The output matrix [vocab, width]."""
        return self.lm_head.weight

    def hidden(self, tokens: Tensor, *, positions: Tensor | None = None, segments: Tensor | None = None,
               cache: base.Cache | None = None, counts: Tensor | None = None) -> Tensor:
        """Return the final normalised hidden states [B, T, width]; see `TokenGenerator.hidden`.

        Raises:
            InputError: the cache has no room, or is used together with segments.
        """
        span: Span | None = None
        mask: Tensor | None = None
        if cache is not None:
            if segments is not None:
                raise InputError("a cache cannot be used with segments", fix="give one of the two")
            assert isinstance(cache, KeyValueCache)
            span = cache.plan(tokens.shape[1], counts)
            positions = span.positions if positions is None else positions
        elif segments is not None:
            mask = document_mask(segments)
            positions = document_positions(segments) if positions is None else positions
        elif positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)
        assert positions is not None
        cos, sin = rotary_tables(positions, self.config.head_dim, self.config.rope_theta)
        x: Tensor = self.model.embed_tokens(tokens)
        for index, layer in enumerate(self.model.layers):
            x = layer(x, cos, sin, mask, span, index)
        if span is not None:
            span.finish()
        out: Tensor = self.model.norm(x)
        return out

    def new_cache(self, batch: int, capacity: int) -> KeyValueCache:
        """Return an empty cache for `batch` sequences of at most `capacity` tokens, in the weights' dtype."""
        weight = self.head_weight
        return KeyValueCache.empty(self.config.depth, batch, self.config.kv_heads, capacity, self.config.head_dim,
                                   dtype=weight.dtype, device=weight.device)

    def flops_per_item(self, context: int) -> float:
        """Return forward FLOPs a token: 2 for each weight of a matrix (head included), and attention.

        Attention multiplies each query with the keys before it and each probability with a value: 4 · heads · head_dim
        a key and layer, over (context + 1) / 2 keys on average. Training costs three times this (Kaplan et al. 2020,
        arXiv 2001.08361, §2.1).
        """
        config = self.config
        matrices = config.matrix_parameters() + config.vocab_size * config.width
        attention = 4 * config.depth * config.heads * config.head_dim * (context + 1) / 2
        return 2.0 * matrices + attention

    def save(self, folder: Path) -> None:
        """Write config.json, generation_config.json and model.safetensors in Hugging Face's form."""
        write_model(folder, self, hf_config(self.config, str(self.head_weight.dtype).removeprefix("torch.")),
                    skip=_HEAD if self.config.tied else frozenset())
        write_json(folder / "generation_config.json", {**_token_ids(self.config.special), "do_sample": True})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder written by `save`, or a Qwen3 or Llama folder in one file; fp32, evaluation mode.

        Raises:
            InputError: a file is not there, or the folder holds another architecture.
            CorruptError: the weights do not fit the configuration.
        """
        config = config_from_hf(read_config(folder), str(folder))
        model = cls(config)
        read_weights(folder, model, skip=_HEAD if config.tied else frozenset())
        return model.eval()


def _token_ids(special: dict[str, int]) -> dict[str, Any]:
    """Return bos, eos and pad ids as generation needs them: both the turn's end and the document's end stop it."""
    stops = [special[name] for name in ("end", "eos") if name in special]
    ids: dict[str, Any] = {f"{name}_token_id": special[name] for name in ("bos", "pad") if name in special}
    return {**ids, "eos_token_id": stops} if stops else ids


def hf_config(config: TransformerConfig, dtype: str) -> dict[str, Any]:
    """Return config.json of a Qwen3 (or, without query/key norm, Llama) model.

    Both spellings of the rotary base and of the dtype are written: `rope_theta` and `torch_dtype` are read by
    transformers 4, vLLM and GGUF writers, `rope_parameters` and `dtype` by transformers 5.
    """
    kind, architecture = ("qwen3", "Qwen3ForCausalLM") if config.qk_norm else ("llama", "LlamaForCausalLM")
    eos = {"eos_token_id": config.special["eos"]} if "eos" in config.special else {}
    return {
        "architectures": [architecture], "model_type": kind, "vocab_size": config.vocab_size,
        "hidden_size": config.width, "intermediate_size": config.intermediate, "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads, "num_key_value_heads": config.kv_heads, "head_dim": config.head_dim,
        "hidden_act": "silu", "max_position_embeddings": config.context, "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta, "rope_scaling": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tied, "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0,
        "use_sliding_window": False, "sliding_window": None, "use_cache": True, "initializer_range": 0.02,
        "dtype": dtype, "torch_dtype": dtype, **_token_ids(config.special), **eos,
        "bottega": {"special": config.special},
    }


def config_from_hf(data: dict[str, Any], where: str) -> TransformerConfig:
    """Read config.json of a Qwen3 or Llama model.

    Raises:
        InputError: another architecture, or a part that this one lacks (scaled rotary positions, biases, another
            activation); the message names it.
        CorruptError: a value is missing or out of range.
    """
    kind = data.get("model_type")
    rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
    lacking = {
        f"model_type {kind}": kind not in ("qwen3", "llama"),
        f"hidden_act {data.get('hidden_act')}": data.get("hidden_act", "silu") != "silu",
        "attention_bias": bool(data.get("attention_bias")), "mlp_bias": bool(data.get("mlp_bias")),
        f"scaled rotary positions {rope}": rope.get("rope_type", rope.get("type", "default")) != "default",
        "use_sliding_window": bool(data.get("use_sliding_window")),
    }
    for name, wrong in lacking.items():
        if wrong:
            raise InputError(f"the transformer family has no {name}", where=where,
                             fix="use a plain Qwen3 or Llama model")
    try:
        special = (data.get("bottega") or {}).get("special")
        if special is None:
            named = {name: data.get(f"{name}_token_id") for name in ("bos", "eos", "pad")}
            special = {name: value for name, value in named.items() if isinstance(value, int)}
        heads = data["num_attention_heads"]
        return validate(TransformerConfig, {
            "vocab_size": data["vocab_size"], "context": data["max_position_embeddings"],
            "depth": data["num_hidden_layers"], "width": data["hidden_size"], "heads": heads,
            "head_dim": data.get("head_dim") or data["hidden_size"] // heads,
            "kv_heads": data.get("num_key_value_heads") or heads, "intermediate": data["intermediate_size"],
            "rope_theta": rope.get("rope_theta") or data.get("rope_theta") or 10_000.0,
            "norm_eps": data.get("rms_norm_eps", 1e-6), "qk_norm": kind == "qwen3",
            "tied": bool(data.get("tie_word_embeddings")), "special": special,
        }, where=where, error=CorruptError)
    except KeyError as missing:
        raise CorruptError(f"config.json has no {missing}", where=where, fix="restore it") from None
