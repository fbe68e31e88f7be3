"""A mixture of independent columns fitted to noisy counts of single columns and of pairs.

A row is a component k, drawn with weight w[k], then every column from its own P[k]; so any condition on any columns is
exact by Bayes' rule. Fitting sees noisy counts only, as in Liu, Vietri & Wu 2021 (arXiv 2106.07153), section 4: it is
post-processing and costs no privacy. `pytest tests/families/test_marginals.py` exercises it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_BETA1, _BETA2, _TINY = 0.9, 0.99, 1e-8  # of Adam


@dataclass(frozen=True)
class Mixture:
    """Components over columns that are laid side by side.

    Attributes:
        log_weights: float32 [K]; logarithms of the weights of components, which sum to one.
        log_levels: float32 [K, L]; logarithms of probabilities, which sum to one over the levels of each column.
        sizes: number of levels of each column; they sum to L.
    """

    log_weights: Floats
    log_levels: Floats
    sizes: tuple[int, ...]

    @property
    def starts(self) -> NDArray[np.intp]:
        """First place [C] of each column."""
        return np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.intp)


@dataclass(frozen=True)
class Counts:
    """Noisy counts to fit, of columns of `sizes` levels laid side by side.

    Attributes:
        sizes: number of levels of each column.
        ones: float32 [L]; counts of single columns, each summing to `total`.
        ones_sigma: float32 [L]; their deviations, at least 1: counts known far better than others stall the fit.
        pairs: float32 [L, L]; symmetric counts of pairs of levels.
        precision: float32 [L, L]; symmetric 1 / variance of `pairs`, 0 where nothing was measured.
        total: number of rows.
    """

    sizes: tuple[int, ...]
    ones: Floats
    ones_sigma: Floats
    pairs: Floats
    precision: Floats
    total: float


def normalise(logits: Floats, sizes: tuple[int, ...]) -> Floats:
    """Return float32 [K, L] logarithms of probabilities: a log-softmax over each column's levels."""
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    heights = np.maximum.reduceat(logits, starts, axis=1)
    shifted = logits - np.repeat(heights, sizes, axis=1)
    sums = np.log(np.add.reduceat(np.exp(shifted), starts, axis=1))
    return np.asarray(shifted - np.repeat(sums, sizes, axis=1), np.float32)


def fit(counts: Counts, *, components: int, steps: int, rate: float, spread: float, pull: float,
        random: np.random.Generator) -> Mixture:
    """Return the mixture of greatest penalised likelihood that Adam finds from near independence.

    Minimises sum (model - noisy)^2 / (2 sigma^2) over counts, plus `pull` times `total` times the mean divergence of
    components from the single columns, which keeps noise from being learned.

    Args:
        counts: what was measured.
        components: K.
        steps, rate: of Adam; the rate falls to zero along a cosine.
        spread: deviation of the logits around those of the single columns at the start.
        pull: strength of the prior.
        random: for the start.
    """
    sizes, total = counts.sizes, np.float32(counts.total)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    prior = np.log(np.maximum(counts.ones / total, 1e-7)).astype(np.float32)
    logits = prior + random.normal(0, spread, (components, len(prior))).astype(np.float32)
    mix = np.zeros((components, 1), np.float32)
    ones_precision = 1 / np.square(counts.ones_sigma)
    states = [(value, np.zeros_like(value), np.zeros_like(value)) for value in (logits, mix)]
    for step in range(steps):
        logs = normalise(logits, sizes)
        levels = np.exp(logs)
        weights = np.exp(mix - mix.max())
        weights /= weights.sum()
        weighted = weights * levels
        residual = counts.precision * (total * (levels.T @ weighted) - counts.pairs)
        single = ones_precision * (total * weighted.sum(0) - counts.ones)
        inner = levels @ residual + single + pull * (logs - prior + 1)  # d loss / d (total weighted)
        by_column = np.add.reduceat(levels * inner, starts, axis=1)
        slope = total * weights * levels * (inner - np.repeat(by_column, sizes, axis=1))
        # each pair stands twice in `residual`; a component's weight moves all its columns
        per_weight = (levels * ((levels @ residual) / 2 + single + pull * (logs - prior))).sum(1, keepdims=True)
        slope_mix = total * weights * (per_weight - (weights * per_weight).sum())
        now = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
        for (value, mean, square), gradient in zip(states, (slope, slope_mix), strict=True):
            mean *= _BETA1
            mean += (1 - _BETA1) * gradient
            square *= _BETA2
            square += (1 - _BETA2) * np.square(gradient)
            value -= now * (mean / (1 - _BETA1 ** (step + 1))) / (np.sqrt(square / (1 - _BETA2 ** (step + 1))) + _TINY)
    log_weights = mix[:, 0] - mix.max()
    log_weights -= np.log(np.exp(log_weights).sum())
    return Mixture(log_weights.astype(np.float32), normalise(logits, sizes), sizes)


def draw(log_weights: Floats, log_levels: Floats, sizes: tuple[int, ...], rows: int,
         random: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return the level int64 [rows] of every column, rows in random order.

    Sampling is systematic: each level of a component comes as often as expected, to within one row, so a table shows
    less chance than independent rows would.

    Args:
        log_weights, log_levels, sizes: as of a `Mixture`, or of one under conditions.
        rows: at least one.
        random: consumed.
    """
    weights = np.exp(log_weights.astype(np.float64))
    component = _systematic(weights, rows, random)
    per = np.bincount(component, minlength=len(weights))
    order = random.permutation(rows)
    columns = []
    start = 0
    for size in sizes:
        inside = np.exp(log_levels[:, start:start + size].astype(np.float64))
        inside *= (per / inside.sum(1))[:, None]
        level = _systematic(inside.ravel(), rows, random) % size
        within = np.lexsort((random.random(rows), component))  # shuffles inside each component
        columns.append(level[within][order])
        start += size
    return columns


def _systematic(weights: NDArray[np.float64], rows: int, random: np.random.Generator) -> NDArray[np.int64]:
    ends = np.cumsum(weights)
    at = (np.arange(rows) + random.random()) * (ends[-1] / rows)
    last = int(np.flatnonzero(weights)[-1])
    found: NDArray[np.int64] = np.minimum(np.searchsorted(ends, at, "right"), last).astype(np.int64)
    return found


def pick(group: NDArray[np.int64], share: NDArray[np.float64], of: NDArray[np.int64],
         random: np.random.Generator) -> NDArray[np.int64]:
    """Return a cell int64 [N] for each row's group, as systematically as `draw`.

    Args:
        group: int64 [n] of cells.
        share: float64 [n] of cells, not negative, with some above zero in each group that occurs.
        of: int64 [N], the groups wanted.
        random: consumed.
    """
    found = np.zeros(len(of), np.int64)
    order = np.lexsort((random.random(len(of)), of))
    wanted, first = np.unique(of[order], return_index=True)
    for number, rows in zip(wanted, np.split(order, first[1:]), strict=True):
        inside = np.flatnonzero(group == number)
        found[rows] = inside[_systematic(share[inside], len(rows), random)]
    return found
