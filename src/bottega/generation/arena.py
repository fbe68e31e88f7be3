"""Keys and values of rows that come, grow and go: `pytest tests/generation/test_fast.py`.

Rows of like length lie side by side in an arena, a block of memory with room for a round number of tokens, and attend
in one product over all of that room, the part beyond a row's end masked. A row that outgrows its arena moves to the
next. The room depends on the row's own length alone, so a row's arithmetic does not change with its company: its bits
are the same alone and among others. Nothing is allocated while rows come and go, beyond the largest number so far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bottega.families.attention import attend
from bottega.families.blocks import window_mask

if TYPE_CHECKING:
    from bottega.families.transformer_config import TransformerConfig
    from bottega.generation.fast import FastTransformer
    from bottega.generation.runner import Reading

_ROOM = 64  # tokens of the smallest arena; larger ones grow by a quarter, in multiples of this


def room(length: int) -> int:
    """Return how many tokens the arena of a row of this length holds."""
    size = _ROOM
    while size < length:
        size += max(_ROOM, size // 4 // _ROOM * _ROOM)
    return size


class ArenaReading:
    """A prompt on its way into the model; see `runner.Reading`.

    Attributes:
        hidden: final hidden states [N, width] of the piece read last.
        keys, values: one tensor a layer, [kv_heads, length, head_dim].
    """

    def __init__(self, model: FastTransformer, prompt: list[int]) -> None:
        self.prompt, self.remaining = prompt, len(prompt)
        config = self._config = model.config
        shape = (config.kv_heads, len(prompt), config.head_dim)
        self.keys = [torch.empty(shape) for _ in range(config.depth)]
        self.values = [torch.empty(shape) for _ in range(config.depth)]
        self.hidden = torch.empty(0)

    def mix(self, layer: int, q: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        """Store the next keys and values from place `start` on and attend over all so far.

        Args:
            layer: which.
            q: [T, heads, head_dim]; k, v: [T, kv_heads, head_dim].
            start: tokens read before.

        Returns:
            [T, heads · head_dim].
        """
        keys, values, end = self.keys[layer], self.values[layer], start + q.shape[0]
        keys[:, start:end], values[:, start:end] = k.transpose(0, 1), v.transpose(0, 1)
        window = self._config.window if self._config.windowed(layer) else None
        if start == 0 and end > 1:
            near = window_mask(end, window, q.device) if window is not None and end > window else None
            return attend(q.unsqueeze(0), keys[None, :, :end], values[None, :, :end], near, causal=True)[0]
        ahead = torch.full((end - start, end), -math.inf).triu_(start + 1)
        if window is not None and end > window:
            ahead += torch.full((end - start, end), -math.inf).tril_(start - window)
        return _attend_over(q, keys[:, :end], values[:, :end], ahead)


@torch.inference_mode()
def advance(model: FastTransformer, readings: list[ArenaReading], piece: int) -> None:
    """Read the next piece of every reading, all in one pass; each attends to itself only."""
    starts = [len(reading.prompt) - reading.remaining for reading in readings]
    parts = [reading.prompt[start:start + piece] for reading, start in zip(readings, starts, strict=True)]
    sizes = [len(part) for part in parts]

    def mix(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        split = zip(readings, torch.split(q, sizes), torch.split(k, sizes), torch.split(v, sizes), starts, strict=True)
        mixed = [reading.mix(layer, own_q, own_k, own_v, start) for reading, own_q, own_k, own_v, start in split]
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed)

    places = [place for start, size in zip(starts, sizes, strict=True) for place in range(start, start + size)]
    hidden = model.hidden(torch.tensor([token for part in parts for token in part]), places, mix)
    for reading, own, size in zip(readings, torch.split(hidden, sizes), sizes, strict=True):
        reading.hidden = own
        reading.remaining -= size


def _attend_over(q: Tensor, keys: Tensor, values: Tensor, ahead: Tensor) -> Tensor:
    """Return softmax(q kᵀ / sqrt(head_dim)) v of one sequence's next tokens.

    Args:
        q: [T, heads, head_dim].
        keys, values: [kv_heads, S, head_dim].
        ahead: fp32 [T, S], 0 where a query may look and -inf elsewhere.

    Returns:
        [T, heads · head_dim].
    """
    length, heads, dim = q.shape
    groups = heads // keys.shape[0]
    rows = q.view(length, -1, groups, dim).permute(1, 2, 0, 3).reshape(keys.shape[0], groups * length, dim)
    scores = torch.baddbmm(ahead.repeat(groups, 1), rows, keys.transpose(1, 2), alpha=dim**-0.5)
    mixed = torch.bmm(scores.softmax(-1), values).view(keys.shape[0], groups, length, dim)
    return mixed.permute(2, 0, 1, 3).reshape(length, heads * dim)


@dataclass(eq=False, slots=True)
class _Row:
    """One sequence: its length in tokens, and where its keys and values are."""

    length: int
    arena: _Arena
    slot: int


class _Arena:
    """Rows of at most `capacity` tokens; the first `len(rows)` slots are in use."""

    def __init__(self, config: TransformerConfig, capacity: int) -> None:
        self.capacity, self._kv, self._dim = capacity, config.kv_heads, config.head_dim
        self._config = config
        self.rows: list[_Row] = []
        self.keys = [torch.empty(0, self._kv, capacity, self._dim) for _ in range(config.depth)]
        self.values = [torch.empty(0, self._kv, capacity, self._dim) for _ in range(config.depth)]
        self._cells, self._bias, self._narrow = torch.empty(0), torch.empty(0), torch.empty(0)

    def take(self, row: _Row, keys: list[Tensor], values: list[Tensor]) -> None:
        """Give a row a slot here and copy its keys and values [kv_heads, length, head_dim] in."""
        slot = len(self.rows)
        if slot == self.keys[0].shape[0]:
            # zeros: what a mask hides is multiplied by 0, and must be a number
            more = torch.zeros(max(1, slot), self._kv, self.capacity, self._dim)
            self.keys = [torch.cat((old, more)) for old in self.keys]
            self.values = [torch.cat((old, more)) for old in self.values]
        for store, fresh in ((self.keys, keys), (self.values, values)):
            for layer, part in enumerate(fresh):
                store[layer][slot, :, :row.length] = part
        row.arena, row.slot = self, slot
        self.rows.append(row)

    def release(self, slot: int) -> None:
        """Free a slot; the last row moves into it."""
        last = self.rows.pop()
        if slot < len(self.rows):
            for store in (*self.keys, *self.values):
                store[slot] = store[last.slot]
            last.slot = slot
            self.rows[slot] = last

    def plan(self) -> None:
        """Settle where the next token of each row goes and what each row may look at."""
        lengths = torch.tensor([row.length for row in self.rows])
        starts = torch.arange(len(self.rows) * self._kv) * self.capacity
        self._cells = starts + lengths.repeat_interleave(self._kv)
        bias, places, last = torch.zeros(len(self.rows), self.capacity), torch.arange(self.capacity), lengths[:, None]
        bias.masked_fill_(places > last, -math.inf)
        self._bias = bias.repeat_interleave(self._kv, 0).unsqueeze(1)
        if self._config.window is not None:
            bias.masked_fill_(places <= last - self._config.window, -math.inf)
            self._narrow = bias.repeat_interleave(self._kv, 0).unsqueeze(1)

    def mix(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store one new key and value a row and attend: softmax(q kᵀ / sqrt(head_dim)) v.

        Plain products, because `scaled_dot_product_attention` sums in another order for another batch or number of
        threads.

        Args:
            layer: which.
            q: [R, heads, head_dim]; k, v: [R, kv_heads, head_dim].

        Returns:
            [R, heads · head_dim].
        """
        count, heads, dim = q.shape
        for store, fresh in ((self.keys[layer], k), (self.values[layer], v)):
            store.view(-1, dim).index_copy_(0, self._cells, fresh.reshape(-1, dim))
        keys, values = (store[layer][:count].view(-1, self.capacity, dim) for store in (self.keys, self.values))
        grouped = q.reshape(count * self._kv, -1, dim)  # heads that share a key head become rows of one product
        bias = self._narrow if self._config.windowed(layer) else self._bias
        scores = torch.baddbmm(bias, grouped, keys.transpose(1, 2), alpha=dim**-0.5)
        return torch.bmm(scores.softmax(-1), values).view(count, heads * dim)


