"""The transformer for decoding on a CPU: weights packed once, few operations a step, every row by itself.

Same mathematics as families/transformer.py (tests compare the two). What is different: query, key and value are one
product, gate and up another; query and key heads are normalised and turned together; keys and values lie in arenas
(arena.py). With fp16 or int8 weights a row's logits are therefore the same bits whatever else is under way and however
many threads share the work.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from bottega.families.blocks import rotary_tables
from bottega.families.transformer import Layer, Transformer
from bottega.generation.arena import ArenaReading, ArenaRows, advance
from bottega.generation.linear import Linear, packer

if TYPE_CHECKING:
    from bottega.generation.runner import Reading, Rows

FUSED = {"qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "out": ("self_attn.o_proj",),
         "gate_up": ("mlp.gate_proj", "mlp.up_proj"), "down": ("mlp.down_proj",)}  # product → parts of a layer

# layer, query [N, heads, head_dim], key and value [N, kv_heads, head_dim] of new tokens → mixed [N, heads · head_dim]
Mix: TypeAlias = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class _PackedLayer:
    """One layer's weights."""

    def __init__(self, layer: Layer, dtype: str) -> None:
        attention, mlp = layer.self_attn, layer.mlp

        def pack(weight: Tensor) -> Linear:
            return packer(dtype)(weight.float())

        self.qkv = pack(torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]))
        self.out = pack(attention.o_proj.weight)
        self.gate_up = pack(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]))
        self.down = pack(mlp.down_proj.weight)
        self.norm_in = layer.input_layernorm.weight.float().clone()
        self.norm_mid = layer.post_attention_layernorm.weight.float().clone()
        self.norm_heads: Tensor | None = None
        if attention.qk_norm:  # [heads + kv_heads, head_dim]
            self.norm_heads = torch.cat([attention.q_norm.weight.expand(attention.heads, -1),
                                         attention.k_norm.weight.expand(attention.kv_heads, -1)]).float()


class FastTransformer:
    """A `Runner` of one transformer; keeps packed copies and no reference to the module.

    Args:
        generator: on the CPU.
        dtype: `fp32`, `fp16` or `int8`, of all matrices but the input embedding.
        piece: tokens of a prompt read at once.
    """

    _kept: FastTransformer | None = None  # whose weights these are, as long as they are used

    @torch.inference_mode()
    def __init__(self, generator: Transformer, dtype: str, piece: int) -> None:
        self.config, self.dtype, self._piece = generator.config, dtype, piece
        self._embedding = generator.model.embed_tokens.weight.float().clone()
        self.head: Linear = packer(dtype)(generator.head_weight.float())
        self._layers = [_PackedLayer(layer, dtype) for layer in generator.model.layers if isinstance(layer, Layer)]
        self._norm = generator.model.norm.weight.float().clone()
        self._eps = torch.tensor(self.config.norm_eps)
        # rotary tables [context, 1, head_dim]; the sign of the pairing is in the sine
        cos, sin = rotary_tables(torch.arange(self.config.context), self.config.head_dim, self.config.rope_theta)
        self._cos, self._sin = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)

    def changed(self, change: Callable[[int, Sequence[str], Linear], Linear]) -> FastTransformer:
        """Return a runner with the same weights in memory and other products in its layers.

        Args:
            change: given a layer's number, the parts that a product is made of (`FUSED`), and the product.
        """
        other = copy.copy(self)
        other._layers = [copy.copy(layer) for layer in self._layers]
        for index, layer in enumerate(other._layers):
            for name, parts in FUSED.items():
                setattr(layer, name, change(index, parts, getattr(layer, name)))
        other._kept = self
        return other

    def read(self, prompt: list[int]) -> Reading:
        """See `Runner.read`."""
        return ArenaReading(self, prompt)

    def advance(self, readings: Sequence[Reading]) -> None:
        """See `Runner.advance`."""
        advance(self, [reading for reading in readings if isinstance(reading, ArenaReading)], self._piece)

    def rows(self) -> Rows:
        """See `Runner.rows`."""
        return ArenaRows(self)

    @torch.inference_mode()
    def all_logits(self, tokens: list[int]) -> Tensor:
        """See `Runner.all_logits`."""
        return self.head(self._all_hidden(tokens))

    @torch.inference_mode()
    def pooled(self, tokens: list[int]) -> Tensor:
        """See `Runner.pooled`."""
        return self._all_hidden(tokens).mean(0)

    def _all_hidden(self, tokens: list[int]) -> Tensor:
        reading, parts = ArenaReading(self, tokens), []
        while reading.remaining:
            self.advance([reading])
            parts.append(reading.hidden)
        return torch.cat(parts)

    def hidden(self, tokens: Tensor, positions: list[int], mix: Mix) -> Tensor:
        """Return final hidden states [N, width].

        Args:
            tokens: int64 [N].
            positions: place of each token in its own sequence.
            mix: attention, which also stores the new keys and values.
        """
        config, eps = self.config, self._eps
        heads, kv, dim = config.heads, config.kv_heads, config.head_dim
        if positions.count(positions[0]) == len(positions):
            place = slice(positions[0], positions[0] + 1)
            cos, sin = self._cos[place], self._sin[place]
        else:
            places = torch.tensor(positions)
            cos, sin = self._cos[places], self._sin[places]
        x = F.embedding(tokens, self._embedding)
        for index, layer in enumerate(self._layers):
            qkv = layer.qkv(_normed(x, layer.norm_in, eps)).view(-1, heads + 2 * kv, dim)
            turned = qkv[:, :heads + kv]
            if layer.norm_heads is not None:
                turned = _normed(turned, layer.norm_heads, eps)
            turned = torch.addcmul(turned * cos, turned.roll(dim // 2, -1), sin)
            x = layer.out(mix(index, turned[:, :heads], turned[:, heads:], qkv[:, heads + kv:])).add_(x)
            gate, up = layer.gate_up(_normed(x, layer.norm_mid, eps)).chunk(2, -1)
            x = layer.down(F.silu(gate).mul_(up)).add_(x)
        return _normed(x, self._norm, eps)


def _normed(x: Tensor, weight: Tensor, eps: Tensor) -> Tensor:
    """Return x / sqrt(mean(x²) + eps) · weight over the last axis; half the time of `F.rms_norm`."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return (x * torch.addcmul(eps, length, length, value=1 / x.shape[-1]).rsqrt_()).mul_(weight)
