"""Column shapes and pair trends beside SDMetrics' own, on two real tables: the largest difference must be under 1e-3.

    pip install sdmetrics && BOTTEGA_DATA=/path/to/data python benchmarks/table_scores_check.py

SDMetrics needs a library under the Business Source Licence, so it is no dependency of ours: make an environment of its
own. BOTTEGA_DATA holds tables/adult-train.csv; without it only scikit-learn's breast-cancer table is compared. The
"synthetic" side is real rows with broken links, missing values and new levels, so that every formula is at work.
"""

from __future__ import annotations

import csv
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bottega.core.table import Column, Schema, Table
from bottega.evaluation.table_shapes import Shapes, compare

ALLOWED = 1e-3
KINDS = {"integer": "numerical", "number": "numerical", "datetime": "datetime", "category": "categorical",
         "boolean": "boolean"}


def table(columns: dict[str, list[Any]], kinds: dict[str, str]) -> Table:
    schema = Schema(columns=[Column(name=name, kind=kinds[name], arrow=str(pa.array(values).type))  # type: ignore[arg-type]
                             for name, values in columns.items()])
    return Table(schema, pa.table({name: pa.array(values) for name, values in columns.items()}))


def spoil(columns: dict[str, list[Any]], kinds: dict[str, str], rng: np.random.Generator) -> dict[str, list[Any]]:
    """Return columns with a third of each shuffled, some values missing and some categories new."""
    spoiled = {}
    for name, values in columns.items():
        new = list(values)
        places = rng.permutation(len(new))[:len(new) // 3]
        for place, value in zip(places, [new[other] for other in rng.permutation(places)], strict=True):
            new[place] = value
        for place in rng.permutation(len(new))[:len(new) // 50]:
            new[place] = None
        if kinds[name] == "category":
            new[int(rng.integers(len(new)))] = "a new level"
        spoiled[name] = new
    return spoiled


def cancer() -> tuple[dict[str, list[Any]], dict[str, str]]:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    columns: dict[str, list[Any]] = {name: data.data[:, place].tolist() for place, name in
                                     enumerate(data.feature_names)}
    columns["benign"] = [bool(value) for value in data.target]
    start = np.datetime64("2020-01-01")
    columns["seen"] = [(start + np.timedelta64(int(place * 37 % 900), "D")).astype("datetime64[us]").item()
                       for place in range(len(data.target))]
    return columns, {name: {"benign": "boolean", "seen": "datetime"}.get(name, "number") for name in columns}


def adult(path: Path) -> tuple[dict[str, list[Any]], dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if len(row) == 15][:20_000]
    columns, kinds = {}, {}
    for place, cells in enumerate(zip(*rows, strict=True)):
        number = all(cell.lstrip("-").isdigit() for cell in cells)
        kinds[f"c{place}"] = "integer" if number else "category"
        columns[f"c{place}"] = [int(cell) if number else (None if cell == "?" else cell) for cell in cells]
    return columns, kinds


def theirs(real: Table, synthetic: Table, kinds: dict[str, str], threshold: bool) -> tuple[Any, float]:
    from sdmetrics.reports import QualityReport

    metadata = {"tables": {"t": {"columns": {name: {"sdtype": KINDS[kind]} for name, kind in kinds.items()}}}}
    report = QualityReport()
    if not threshold:
        report.real_correlation_threshold = report.real_association_threshold = 0
    begin = time.perf_counter()
    report.generate({"t": real.pandas()}, {"t": synthetic.pandas()}, metadata, verbose=False)
    return report, time.perf_counter() - begin


def check(name: str, columns: dict[str, list[Any]], kinds: dict[str, str]) -> float:
    rng = np.random.default_rng(0)
    half = len(next(iter(columns.values()))) // 2
    real = table({key: values[:half] for key, values in columns.items()}, kinds)
    synthetic = table(spoil({key: values[half:] for key, values in columns.items()}, kinds, rng), kinds)
    begin = time.perf_counter()
    ours: Shapes = compare(real, synthetic)
    seconds = time.perf_counter() - begin
    worst, figures = 0.0, []
    for threshold in (False, True):
        report, took = theirs(real, synthetic, kinds, threshold)
        scores = dict(zip(*(report.get_properties()[key] for key in ("Property", "Score")), strict=True))
        figures += [("column shapes", ours.shapes, scores["Column Shapes"]),
                    ("pair trends" + (" of linked pairs" if threshold else ""),
                     ours.linked if threshold else ours.trends, scores["Column Pair Trends"]),
                    ("score", ours.reported if threshold else ours.overall, report.get_score())]
    shapes = report.get_details("Column Shapes").set_index("Column")["Score"]
    figures += [(f"shape of {column.name}", column.score, shapes[column.name]) for column in ours.columns]
    pairs = theirs(real, synthetic, kinds, False)[0].get_details("Column Pair Trends")
    known = {frozenset((row["Column 1"], row["Column 2"])): row["Score"] for _, row in pairs.iterrows()}
    figures += [(f"{pair.one} and {pair.other}", pair.score, known[frozenset((pair.one, pair.other))])
                for pair in ours.pairs]
    for label, mine, other in figures:
        apart = 0.0 if math.isnan(mine) and math.isnan(other) else abs(mine - other)
        worst = max(worst, math.inf if math.isnan(apart) else apart)
        if label.startswith(("column", "pair", "score")) or not apart <= ALLOWED:
            print(f"{name:8} {label:28} ours {mine:.6f}  theirs {other:.6f}  apart {apart:.1e}")
    print(f"{name}: {len(figures)} figures, largest difference {worst:.1e}; ours {seconds:.2f} s, theirs {took:.2f} s")
    return worst


def main() -> int:
    try:
        import sdmetrics
    except ImportError:
        print("sdmetrics is not installed: pip install sdmetrics, in an environment of its own")
        return 2
    print(f"sdmetrics {sdmetrics.__version__}")
    found = [check("cancer", *cancer())]
    file = Path(os.environ.get("BOTTEGA_DATA", "")) / "tables" / "adult-train.csv"
    if file.is_file():
        found.append(check("adult", *adult(file)))
    return 0 if max(found) <= ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
