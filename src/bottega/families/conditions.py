"""What a picture should show, as vectors: class, caption, time. `pytest tests/families/test_diffusion.py` runs it.

A class is a row of a table. A caption goes through a small bidirectional transformer trained with the pictures, so that
"a red star above a blue one" and "a blue star above a red one" differ; with an imported text encoder the same small
transformer stands on that one's states. One learned state each stands for "anything":
it takes the condition's place when it is dropped in training and when a picture is drawn without one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bottega.families.attention import attend
from bottega.families.blocks import RMSNorm, SwiGLU, init_matrix, rotate
from bottega.families.config import mlp_width
from bottega.families.rope import rotary_tables

_EPS = 1e-6
_HEAD = 32
_TIME_WAVES = 32


class ConditionStates(NamedTuple):
    """ConditionEncoder of B pictures, ready for a denoiser.

    Attributes:
        vector: [B, width] class and caption as one vector.
        words: [B, S, words_width] a state for each word of the caption, the first one for "anything"; None without.
        seen: bool [B, S]: which of them may be looked at.
    """

    vector: Tensor
    words: Tensor | None = None
    seen: Tensor | None = None

    def rows(self, first: int, end: int) -> ConditionStates:
        """Return the conditions of some of the pictures."""
        words = None if self.words is None else self.words[first:end]
        return ConditionStates(self.vector[first:end], words, None if self.seen is None else self.seen[first:end])

    def filled(self, count: int) -> ConditionStates:
        """Return `count` rows, the last one repeated as often as is needed."""
        vector, words, seen = (None if part is None else filled(part, count) for part in self)
        assert vector is not None
        return ConditionStates(vector, words, seen)

    def between(self, other: ConditionStates, share: float) -> ConditionStates:
        """Return the condition at `share` (0: this one, 1: the other) of the line between two."""
        if share in (0, 1):  # not the other one's words beside them
            return other if share else self
        vector = self.vector * (1 - share) + other.vector * share
        if self.words is None or other.words is None or self.seen is None or other.seen is None:
            return ConditionStates(vector)
        return ConditionStates(vector, self.words * (1 - share) + other.words * share, self.seen | other.seen)


def filled(rows: Tensor, count: int) -> Tensor:
    """Return `count` rows of [B, ...], the last one repeated as often as is needed."""
    missing = count - len(rows)
    return rows if missing <= 0 else torch.cat((rows, rows[-1:].expand(missing, *rows.shape[1:])))


def joined(parts: list[ConditionStates]) -> ConditionStates:
    """Return the rows of several conditions after one another."""
    words = [part.words for part in parts if part.words is not None]
    seen = [part.seen for part in parts if part.seen is not None]
    return ConditionStates(torch.cat([part.vector for part in parts]), torch.cat(words) if words else None,
                           torch.cat(seen) if seen else None)


class _WordLayer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); every word sees every word."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // _HEAD
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = SwiGLU(width, mlp_width(width))
        self.before, self.after = RMSNorm(width, _EPS), RMSNorm(width, _EPS)
        for weight in (self.qkv.weight, self.mlp.gate_proj.weight, self.mlp.up_proj.weight):
            init_matrix(weight)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.mlp.down_proj.weight)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """Map [B, S, width] to [B, S, width]; mask bool [B, 1, 1, S]."""
        q, k, v = self.qkv(self.before(x)).unflatten(-1, (3, self.heads, _HEAD)).unbind(2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        x = x + self.out(attend(q, k.transpose(1, 2), v.transpose(1, 2), mask, causal=False))
        out: Tensor = x + self.mlp(self.after(x))
        return out


class ConditionEncoder(nn.Module):
    """Turn labels and captions into a `ConditionStates`.

    Args:
        classes: number of classes; 0: none.
        vocab: words of captions, 0 being padding; 0: no captions.
        text_length: words a caption, at most.
        width: of the vector.
        words_width: of the words' states.
        layers: of the caption's transformer.
        read: width of the states of an imported text encoder, which take the place of a table of words; 0: none.
    """

    def __init__(self, classes: int, vocab: int, text_length: int, width: int, words_width: int,
                 layers: int, read: int = 0) -> None:
        super().__init__()
        self.classes, self.vocab, self.width, self.read = classes, vocab, width, read
        if classes:
            self.labels = nn.Embedding(classes + 1, width)  # the last row: any class
            nn.init.normal_(self.labels.weight, std=0.5)
        if vocab:
            self.words = nn.Embedding(1 if read else vocab + 1, words_width)  # the last row: any caption
            self.places = nn.Embedding(text_length + 1, words_width)
            nn.init.normal_(self.words.weight)
            if read:
                self.enter = nn.Linear(read, words_width, bias=False)
                init_matrix(self.enter.weight)
            nn.init.normal_(self.places.weight)
            self.layers = nn.ModuleList(_WordLayer(words_width) for _ in range(layers))
            self.norm = RMSNorm(words_width, _EPS)
            self.pool = nn.Linear(words_width, width, bias=False)
            init_matrix(self.pool.weight)

    def forward(self, labels: Tensor, text: Tensor, dropped: Tensor | None = None,
                states: Tensor | None = None) -> ConditionStates:
        """Return the condition of labels int64 [B] (-1: any) and text int64 [B, T] (0: padding; all 0: any).

        Args:
            labels: class numbers.
            text: word numbers.
            dropped: bool [B]: rows whose condition is left out.
            states: [B, T, read]: the text as an imported text encoder reads it, where there is one.
        """
        if dropped is not None:
            labels = labels.masked_fill(dropped, -1)
            text = text.masked_fill(dropped.unsqueeze(1), 0)
        vector = torch.zeros(labels.shape[0], self.width, device=labels.device)
        if self.classes:
            vector = vector + self.labels(labels.remainder(self.classes + 1))  # -1 is the last row
        if not self.vocab:
            return ConditionStates(vector)
        start = torch.full_like(labels, self.vocab).unsqueeze(1)
        words = torch.cat((start, text), 1)
        seen = words != 0
        cos, sin = rotary_tables(torch.arange(words.shape[1], device=words.device), _HEAD, 100.0)
        if self.read:
            assert states is not None
            entered = torch.cat((self.words(torch.zeros_like(start)), self.enter(states)), 1)
        else:
            entered = self.words(words)
        x = entered + self.places.weight[:words.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin, seen[:, None, None])
        x = self.norm(x) * seen.unsqueeze(-1)
        return ConditionStates(vector + self.pool(x.sum(1) / seen.sum(1, keepdim=True)), x, seen)


class Times(nn.Module):
    """A time in [0, 1] as a vector [B, width]: waves of rising frequency and a small MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2 * _TIME_WAVES, width), nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """Map [B] to [B, width]."""
        waves = torch.exp(torch.linspace(0, 3, _TIME_WAVES, device=t.device))  # up to three waves over all times
        angles = t.unsqueeze(1) * waves
        out: Tensor = self.second(F.silu(self.first(torch.cat((angles.cos(), angles.sin()), 1))))
        return out
