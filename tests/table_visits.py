"""Visits of patients with known dynamics: counts and gaps by severity, a lab value that follows the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

LEVELS = ("low", "mid", "high")
MORE = {"low": 1.0, "mid": 2.5, "high": 5.0}      # mean visits after the first
WAIT = {"low": 60.0, "mid": 30.0, "high": 10.0}   # mean days between visits, less one
KEPT, DRIFT = 0.8, 0.6                            # of the lab value: x' = mean + KEPT (x - mean) + DRIFT noise


def visits(patients: int, seed: int = 0, least: int = 1) -> tuple[pa.Table, pa.Table]:
    """Return patients, and their visits in random order; `least` 0 leaves some without any."""
    draw = np.random.default_rng(seed)
    people, rows = [], []
    for number in range(patients):
        level = LEVELS[draw.choice(3, p=[0.4, 0.35, 0.25])]
        key, mean = f"pé-{number:05}", {"low": 0.0, "mid": 1.0, "high": 2.5}[level]
        people.append((key, int(draw.integers(20, 90)), level))
        value, day = mean + draw.normal(), int(draw.integers(18000, 18700))
        for _ in range(least + draw.poisson(MORE[level])):
            rows.append((key, day, round(10 + value, 2), "A" if draw.random() < 0.6 else "B", day + draw.poisson(3)))
            value = mean + KEPT * (value - mean) + DRIFT * draw.normal()
            day += 1 + draw.poisson(WAIT[level])
    one = dict(zip(("patient_id", "age", "severity"), map(list, zip(*people, strict=True)), strict=True))
    two = dict(zip(("patient_id", "admit", "hb", "drug", "discharge"), zip(*rows, strict=True), strict=True))
    for name in ("admit", "discharge"):
        two[name] = pa.array(np.array(two[name], "datetime64[D]"))
    return pa.table(one), pa.table(two).take(pa.array(draw.permutation(len(rows))))


def joined(patients: pa.Table, rows: pa.Table) -> pa.Table:
    """Return one table of visits with what is known of their patients."""
    return rows.join(patients, "patient_id")


@dataclass(frozen=True)
class Seen:
    """What sequences are like.

    Attributes:
        sizes: rows of each entity, int64 [E].
        levels: severity of each, [E].
        mean, deviation: of `sizes`, by severity.
        follow: correlation of `hb` with the one before, within severities.
        waits: mean days between rows, by severity.
        gaps: all of them.
    """

    sizes: NDArray[np.int64]
    levels: NDArray[Any]
    mean: dict[str, float]
    follow: float
    waits: dict[str, float]
    gaps: NDArray[np.int64]


def seen(table: pa.Table) -> Seen:
    """Return what the rows of one table are like; they need not be sorted."""
    data = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    day = np.array(table["admit"].to_pylist(), "datetime64[D]").astype(np.int64)
    order = np.lexsort((day, data["patient_id"]))
    data, day = {name: values[order] for name, values in data.items()}, day[order]
    _, first, sizes = np.unique(data["patient_id"], return_index=True, return_counts=True)
    after = data["patient_id"][1:] == data["patient_id"][:-1]
    level, value = data["severity"], data["hb"].astype(float).copy()
    for one in LEVELS:
        value[level == one] -= value[level == one].mean()
    gaps, of = np.diff(day)[after], level[1:][after]
    return Seen(sizes, level[first], {one: float(sizes[level[first] == one].mean()) for one in LEVELS},
                float(np.corrcoef(value[1:][after], value[:-1][after])[0, 1]),
                {one: float(gaps[of == one].mean()) for one in LEVELS}, gaps)
