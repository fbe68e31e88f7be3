"""A differentially private generator of tables: noisy counts of columns and pairs, and a mixture that agrees with them.

    model = Marginals.fit(table, {"age": (17, 90, 1), "sex": ["Female", "Male"]}, epsilon=3, delta=1e-5, seed=0)
    model.sample(1000, seed=1, conditions={"age": (30, 40)})

Unit of privacy: one row; neighbouring tables differ by one row that is there or not. Rows are read by three
mechanisms only, each Gaussian: counts of a column, how dependent each pair of columns is, counts of chosen pairs. All else
sees noisy numbers. Noise is float64 Gaussian, rounded to whole counts: the proof is about real numbers, and the low bits of
floats are not covered by it. `seed` draws the noise, so it must stay secret: it is neither saved nor printed.
`python benchmarks/private_tables.py` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import InputError, suggest
from bottega.core.table import Column, Schema, Table
from bottega.families.accounting import Budget, gaussian_rho, gaussian_sigma
from bottega.families.mixtures import Counts, Floats, Mixture, draw, pick
from bottega.families.mixtures import fit as fit_mixture
from bottega.families.private_columns import (
    Array,
    Cells,
    Domain,
    Ints,
    Measured,
    Range,
    arrow,
    depth_of,
    domain_of,
    group,
    measure,
    noisy,
    places,
    project,
    restrict,
    runs,
)

ONES, SCORES = 0.3, 0.05  # shares of the budget for single columns and for choosing pairs; pairs get what is left
GROUPS = 12  # of an ordered column, besides spikes
LEAST = 3.0  # deviations of a single count that a group should reach
NOISE = 0.5  # deviations per cell that a pair's dependence must exceed to be worth its price
TARGET = 3.0  # how much more a dependence with a target counts
COMPONENTS, STEPS, RATE, SPREAD, PULL = 256, 400, 0.1, 0.5, 0.02


@dataclass(frozen=True)
class Marginals:
    """A fitted generator.

    Attributes:
        schema: public columns of what it makes.
        domains: public domain of each column.
        cells: of each column.
        mixture: over groups of cells.
        budget: what was spent.
        total: noisy number of rows.
        targets: public hint that was given.
        left_out: columns that are not learned and not made.
    """

    schema: Schema
    domains: list[Domain]
    cells: list[Cells]
    mixture: Mixture
    budget: Budget
    total: float
    targets: list[str]
    left_out: list[str]

    @classmethod
    def fit(cls, table: Table, domain: Mapping[str, Any], *, epsilon: float, delta: float, seed: int,
            targets: Sequence[str] = ()) -> Marginals:
        """Learn a table under (epsilon, delta)-differential privacy for each row.

        Args:
            table: names, kinds and Arrow types of its columns are taken as public; ids and texts are left out.
            domain: by column, the list of levels of a coded one, (low, high, step) of an ordered one: public knowledge.
            epsilon, delta: the guarantee.
            seed: of the noise; whoever knows it can take the noise away.
            targets: public hint: columns whose links with others matter most.

        Raises:
            InputError: a domain is missing or unfit, a target is no learned column, epsilon or delta out of range, or
                there is nothing to learn.
        """
        columns = table.schema.learned
        if not columns:
            raise InputError("the table has no column that can be learned", fix="give numbers, times or categories")
        for target in targets:
            if target not in [column.name for column in columns]:
                raise InputError(f"target '{target}' is no learned column",
                                 fix=suggest(target, [column.name for column in columns]))
        domains = [domain_of(column, domain) for column in columns]
        budget, random = Budget(epsilon, delta), np.random.default_rng(seed)
        found = [places(table, column, own) for column, own in zip(columns, domains, strict=True)]
        measured, sigma = _singles(found, domains, columns, budget, random)
        total = max(1.0, _total(measured))
        cells = [group(one, column.ordered, total, GROUPS, LEAST * sigma)
                 for one, column in zip(measured, columns, strict=True)]
        codes = [cell.group[cell.find(points)] for cell, points in zip(cells, found, strict=True)]
        counts = _pairs(codes, cells, measured, total, sigma, [column.name in targets for column in columns],
                        [column.name for column in columns], budget, random)
        mixture = fit_mixture(counts, components=COMPONENTS, steps=STEPS, rate=RATE, spread=SPREAD, pull=PULL, random=random)
        left_out = [column.name for column in table.schema.columns if column not in columns]
        return cls(Schema(columns=[public(*both) for both in zip(columns, domains, strict=True)]), domains, cells, mixture, budget, total, list(targets), left_out)


    def sample(self, rows: int, *, seed: int, conditions: Mapping[str, Any] | None = None) -> Table:
        """Return fresh rows; costs no privacy. Same seed, same rows.

        Args:
            rows: how many.
            seed: of the draw.
            conditions: by column: a value, a list of values, or (low, high) of an ordered column; None is missing. Exact.

        Raises:
            InputError: `rows` is below one, a column or level is unknown, or a number is outside the domain.
        """
        if rows < 1:
            raise InputError(f"{rows} rows cannot be made", fix="ask for at least one")
        for name in conditions or {}:
            self.schema.column(name)
        cells, weights = list(self.cells), self.mixture.log_weights.astype(np.float64)
        levels = self.mixture.log_levels.astype(np.float64)
        for index, (column, domain) in enumerate(zip(self.schema.columns, self.domains, strict=True)):
            if conditions is None or column.name not in conditions:
                continue
            cells[index] = restrict(cells[index], runs(column, domain, conditions[column.name]))
            start, size = self.mixture.starts[index], self.mixture.sizes[index]
            chance = np.bincount(cells[index].group, cells[index].share, size)
            with np.errstate(divide="ignore"):
                levels[:, start:start + size] += np.log(chance)
            heights = levels[:, start:start + size].max(1, keepdims=True)
            sums = heights[:, 0] + np.log(np.exp(levels[:, start:start + size] - heights).sum(1))
            levels[:, start:start + size] -= sums[:, None]
            weights += sums
        random = np.random.default_rng(seed)
        groups = draw(weights - weights.max(), levels, self.mixture.sizes, rows, random)
        arrays = []
        for column, domain, cell, of in zip(self.schema.columns, self.domains, cells, groups, strict=True):
            at = pick(cell.group, cell.share, of, random)
            points = cell.first[at] + np.floor(random.random(rows) * cell.length[at]).astype(np.int64)
            arrays.append(arrow(column, domain, points))
        import pyarrow as pa

        return Table(self.schema, pa.table(arrays, names=self.schema.names))


def _singles(found: list[Ints], domains: list[Domain], columns: list[Column], budget: Budget,
             random: np.random.Generator) -> tuple[list[Measured], float]:
    """Return noisy counts of each column and the deviation of one; unused histograms are left to the pairs."""
    pairs = len(columns) > 1
    sigma = gaussian_sigma(budget.total * (ONES if pairs else 1) / sum(map(depth_of, domains)))
    measured = []
    for points, own, column in zip(found, domains, columns, strict=True):
        charge = partial(budget.charge, f"counts of '{column.name}'", gaussian_rho(sigma))
        measured.append(measure(points, own, sigma, random, charge))
    return measured, sigma


def _total(measured: list[Measured]) -> float:
    """Return the number of rows as all columns together tell it, weighted by precision."""
    sums = np.array([one.counts.sum() for one in measured])
    precision = 1 / np.array([np.square(one.sigma).sum() for one in measured])
    return float((sums * precision).sum() / precision.sum())


def _pairs(codes: list[Ints], cells: list[Cells], measured: list[Measured], total: float, sigma: float,
           wanted: list[bool], names: list[str], budget: Budget, random: np.random.Generator) -> Counts:
    """Choose pairs of columns and count their groups; return all that was counted, for `mixtures.fit`."""
    sizes = tuple(int(cell.group.max()) + 1 for cell in cells)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    ones = [project(np.bincount(cell.group, one.counts, size), total)
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
                                   np.array([wanted[i] or wanted[j] for i, j in all_pairs]), budget.left)
        for index in chosen:
            i, j = all_pairs[index]
            budget.charge(f"counts of '{names[i]}' with '{names[j]}'", gaussian_rho(deviation))
            block = noisy(tables[index], deviation, random)
            rows, columns = slice(starts[i], starts[i] + sizes[i]), slice(starts[j], starts[j] + sizes[j])
            counts[rows, columns], counts[columns, rows] = block, block.T
            precision[rows, columns] = precision[columns, rows] = 1 / deviation**2
    return Counts(sizes, np.concatenate(ones).astype(np.float32), np.concatenate(spread).astype(np.float32), counts,
                  precision, total)


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


def public(column: Column, domain: Domain) -> Column:
    """Return what may be told of a column: name, kind, Arrow type, and the domain that was given."""
    if isinstance(domain, Range):
        return Column(name=column.name, kind=column.kind, arrow=column.arrow, low=domain.low, high=domain.high)
    return Column(name=column.name, kind=column.kind, arrow=column.arrow, levels=list(domain))
