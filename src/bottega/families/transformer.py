"""The transformer language model. `bottega train recipes/python-lm.yaml` trains one, `bottega import` reads one.

As it is trained here it is a Qwen3: RMSNorm before each part, rotary positions, grouped-query attention with per-head
query/key norm, SwiGLU, no biases, tied embeddings. Llama, Mistral, Qwen2 and Gemma are the same with other parts on
or off; `transformer_hf.py` says which. `save` writes a folder that transformers, vLLM and the GGUF writers read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from bottega.core.errors import InputError
from bottega.core.files import write_json
from bottega.families import base
from bottega.families.attention import attend
from bottega.families.blocks import (
    RMSNorm,
    SwiGLU,
    document_mask,
    document_positions,
    init_matrix,
    rotate,
    window_mask,
)
from bottega.families.cache import KeyValueCache, Span
from bottega.families.rope import rotary_tables
from bottega.families.transformer_config import TransformerConfig
from bottega.families.transformer_hf import config_from_hf, generation_config, hf_config, read_generation
from bottega.families.weights import read_config, read_weights, write_model

_HEAD = frozenset({"lm_head.weight"})


class Attention(nn.Module):
    """Grouped-query attention, Ainslie et al. 2023, arXiv 2305.13245."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.q_proj = nn.Linear(config.width, config.heads * config.head_dim, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.width, config.kv_heads * config.head_dim, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.width, config.kv_heads * config.head_dim, bias=config.qkv_bias)
        self.o_proj = nn.Linear(config.heads * config.head_dim, config.width, bias=config.out_bias)
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
            causal = span.causal
        out: Tensor = self.o_proj(attend(q, k, v, mask, causal=causal))
        return out


class Layer(nn.Module):
    """One block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = SwiGLU(config.width, config.intermediate, activation=config.activation, bias=config.mlp_bias)
        self.input_layernorm = RMSNorm(config.width, config.norm_eps, from_one=config.gemma)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_eps, from_one=config.gemma)

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
        self.norm = RMSNorm(config.width, config.norm_eps, from_one=config.gemma)


class Transformer(base.TokenGenerator):
    """Decoder-only transformer; its weights have the names that Llama, Mistral, Qwen and Gemma share."""

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
            for name, bias in layer.named_parameters():
                if name.endswith(".bias"):
                    nn.init.zeros_(bias)

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
        window, length = self.config.window, tokens.shape[1]
        if cache is not None:
            if segments is not None:
                raise InputError("a cache cannot be used with segments", fix="give one of the two")
            assert isinstance(cache, KeyValueCache)
            span = cache.plan(length, counts)
            positions = span.positions if positions is None else positions
            mask = span.mask
        elif segments is not None:
            mask = document_mask(segments)
            positions = document_positions(segments) if positions is None else positions
        elif positions is None:
            positions = torch.arange(length, device=tokens.device)
        assert positions is not None
        narrow = mask
        if window is not None and span is not None:
            narrow = span.within(window)
        elif window is not None and length > window:
            near = window_mask(length, window, tokens.device)
            narrow = near if mask is None else mask & near
        cos, sin = rotary_tables(positions, self.config.head_dim, self.config.rope_theta, self.config.rope_scaling)
        x: Tensor = self.model.embed_tokens(tokens)
        if self.config.gemma:
            x = x * self.config.width**0.5
        for index, layer in enumerate(self.model.layers):
            x = layer(x, cos, sin, narrow if self.config.windowed(index) else mask, span, index)
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
        a key and layer, over (context + 1) / 2 keys on average (fewer behind a window). Training costs three times
        this (Kaplan et al. 2020, arXiv 2001.08361, §2.1).
        """
        config = self.config
        matrices = config.matrix_parameters() + config.vocab_size * config.width
        keys = (context + 1) / 2
        seen = min(config.window or context, context)
        near = seen - seen * (seen - 1) / (2 * context)  # mean over a text of min(keys so far, window)
        layers = sum(near if config.windowed(layer) else keys for layer in range(config.depth))
        return 2.0 * matrices + 4 * config.heads * config.head_dim * layers

    def save(self, folder: Path) -> None:
        """Write config.json, generation_config.json and model.safetensors in Hugging Face's form."""
        write_model(folder, self, hf_config(self.config, str(self.head_weight.dtype).removeprefix("torch.")),
                    skip=_HEAD if self.config.tied else frozenset())
        write_json(folder / "generation_config.json", generation_config(self.config.special))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder written by `save`, or a published one (see `transformer_hf`); fp32, evaluation mode.

        Raises:
            InputError: a file is not there, or the folder holds another architecture.
            CorruptError: the weights do not fit the configuration.
        """
        config = config_from_hf(read_config(folder), str(folder), generation=read_generation(folder))
        model = cls(config)
        read_weights(folder, model, skip=_HEAD if config.tied else frozenset())
        return model.eval()
