"""The transformer for decoding on a CPU: weights packed once, few operations a step, every row by itself.

Same mathematics as families/transformer.py (tests compare the two). What is different: query, key and value are one
product, gate and up another; query and key heads are normalised and turned together; each row attends over exactly its
own tokens, without masks or padding. With fp16 or int8 weights a row's logits are therefore the same bits whatever
else is in the batch and however many threads share the work.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bottega.families.attention import attend
from bottega.families.base import Cache
from bottega.families.blocks import rotary_tables
from bottega.families.cache import KeyValueCache, check_room
from bottega.families.transformer import Layer, Transformer
from bottega.generation.linear import Linear, packer

_TILE = 64  # rows of the rotary tables made at a time grow by doubling from here


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
    """

    @torch.inference_mode()
    def __init__(self, generator: Transformer, dtype: str) -> None:
        self.config, self.dtype = generator.config, dtype
        self._embedding = generator.model.embed_tokens.weight.float().clone()
        self._head = packer(dtype)(generator.head_weight.float())
        self._layers = [_PackedLayer(layer, dtype) for layer in generator.model.layers if isinstance(layer, Layer)]
        self._norm = generator.model.norm.weight.float().clone()
        self._eps = torch.tensor(self.config.norm_eps)
        self._cos, self._sin = torch.empty(0), torch.empty(0)
        self._tables(_TILE)

    def _tables(self, length: int) -> None:
        """Make the rotary tables [T, 1, head_dim] reach `length`; the sign of the pairing is in the sine."""
        if self._cos.shape[0] < length:
            cos, sin = rotary_tables(torch.arange(max(length, 2 * self._cos.shape[0])), self.config.head_dim,
                                     self.config.rope_theta)
            self._cos, self._sin = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)

    def new_cache(self, batch: int, capacity: int) -> KeyValueCache:
        """Return an empty cache, fp32."""
        config = self.config
        return KeyValueCache.empty(config.depth, batch, config.kv_heads, capacity, config.head_dim,
                                   dtype=torch.float32, device=torch.device("cpu"))

    @torch.inference_mode()
    def prefill(self, prompts: list[list[int]], cache: Cache) -> Tensor:
        """See `Runner.prefill`: rows one after another, each without padding."""
        assert isinstance(cache, KeyValueCache)
        sizes = [len(prompt) for prompt in prompts]
        flat = torch.tensor([token for prompt in prompts for token in prompt])
        ends = torch.tensor(sizes).cumsum(0)
        return self._head(self._hidden(flat, sizes, cache)[ends - 1])

    @torch.inference_mode()
    def step(self, tokens: Tensor, cache: Cache) -> Tensor:
        """See `Runner.step`."""
        assert isinstance(cache, KeyValueCache)
        return self._head(self._hidden(tokens, [1] * tokens.shape[0], cache))

    @torch.inference_mode()
    def all_logits(self, tokens: list[int]) -> Tensor:
        """See `Runner.all_logits`."""
        cache = self.new_cache(1, len(tokens))
        return self._head(self._hidden(torch.tensor(tokens), [len(tokens)], cache))

    def _hidden(self, tokens: Tensor, sizes: list[int], cache: KeyValueCache) -> Tensor:
        """Return final hidden states [N, width] of N = sum(sizes) new tokens, rows concatenated.

        Raises:
            InputError: a row has no room left in the cache.
        """
        config, lengths = self.config, cache.lengths.tolist()
        check_room(lengths, sizes, cache.capacity)
        self._tables(cache.capacity)
        heads, kv, dim, eps = config.heads, config.kv_heads, config.head_dim, self._eps
        if len(set(lengths)) == 1 and set(sizes) == {1}:
            place = slice(lengths[0], lengths[0] + 1)
            cos, sin = self._cos[place], self._sin[place]
        else:
            places = torch.cat([torch.arange(old, old + new) for old, new in zip(lengths, sizes, strict=True)])
            cos, sin = self._cos[places], self._sin[places]
        x = F.embedding(tokens, self._embedding)
        for index, layer in enumerate(self._layers):
            qkv = layer.qkv(_normed(x, layer.norm_in, eps)).view(-1, heads + 2 * kv, dim)
            turned = qkv[:, :heads + kv]
            if layer.norm_heads is not None:
                turned = _normed(turned, layer.norm_heads, eps)
            turned = torch.addcmul(turned * cos, turned.roll(dim // 2, -1), sin)
            mixed = _attention(turned[:, :heads], turned[:, heads:], qkv[:, heads + kv:], cache.keys[index],
                               cache.values[index], lengths, sizes)
            x = layer.out(mixed).add_(x)
            gate, up = layer.gate_up(_normed(x, layer.norm_mid, eps)).chunk(2, -1)
            x = layer.down(F.silu(gate).mul_(up)).add_(x)
        cache.lengths += torch.tensor(sizes)
        return _normed(x, self._norm, eps)


def _normed(x: Tensor, weight: Tensor, eps: Tensor) -> Tensor:
    """Return x / sqrt(mean(x²) + eps) · weight over the last axis; half the time of `F.rms_norm`."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return (x * torch.addcmul(eps, length, length, value=1 / x.shape[-1]).rsqrt_()).mul_(weight)


def _attention(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, lengths: list[int],
               sizes: list[int]) -> Tensor:
    """Write keys and values of new tokens and attend, each row over its own tokens.

    Args:
        q: [N, heads, head_dim] of all rows' new tokens, concatenated; k, v: [N, kv_heads, head_dim].
        keys, values: one layer's cache, [B, kv_heads, capacity, head_dim].
        lengths: tokens in the cache before; sizes: new ones, of each row.

    Returns:
        [N, heads · head_dim].
    """
    rows, old, new = len(sizes), lengths[0], sizes[0]
    if lengths.count(old) == rows and sizes.count(new) == rows and (new == 1 or rows == 1):
        end = old + new
        keys[:, :, old:end] = k.view(rows, new, *k.shape[1:]).transpose(1, 2)
        values[:, :, old:end] = v.view(rows, new, *v.shape[1:]).transpose(1, 2)
        if new == 1:
            return _attend_once(q, keys[:, :, :end], values[:, :, :end])
        return attend(q.unsqueeze(0), keys[:, :, :end], values[:, :, :end], None, causal=True)[0]
    parts, start = [], 0
    for row, (old, new) in enumerate(zip(lengths, sizes, strict=True)):
        part, one = slice(start, start + new), slice(row, row + 1)
        parts.append(_attention(q[part], k[part], v[part], keys[one], values[one], [old], [new]))
        start += new
    return torch.cat(parts)


def _attend_once(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return softmax(q kᵀ / sqrt(head_dim)) v for one new token a row.

    Plain products, because `scaled_dot_product_attention` sums in another order for another batch or number of threads.

    Args:
        q: [B, heads, head_dim].
        keys, values: [B, kv_heads, S, head_dim].

    Returns:
        [B, heads · head_dim].
    """
    rows, heads, dim = q.shape
    grouped = q.reshape(rows * keys.shape[1], -1, dim)  # heads that share a key head become rows of one product
    scores = torch.baddbmm(q.new_zeros(1), grouped, keys.flatten(0, 1).transpose(1, 2), beta=0, alpha=dim**-0.5)
    return torch.bmm(scores.softmax(-1), values.flatten(0, 1)).view(rows, heads * dim)