class ArenaRows:
    """Sequences under way; see `runner.Rows`."""

    def __init__(self, model: FastTransformer) -> None:
        self._model = model
        self._rows: list[_Row] = []
        self._arenas: dict[int, _Arena] = {}

    def _arena(self, length: int) -> _Arena:
        capacity = room(length)
        if capacity not in self._arenas:
            self._arenas[capacity] = _Arena(self._model.config, capacity)
        return self._arenas[capacity]

    @torch.inference_mode()
    def add(self, reading: Reading, copies: int, room: int) -> Tensor:
        """See `runner.Rows.add`; a row's room grows as it needs it."""
        assert isinstance(reading, ArenaReading)
        length = reading.keys[0].shape[1]
        for _ in range(copies):
            arena = self._arena(length + 1)
            row = _Row(length, arena, -1)
            arena.take(row, reading.keys, reading.values)
            self._rows.append(row)
        return self._model.head(reading.hidden[-1:])[0]

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """See `runner.Rows.step`."""
        for row in self._rows:
            if row.length == row.arena.capacity:
                self._move(row)
        arenas = [arena for arena in self._arenas.values() if arena.rows]
        for arena in arenas:
            arena.plan()
        place = {id(row): index for index, row in enumerate(self._rows)}
        ordered = [row for arena in arenas for row in arena.rows]
        order = torch.tensor([place[id(row)] for row in ordered])
        sizes = [len(arena.rows) for arena in arenas]

        def mix(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if len(arenas) == 1:
                return arenas[0].mix(layer, q, k, v)
            parts = zip(arenas, torch.split(q, sizes), torch.split(k, sizes), torch.split(v, sizes), strict=True)
            return torch.cat([arena.mix(layer, *part) for arena, *part in parts])

        hidden = self._model.hidden(tokens[order], [row.length for row in ordered], mix)
        for row in self._rows:
            row.length += 1
        return self._model.head(hidden[order.argsort()])

    def _move(self, row: _Row) -> None:
        """Carry a row that has filled its arena to the next."""
        old, slot = row.arena, row.slot
        keys, values = ([layer[slot] for layer in store] for store in (old.keys, old.values))
        self._arena(row.length + 1).take(row, keys, values)
        old.release(slot)

    @torch.inference_mode()
    def keep(self, rows: list[int]) -> None:
        """See `runner.Rows.keep`."""
        kept = {id(self._rows[index]) for index in rows}
        for row in self._rows:
            if id(row) not in kept:
                row.arena.release(row.slot)
        self._rows = [self._rows[index] for index in rows]
