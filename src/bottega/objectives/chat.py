"""Conversations as training rows: which tokens carry loss, and several conversations packed into one row.

Shared by `sft` and `dpo`, so that masking is written once. A packed row keeps its conversations apart: each has a
segment number and positions of its own, and a token attends only within its segment (`pytest tests/objectives`
checks that packed and unpacked losses are equal).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bottega.core.errors import DataError
from bottega.families.base import IGNORED, Batch


class ChatCodec(Protocol):
    """What is needed of a codec; `codecs.text.TextCodec` keeps it."""

    pad: int

    def encode_chat_masked(self, messages: Sequence[Any]) -> tuple[list[int], list[bool]]:
        """Return ids and which of them the assistant says."""


@dataclass(slots=True)
class Row:
    """One conversation ready to train on: inputs and next-token targets (IGNORED where no loss), int64 [T] each."""

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    source: str = ""

    @property
    def length(self) -> int:
        """Number of input tokens."""
        return len(self.tokens)

    @property
    def weight(self) -> int:
        """Number of tokens that carry loss."""
        return int((self.targets != IGNORED).sum())


def row(codec: ChatCodec, messages: Sequence[Any], *, answer_only: bool = False, source: str = "") -> Row:
    """Turn a conversation into inputs and targets: loss on what the assistant says and the end token after it.

    Args:
        codec: encodes turns.
        messages: turns with `role` and `content`.
        answer_only: only the last turn carries loss, earlier assistant turns do not.
        source: the built-in or path the conversation came from.
    """
    ids, mask = codec.encode_chat_masked(messages)
    said = np.asarray(mask)
    if answer_only:
        before = len(codec.encode_chat_masked(messages[:-1])[0]) if len(messages) > 1 else 1
        said[:before] = False
    tokens = np.asarray(ids, dtype=np.int64)
    return Row(tokens[:-1], np.where(said[1:], tokens[1:], IGNORED), source)


@dataclass(slots=True)
class Rows:
    """The usable conversations of a split.

    Attributes:
        rows: those that fit, in the dataset's order.
        too_long: how many did not fit the context and were left out (an answer is never cut).
        silent: how many had nothing the assistant says.
    """

    rows: list[Row] = field(default_factory=list)
    too_long: int = 0
    silent: int = 0


def usable(rows: Iterable[Row], context: int, *, what: str, too_long: int = 0) -> Rows:
    """Keep the rows that fit the context and carry loss; `too_long` counts those that the caller left out already.

    Raises:
        DataError: nothing is left; the message has the counts.
    """
    found = Rows(too_long=too_long)
    for item in rows:
        if item.length > context:
            found.too_long += 1
        elif item.weight == 0:
            found.silent += 1
        else:
            found.rows.append(item)
    if not found.rows:
        raise DataError(f"no {what} can be used: {found.too_long} longer than the context of {context} tokens, "
                        f"{found.silent} in which the assistant says nothing", where="training.context",
                        fix="raise training.context or shorten the conversations")
    return found


def pack(rows: Sequence[Row], context: int) -> list[list[int]]:
    """Put rows into bins of at most `context` tokens, first fit in the given order; return row numbers a bin.

    First fit is deterministic and within 1.7 of the fewest bins (Johnson et al. 1974, "Worst-case performance bounds
    for simple one-dimensional packing algorithms"). Bins with no room for the shortest row are closed, so that the
    search stays short.
    """
    shortest = min((item.length for item in rows), default=1)
    bins: list[list[int]] = []
    open_bins: list[tuple[int, int]] = []  # (bin, room left)
    for number, item in enumerate(rows):
        for place, (index, room) in enumerate(open_bins):
            if item.length <= room:
                bins[index].append(number)
                if room - item.length < shortest:
                    open_bins.pop(place)
                else:
                    open_bins[place] = (index, room - item.length)
                break
        else:
            bins.append([number])
            if context - item.length >= shortest:
                open_bins.append((len(bins) - 1, context - item.length))
    return bins


def packed_batch(rows: Sequence[Row], bins: Sequence[Sequence[int]], context: int, pad: int) -> Batch:
    """Return one batch, a bin a row: `tokens`, `targets`, `segments`, `positions`, int64 [bins, context].

    Padding has a segment of its own and no loss.
    """
    shape = (len(bins), context)
    tokens, targets = np.full(shape, pad, dtype=np.int64), np.full(shape, IGNORED, dtype=np.int64)
    segments, positions = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for line, numbers in enumerate(bins):
        start = 0
        for segment, number in enumerate(numbers, 1):
            item = rows[number]
            end = start + item.length
            tokens[line, start:end], targets[line, start:end] = item.tokens, item.targets
            segments[line, start:end], positions[line, start:end] = segment, np.arange(item.length)
            start = end
        positions[line, start:] = np.arange(context - start)
    arrays = {"tokens": tokens, "targets": targets, "segments": segments, "positions": positions}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
