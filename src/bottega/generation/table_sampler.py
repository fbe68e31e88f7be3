"""Rows from a `tabular` model, column after column: `generation/tables.py` asks for them.

What is asked for stands first: columns with a fixed code are visible from the start, columns with a set of allowed
codes are drawn next, each from what the ones before leave probable; the rows are then drawn again in proportion to how
probable the allowed sets were for each (sequential importance resampling: Doucet, de Freitas, Gordon 2001, ch. 1), and
only then the free columns follow. Chance is a function of (seed, chunk, column), not of how many rows are wanted.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bottega.families.tabular import Tabular
from bottega.families.tabular_reading import Reading

CHUNK, LARGE = 256, 4096  # rows made together: each chunk has an order of columns of its own
_ORDER, _RESAMPLE, _PLACE = 1 << 20, 1 << 21, 1 << 22  # kinds of chance beside the draws of columns


@dataclass(frozen=True)
class Allowed:
    """Which codes of a column are asked for, and which part of each.

    Attributes:
        codes: bool [size].
        low, high: float32 [size], in (0, 1): the allowed part of each code's interval.
    """

    codes: NDArray[np.bool_]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


@dataclass(frozen=True)
class Drawn:
    """A chunk of rows.

    Attributes:
        codes: int32 [N, D]; places: float32 [N, D].
        probability: how probable the model finds what was asked for, on average.
    """

    codes: NDArray[np.int32]
    places: NDArray[np.float32]
    probability: float


@dataclass
class Sampler:
    """Draws rows of one model.

    Args:
        model: in evaluation mode.
        forbidden: for each column, codes that are never made.
        temperature: 1 is the model's own distribution; lower keeps to the probable.
    """

    model: Tabular
    forbidden: list[list[int]]
    temperature: float = 1.0

    @torch.no_grad()
    def draw(self, rows: int, seed: int, chunk: int, *, asked: Mapping[int, Allowed] | None = None,
             fixed: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.bool_]] | None = None,
             columns: NDArray[np.bool_] | None = None,
             barred: Mapping[int, NDArray[np.bool_]] | None = None) -> Drawn:
        """Draw one chunk.

        Args:
            rows: at most `LARGE`.
            seed, chunk: decide all chance.
            asked: column → what is allowed.
            fixed: codes and places [N, D] and which columns of them are given, bool [D], the same for all rows. With
                `asked`, all rows of it are alike.
            columns: bool [D], which to draw; None for all. Codes of the others say nothing.
            barred: column → codes that a row may not take, bool [N, size]; these columns are drawn first.
        """
        asked, device = asked or {}, self.model.base.mean.device
        count = len(self.model.config.sizes)
        codes = torch.zeros(rows, count, dtype=torch.int64, device=device)
        places = torch.full((rows, count), 0.5, device=device)
        visible = torch.zeros(count, dtype=torch.bool, device=device)
        if fixed is not None:
            codes[:], places[:] = torch.from_numpy(fixed[0].astype(np.int64)), torch.from_numpy(fixed[1])
            visible[:] = torch.from_numpy(fixed[2])
        order = np.random.default_rng([seed, chunk, _ORDER]).permutation(count)
        first = [column for column in order if column in asked and not visible[column]]
        barred = barred or {}
        rest = [column for column in sorted(order, key=lambda column: column not in barred) if column not in asked
                and not visible[column] and (columns is None or columns[column])]
        reading = Reading(self.model, self.model.base_of(codes), rows)
        for column in visible.nonzero()[:, 0].tolist():
            reading.see(column, codes[:, column], places[:, column])
        weight = torch.zeros(rows, dtype=torch.float64, device=device)
        for column in first:
            weight += self._column(int(column), codes, places, reading, seed, chunk, asked[column]).double()
        probability = float(weight.exp().mean()) if first else 1.0
        if len(first) > 1:
            chosen = _systematic(weight, float(np.random.default_rng([seed, chunk, _RESAMPLE]).random()))
            codes, places = codes[chosen], places[chosen]
            reading.take(chosen)
        for column in rest:
            self._column(int(column), codes, places, reading, seed, chunk, None, barred.get(int(column)))
        return Drawn(codes.cpu().numpy().astype(np.int32), places.cpu().numpy(), probability)

    def _column(self, column: int, codes: Tensor, places: Tensor, reading: Reading, seed: int, chunk: int,
                allowed: Allowed | None, barred: NDArray[np.bool_] | None = None) -> Tensor:
        """Draw one column in place and make it visible; return the log-probability of what was allowed, [B]."""
        model, rows = self.model, codes.size(0)
        size, device = model.config.sizes[column], codes.device
        draws = torch.from_numpy(_spread(np.random.default_rng([seed, chunk, column]), rows)).to(device, torch.float32)
        if reading.plain and model.config.ordered[column] and barred is None and self._whole(column, allowed):
            found, spots, values = reading.base.number(column, reading.means, reading.spread(), draws)
            codes[:, column], places[:, column] = found, spots
            reading.see(column, found, spots, values)
            return torch.zeros(rows, device=device)
        logits = reading.logits(column)
        if self.temperature != 1:
            logits = logits / self.temperature if self.temperature > 0 else logits * 1e6
        whole = logits.logsumexp(1) if allowed is not None else None
        if 0 < len(self.forbidden[column]) < size:
            logits[:, self.forbidden[column]] = -torch.inf
        if barred is not None:
            logits[torch.from_numpy(barred).to(device)] = -torch.inf
        low, high = torch.zeros(size, device=device), torch.ones(size, device=device)
        if allowed is not None:
            logits[:, ~torch.from_numpy(allowed.codes).to(device)] = -torch.inf
            low, high = torch.from_numpy(allowed.low).to(device), torch.from_numpy(allowed.high).to(device)
            logits = logits + (high - low).clamp_min(1e-6).log()  # only a part of an end group is asked for
        share = (logits - logits.amax(1, keepdim=True)).exp_().cumsum(1)
        found = (share < draws[:, None] * share[:, -1:]).sum(1).clamp_max(size - 1)
        codes[:, column] = found
        if model.config.ordered[column]:
            inside = _spread(np.random.default_rng([seed, chunk, column + _PLACE]), rows)
            places[:, column] = reading.base.place(column, found, reading.means, reading.spread(),
                                                 torch.from_numpy(inside).to(device, torch.float32), low[found],
                                                 high[found])
        reading.see(column, found, places[:, column])
        return logits.logsumexp(1) - whole if whole is not None else torch.zeros(rows, device=device)

    def _whole(self, column: int, allowed: Allowed | None) -> bool:
        """Return whether all codes of a column may be drawn as the model has them."""
        return allowed is None and self.temperature == 1 and not self.forbidden[column]


def chunks_of(sampler: Sampler, rows: int, seed: int, first: int,
              asked: Mapping[int, Allowed]) -> Generator[Drawn, None, None]:
    """Yield chunks of rows from number `first` on; large ones are drawn ahead, one for each thread of this process.

    Chance is that of each chunk's number, so that it makes no difference how many are drawn at the same time.
    """
    workers = torch.get_num_threads() if rows > CHUNK else 1
    if workers == 1 or sampler.model.base.mean.is_cuda:
        for chunk in itertools.count(first):
            yield sampler.draw(rows, seed, chunk, asked=asked)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        ahead = deque(pool.submit(sampler.draw, rows, seed, first + place, asked=asked) for place in range(workers))
        for chunk in itertools.count(first + workers):
            yield ahead.popleft().result()
            ahead.append(pool.submit(sampler.draw, rows, seed, chunk, asked=asked))
    finally:
        pool.shutdown(cancel_futures=True)


def _spread(rng: np.random.Generator, rows: int) -> NDArray[np.float64]:
    """Return float64 [rows] numbers in [0, 1), one in each of as many equal parts (McKay, Beckman, Conover 1979).

    Each is even by itself; together they bring the shares of a chunk nearer to the model's than free draws would.
    """
    count = max(rows, CHUNK)
    found: NDArray[np.float64] = (rng.permutation(count) + rng.random(count)) / count
    return found[:rows]


def _systematic(log_weight: Tensor, draw: float) -> Tensor:
    """Return int64 [N] rows drawn again in proportion to their weights, evenly spaced (systematic resampling)."""
    weight = (log_weight - log_weight.max()).exp()
    edges = weight.cumsum(0)
    steps = (torch.arange(len(weight), device=weight.device, dtype=torch.float64) + draw) / len(weight) * edges[-1]
    return torch.searchsorted(edges, steps).clamp_max(len(weight) - 1)
