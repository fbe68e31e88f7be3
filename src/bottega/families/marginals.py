"""A differentially private generator of tables: noisy counts of columns and pairs, and a mixture that agrees with them.

    model = Marginals.fit(table, {"age": (17, 90, 1), "sex": ["Female", "Male"]}, epsilon=3, delta=1e-5, seed=0)
    model.sample(1000, seed=1, conditions={"age": (30, 40)})

Unit of privacy: one row; neighbouring tables differ by one row that is there or not. Rows are read by three
mechanisms only, each Gaussian: counts of a column, how dependent each pair of columns is, counts of chosen pairs. All
else sees noisy numbers.
Noise is float64 Gaussian, rounded to whole counts: the proof is about real numbers, and the low bits of floats are not
covered by it. `seed` draws the noise, so it must stay secret: it is neither saved nor printed.
`python benchmarks/private_tables.py` measures it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bottega.core.errors import CorruptError, InputError, suggest
from bottega.core.files import write_atomic, write_json
from bottega.core.table import Column, Schema, Table
from bottega.families.accounting import Budget, gaussian_rho, gaussian_sigma
from bottega.families.mixtures import Mixture, draw, pick
from bottega.families.mixtures import fit as fit_mixture
from bottega.families.private_columns import (
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
    places,
    restrict,
    runs,
)
from bottega.families.private_pairs import measure_pairs
from bottega.families.weights import CONFIG, WEIGHTS, read_config

ONES = 0.3  # share of the budget for single columns
GROUPS = 12  # of an ordered column, besides spikes
LEAST = 3.0  # deviations of a single count that a group should reach
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
        # two streams: what the mixture starts from is published in its weights and must say nothing of the noise
        budget, (random, start) = Budget(epsilon, delta), np.random.default_rng(seed).spawn(2)
        found = [places(table, column, own) for column, own in zip(columns, domains, strict=True)]
        measured, sigma = _singles(found, domains, columns, budget, random)
        total = max(1.0, _total(measured))
        cells = [group(one, column.ordered, total, GROUPS, LEAST * sigma)
                 for one, column in zip(measured, columns, strict=True)]
        codes = [cell.group[cell.find(points)] for cell, points in zip(cells, found, strict=True)]
        counts = measure_pairs(codes, cells, measured, total, names=[column.name for column in columns],
                               targets=list(targets), budget=budget, random=random)
        mixture = fit_mixture(counts, components=COMPONENTS, steps=STEPS, rate=RATE, spread=SPREAD, pull=PULL,
                              random=start)
        left_out = [column.name for column in table.schema.columns if column not in columns]
        schema = Schema(columns=[public(*both) for both in zip(columns, domains, strict=True)])
        return cls(schema, domains, cells, mixture, budget, total, list(targets), left_out)


    def sample(self, rows: int, *, seed: int, conditions: Mapping[str, Any] | None = None) -> Table:
        """Return fresh rows; costs no privacy. Same seed, same rows.

        Args:
            rows: how many.
            seed: of the draw.
            conditions: exact; by column: a value, a list of values, or (low, high) of an ordered one; None is missing.

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

    @property
    def ledger(self) -> list[tuple[str, float]]:
        """What each mechanism cost, in rho of zero-concentrated privacy."""
        return list(self.budget.ledger)

    def privacy_card(self) -> dict[str, Any]:
        """Return what is guaranteed, to whom, at what price, and what was taken as public, as plain JSON values."""
        return {
            "epsilon": self.budget.epsilon, "delta": self.budget.delta, "epsilon_spent": self.budget.epsilon_spent,
            "unit": "one row", "neighbouring": "one row is there or not (add or remove)",
            "accounting": "zero-concentrated differential privacy",
            "rho": {"total": self.budget.total, "spent": self.budget.spent},
            "ledger": [{"mechanism": f"Gaussian: {name}", "rho": rho} for name, rho in self.ledger],
            "public": {"columns": [column.model_dump(include={"name", "kind", "arrow"})
                                   for column in self.schema.columns],
                       "domain": {column.name: asdict(domain) if isinstance(domain, Range) else list(domain)
                                  for column, domain in zip(self.schema.columns, self.domains, strict=True)},
                       "targets": self.targets, "left_out": self.left_out},
            "caveats": ["noise is drawn in float64, whose low bits the proof does not cover",
                        "the seed of `fit` must stay secret", "a person with several rows is protected less"],
        }

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors: noisy and public values only.

        Raises:
            ResourceError: the disk is full.
        """
        from safetensors.numpy import save_file

        tensors = {"log_weights": self.mixture.log_weights, "log_levels": self.mixture.log_levels}
        for index, cell in enumerate(self.cells):
            tensors |= {f"cells.{index}.{name}": value for name, value in vars(cell).items()}
        write_json(folder / CONFIG, {
            "schema": self.schema.model_dump(), "epsilon": self.budget.epsilon, "delta": self.budget.delta,
            "ledger": self.ledger, "total": self.total, "targets": self.targets, "left_out": self.left_out,
            "sizes": self.mixture.sizes,
            "domains": [asdict(one) if isinstance(one, Range) else one for one in self.domains]})
        write_atomic(folder / WEIGHTS, lambda path: save_file(tensors, path))

    @classmethod
    def load(cls, folder: Path) -> Marginals:
        """Read what `save` wrote.

        Raises:
            InputError: a file is not there.
            CorruptError: a file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        facts = read_config(folder)
        if not (folder / WEIGHTS).is_file():
            raise InputError(f"{folder / WEIGHTS} is not there", fix="check the path")
        try:
            tensors = load_file(folder / WEIGHTS)
            schema = Schema.model_validate(facts["schema"])
            cells = [Cells(*(tensors[f"cells.{index}.{field.name}"] for field in fields(Cells)))
                     for index in range(len(schema.columns))]
            mixture = Mixture(tensors["log_weights"], tensors["log_levels"], tuple(facts["sizes"]))
            budget = Budget(facts["epsilon"], facts["delta"])
            budget.ledger.extend((str(name), float(rho)) for name, rho in facts["ledger"])
            domains = [Range(**one) if isinstance(one, dict) else tuple(one) for one in facts["domains"]]
            return cls(schema, domains, cells, mixture, budget, facts["total"], facts["targets"], facts["left_out"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CorruptError(f"{folder} is damaged: {error}", fix="restore it or fit again") from error


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


def public(column: Column, domain: Domain) -> Column:
    """Return what may be told of a column: name, kind, Arrow type, and the domain that was given."""
    if isinstance(domain, Range):
        return Column(name=column.name, kind=column.kind, arrow=column.arrow, low=domain.low, high=domain.high)
    return Column(name=column.name, kind=column.kind, arrow=column.arrow, levels=list(domain))
