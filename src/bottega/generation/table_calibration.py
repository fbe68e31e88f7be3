"""Bring the shares of what a model makes to those of the rows it learned from. `bottega train` does it at the end.

Small errors add up from column to column: a level that is 24 % of the rows can become 27 % of what is made. So rows are
drawn, and the bias of every code is raised by what it lacks, a few times over (iterative scaling: Deming and Stephan
1940, with the model's own conditionals in place of a table).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bottega.families.tabular import Tabular
from bottega.generation.table_sampler import CHUNK, Sampler

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
        for column, count in enumerate(counts):
            allowed = np.ones(len(count), bool)
            allowed[forbidden[column]] = False
            want = count * allowed * (rows / max(1, count[allowed].sum()))
            have = np.bincount(made[:, column], minlength=len(count))
            bias = np.log((want + _PRIOR) / (have + _PRIOR)) * gain
            start, end = model.offsets[column], model.offsets[column + 1]
            model.best.head.bias[start:end] += torch.from_numpy(bias * allowed).to(model.best.head.bias)
