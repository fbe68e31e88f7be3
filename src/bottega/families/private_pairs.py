"""Pairs of columns under differential privacy: which are worth counting, and their noisy counts.

How dependent every pair is costs a small share of the budget, by one Gaussian mechanism; what is left is shared evenly
among the pairs that pay. `pytest tests/families/test_marginals.py` exercises it.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bottega.families.accounting import Budget, gaussian_rho, gaussian_sigma
from bottega.families.mixtures import Counts
from bottega.families.private_columns import Array, Cells, Ints, Measured, noisy, project

SCORES = 0.05  # share of the budget for choosing pairs
NOISE = 0.25  # deviations per cell that a pair's dependence must exceed to be worth its price
TARGET = 3.0  # how much more a dependence with a target counts


def measure_pairs(codes: list[Ints], cells: list[Cells], measured: list[Measured], total: float, *,
                  names: list[str], targets: list[str], budget: Budget, random: np.random.Generator) -> Counts:
    """Choose pairs of columns and count their groups, spending all that is left; return what was counted.

    Args:
        codes: int64 [N] groups of each column's rows.
        cells, measured: of each column.
        total: noisy number of rows.
        names, targets: of columns.
        budget: charged before each mechanism.
        random: for the noise.
    """
    sizes = tuple(int(cell.group.max()) + 1 for cell in cells)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    ones = [project(np.bincount(cell.group, one.counts, size).astype(np.float64), total)
            for cell, one, size in zip(cells, measured, sizes, strict=True)]
    spread = [np.sqrt(np.bincount(cell.group, np.square(one.sigma), size))
              for cell, one, size in zip(cells, measured, sizes, strict=True)]
    length = sum(sizes)
    counts, precision = np.zeros((length, length), np.float32), np.zeros((length, length), np.float32)
    all_pairs = list(combinations(range(len(sizes)), 2))
    if all_pairs:
        tables = [crossed(codes[i], codes[j], sizes[i], sizes[j]) for i, j in all_pairs]
        expected = [np.outer(ones[i], ones[j]) / total for i, j in all_pairs]
        loud = gaussian_sigma(budget.total * SCORES, math.sqrt(len(all_pairs)))
        budget.charge(f"dependence of {len(all_pairs)} pairs", gaussian_rho(loud, math.sqrt(len(all_pairs))))
        exact = np.array([dependence(one, other) for one, other in zip(tables, expected, strict=True)])
        scores = exact + random.normal(0, loud, len(exact))
        scores -= [np.sqrt(2 / np.pi * one).clip(max=2 * one).sum() for one in expected]  # chance alone
        chosen, deviation = choose(scores, np.array([sizes[i] * sizes[j] for i, j in all_pairs]),
                                   np.array([bool({names[i], names[j]} & set(targets)) for i, j in all_pairs]),
                                   budget.left)
        for index in chosen:
            i, j = all_pairs[index]
            budget.charge(f"counts of '{names[i]}' with '{names[j]}'", gaussian_rho(deviation))
            block = noisy(tables[index], deviation, random)
            rows, columns = slice(starts[i], starts[i] + sizes[i]), slice(starts[j], starts[j] + sizes[j])
            counts[rows, columns], counts[columns, rows] = block, block.T
            precision[rows, columns] = precision[columns, rows] = 1 / max(deviation, 1) ** 2
    return Counts(sizes, np.concatenate(ones).astype(np.float32),
                  np.maximum(np.concatenate(spread), 1).astype(np.float32), counts, precision, total)


def crossed(one: Ints, other: Ints, size: int, more: int) -> Ints:
    """Return the contingency table int64 [size, more] of two columns of codes. A row changes one count by one."""
    return np.bincount(one * more + other, minlength=size * more).reshape(size, more).astype(np.int64)


def dependence(table: Ints, expected: Array) -> float:
    """Return the L1 distance between a contingency table and public counts. A row changes it by at most one."""
    return float(np.abs(table - expected).sum())


def choose(scores: Array, sizes: Ints, wanted: NDArray[np.bool_], rho: float) -> tuple[Ints, float]:
    """Return the pairs to count, and the deviation of their noise when all of rho is shared evenly.

    Pairs are taken by falling gain = (score - NOISE x deviation x cells), TARGET-fold for a target, where the deviation
    grows with the number taken; the number with the largest sum of gains is chosen (the trade of AIM, McKenna et al.
    2022, arXiv 2201.12677, made at once).

    Args:
        scores: float64 [n], noisy dependences.
        sizes: int64 [n], cells of each pair.
        wanted: bool [n], whether a target is in it.
        rho: what may be spent.
    """
    best, answer = -math.inf, (np.zeros(1, np.int64), gaussian_sigma(rho))
    for taken in range(1, len(scores) + 1):
        deviation = gaussian_sigma(rho / taken)
        gains = (scores - NOISE * deviation * sizes) * np.where(wanted, TARGET, 1)
        order = np.argsort(-gains, kind="stable")[:taken]
        if gains[order].sum() > best:
            best, answer = float(gains[order].sum()), (order.astype(np.int64), deviation)
    return answer
