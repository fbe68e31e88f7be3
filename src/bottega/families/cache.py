"""Keys and values of sequences under way, in tensors allocated once. Row r belongs to sequence r.

Rows may differ in length. When they do not, which is the common case, new keys are copied as one block and no mask is
built.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bottega.core.errors import InputError


def check_room(lengths: list[int], new: list[int], capacity: int) -> None:
    """Refuse to write past the end of a cache.

    Raises:
        InputError: a row would hold more than `capacity` tokens.
    """
    for row, (old, more) in enumerate(zip(lengths, new, strict=True)):
        if old + more > capacity:
            raise InputError(f"row {row} of the cache would hold {old + more} tokens, it has room for {capacity}",
                             fix="ask for fewer tokens or make a cache with a larger capacity")


class KeyValueCache:
    """Cached attention of one model.

    Attributes:
        keys, values: one tensor a layer, [B, kv_heads, capacity, head_dim].
        capacity: tokens a row can hold.
        lengths: int64 [B], tokens written for each row. May be lowered to take tokens back.
    """

    def __init__(self, keys: list[Tensor], values: list[Tensor], lengths: Tensor) -> None:
        self.keys, self.values, self.lengths = keys, values, lengths
        self.capacity = keys[0].shape[2]

    @classmethod
    def empty(cls, layers: int, batch: int, kv_heads: int, capacity: int, head_dim: int, *, dtype: torch.dtype,
              device: torch.device) -> KeyValueCache:
        """Return a cache without tokens."""
        def zeros() -> list[Tensor]:
            shape = (batch, kv_heads, capacity, head_dim)
            return [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        return cls(zeros(), zeros(), torch.zeros(batch, dtype=torch.int64, device=device))

    def select(self, rows: Tensor) -> KeyValueCache:
        """Return a cache of the given rows (int64 [R], repeats allowed)."""
        return KeyValueCache([key[rows] for key in self.keys], [value[rows] for value in self.values],
                             self.lengths[rows])

    def join(self, other: KeyValueCache | None, capacity: int) -> KeyValueCache:
        """Return a cache of these rows and then another's, each with room for at least `capacity` tokens."""
        caches = [self] if other is None else [self, other]
        capacity = max(capacity, *(cache.capacity for cache in caches))

        def stack(parts: list[Tensor]) -> Tensor:
            whole = parts[0].new_zeros(sum(part.shape[0] for part in parts), parts[0].shape[1], capacity,
                                       parts[0].shape[3])
            start = 0
            for part in parts:
                whole[start:start + part.shape[0], :, :part.shape[2]] = part
                start += part.shape[0]
            return whole

        layers = range(len(self.keys))
        return KeyValueCache([stack([cache.keys[layer] for cache in caches]) for layer in layers],
                             [stack([cache.values[layer] for cache in caches]) for layer in layers],
                             torch.cat([cache.lengths for cache in caches]))

    def plan(self, length: int, counts: Tensor | None) -> Span:
        """Return where the next `length` tokens of each row go; `counts` int64 [B] of them are real.

        Raises:
            InputError: a row has no room for its real tokens.
        """
        olds: list[int] = self.lengths.tolist()
        new: list[int] = [length] * len(olds) if counts is None else counts.tolist()
        check_room(olds, new, self.capacity)
        return Span(self, length, olds, new)


class Span:
    """The place of one forward pass in a cache, the same for every layer.

    Attributes:
        positions: int64 [T], or [B, T] where rows differ.
        mask: bool [T, S] or [B, 1, T, S], or None: every query sees every key, or a first pass is `causal`.
        causal: the cache was empty and rows are equal.
    """

    def __init__(self, cache: KeyValueCache, length: int, olds: list[int], new: list[int]) -> None:
        self._cache, self._new = cache, new
        device = cache.lengths.device
        steps = torch.arange(length, device=device)
        self._even = len(set(olds)) == 1 and all(count == length for count in new)
        if self._even:
            start = olds[0]
            self._start, self._end = start, start + length
            self.positions = steps + start
            self.causal = start == 0 and length > 1
            self.mask = None
            if start and length > 1:
                self.mask = torch.arange(self._end, device=device) <= self.positions.unsqueeze(1)
            return
        self._end = max(old + count for old, count in zip(olds, new, strict=True))
        self.positions = cache.lengths.unsqueeze(1) + steps
        self.causal = False
        self.mask = (torch.arange(self._end, device=device) <= self.positions.unsqueeze(2)).unsqueeze(1)
        real = steps < torch.tensor(new, device=device).unsqueeze(1)
        self._rows, self._steps = real.nonzero(as_tuple=True)
        self._places = self.positions[self._rows, self._steps]

    def within(self, window: int) -> Tensor | None:
        """Return `mask` for layers in which a token sees itself and the `window` - 1 tokens before it."""
        if self._end <= window:
            return self.mask
        seen = torch.arange(self._end, device=self.positions.device)
        place = self.positions.unsqueeze(-1)
        near = (seen <= place) & (seen > place - window)
        return near[None, None] if self._even else near.unsqueeze(1)

    def write(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values [B, kv_heads, T, head_dim] and return all so far, [B, kv_heads, S, head_dim]."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        for store, fresh in ((keys, key), (values, value)):
            if self._even:
                store[:, :, self._start:self._end] = fresh
            else:
                store[self._rows, :, self._places] = fresh[self._rows, :, self._steps]
        return keys[:, :, :self._end], values[:, :, :self._end]

    def finish(self) -> None:
        """Let the cache's lengths grow, after the last layer has written."""
        self._cache.lengths += torch.tensor(self._new, device=self._cache.lengths.device)
