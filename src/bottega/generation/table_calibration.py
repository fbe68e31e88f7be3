"""Bring the shares of what a model makes to those of the rows it learned from. `bottega train` does it at the end.

Small errors add up from column to column: a level that is 24 % of the rows can become 27 % of what is made. So rows are
drawn, and the bias of every code is raised by what it lacks, a few times over (iterative scaling: Deming and Stephan
1940, with the model's own conditionals in place of a table).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bottega.codecs.table import TableCodec
from bottega.core.table import join
from bottega.families.tabular import Tabular
from bottega.generation.table_sampler import CHUNK, Sampler
from bottega.generation.table_sequences import SequenceSampler

_ROUNDS = (0.7, 0.7, 0.5)  # share of what a code lacks that is added
_ROWS = 10_000             # drawn a round, at most
_PRIOR = 10.0              # rows added to both counts: few rows say little
_SEED = 7_919              # of the rows that are drawn, apart from any that people ask for


@torch.no_grad()
def calibrate(model: Tabular, counts: list[NDArray[np.int64]], forbidden: list[list[int]]) -> None:
    """Change the biases of the best network's last layer, unless the network adds nothing to the base.

    Args:
        model: in evaluation mode.
        counts: of each code among the training rows, for each column.
        forbidden: for each column, codes that are never made; their share goes to the others.
    """
    if not bool(model.best.head.weight.any()):
        return
    known = int(counts[0].sum())
    rows = min(_ROWS, max(known, CHUNK)) // CHUNK * CHUNK
    for turn, gain in enumerate(_ROUNDS):
        sampler = Sampler(model, forbidden)
        made = np.concatenate([sampler.draw(CHUNK, _SEED + turn, chunk).codes for chunk in range(rows // CHUNK)])
        _raise(model, counts, [np.bincount(made[:, column], minlength=len(count))
                               for column, count in enumerate(counts)], forbidden, gain)


@torch.no_grad()
def calibrate_sequences(model: Tabular, codec: TableCodec, codes: NDArray[np.int32]) -> None:
    """The same for sequences: the shares of an entity's columns among entities, of a row's among rows.

    A base that is fitted on all rows does not know how the first ones differ, so it is helped even where the network
    adds nothing.

    Args:
        model: in evaluation mode.
        codec: of sequences.
        codes: of the training rows, int32 [N, D], sorted by entity.
    """
    forbidden = [latent.coding.forbidden for latent in codec.latents]
    entities = int(np.clip(_ROWS * codec.entities // len(codes), CHUNK, max(codec.entities, CHUNK)))
    want = _counts(codes, codec)
    for turn, gain in enumerate(_ROUNDS):
        sampler = SequenceSampler(model, codec, seed=_SEED + turn)
        chosen = join([sampler.entities()[0] for _ in range(-(-entities // CHUNK))])
        flat, owner = sampler.roll(chosen)
        assert codec.layout is not None
        made, _ = codec.encode(codec.layout.wide(flat, owner).table)
        _raise(model, want, _counts(made, codec), forbidden, gain)


def _counts(codes: NDArray[np.int32], codec: TableCodec) -> list[NDArray[np.int64]]:
    """Return how often each code of each latent column is drawn for these rows; zeros where it never is."""
    layout = codec.layout
    assert layout is not None
    first = codec.first_rows(codes)
    once, known = codec.within(layout.of_entity), codec.within([*layout.of_entity, *layout.given])
    found = []
    for column, size in enumerate(codec.sizes):
        part = codes[first, column] if once[column] else codes[:0 if known[column] else len(codes), column]
        found.append(np.bincount(part, minlength=size).astype(np.int64))
    return found


def _raise(model: Tabular, wanted: list[NDArray[np.int64]], made: list[NDArray[np.int64]], forbidden: list[list[int]],
           gain: float) -> None:
    """Raise the bias of every code by a part of what it lacks."""
    for column, (count, found) in enumerate(zip(wanted, made, strict=True)):
        allowed = np.ones(len(count), bool)
        allowed[forbidden[column]] = False
        want = count * allowed * (found.sum() / max(1, count[allowed].sum()))
        bias = np.log((want + _PRIOR) / (found + _PRIOR)) * gain
        start, end = model.offsets[column], model.offsets[column + 1]
        model.best.head.bias[start:end] += torch.from_numpy(bias * allowed).to(model.best.head.bias)
