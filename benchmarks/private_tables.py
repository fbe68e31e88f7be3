"""Differentially private rows of Adult: quality, train-on-synthetic AUC and CPU-seconds beside published generators.

    BOTTEGA_DATA=... python benchmarks/private_tables.py [--seeds 3] [--epsilon 1 3 10]

Reads BOTTEGA_DATA/tables/adult-{train,test}.csv: 48,790 distinct rows, 10,000 random ones to learn, 10,000 others held
out. Needs scikit-learn. Shapes and trends are those of SDMetrics' QualityReport before 0.30 against the learned rows.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from itertools import combinations
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa

from bottega.core.table import Column, Schema, Table
from bottega.families.marginals import Marginals

NAMES = ["age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship",
         "race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income"]
RANGES = {"age": (17, 90, 1), "fnlwgt": (0, 1_500_000, 1), "education_num": (1, 16, 1), "capital_gain": (0, 99_999, 1),
          "capital_loss": (0, 5_000, 1), "hours_per_week": (1, 99, 1)}
PEERS = """published on the same protocol (one seed, LightGBM for TSTR and C2ST)
  generator                      epsilon  CPU-s  shapes  trends  quality   TSTR   C2ST
  dpmm MST                             1    129   0.939   0.935    0.937  0.794  0.959
  dpmm MST                             3    124   0.980   0.946    0.963  0.837  0.875
  TabularARGN with DP-SGD              3    368   0.911   0.825    0.868  0.853  0.955"""


def adult(folder: Path) -> tuple[list[list[str]], dict[str, Any]]:
    """Return distinct rows as texts and the public domain: ranges, and levels of adult.names."""
    rows = {tuple(cell.strip().rstrip(".") for cell in line.split(","))
            for part in ("train", "test") for line in (folder / f"adult-{part}.csv").read_text().splitlines()
            if line.count(",") == len(NAMES) - 1}
    ordered = sorted(rows)
    levels = {name: sorted({row[i] for row in ordered}) for i, name in enumerate(NAMES) if name not in RANGES}
    return [list(row) for row in ordered], {**levels, **RANGES}


def table(rows: list[list[str]]) -> Table:
    columns = [Column(name=name, kind="integer" if name in RANGES else "category",
                      arrow="int64" if name in RANGES else "string") for name in NAMES]
    texts = list(zip(*rows, strict=True))
    arrays = [pa.array(list(map(int, values)) if name in RANGES else list(values))
              for name, values in zip(NAMES, texts, strict=True)]
    return Table(Schema(columns=columns), pa.table(arrays, names=NAMES))


def contingency(real: Any, other: Any) -> float:
    """Return 1 - total variation of two lists of pairs of codes."""
    _, codes = np.unique(np.concatenate([real, other]), axis=0, return_inverse=True)
    one, two = (np.bincount(part, minlength=codes.max() + 1) / len(part) for part in np.split(codes, [len(real)]))
    return 1 - float(np.abs(one - two).sum()) / 2


def quality(real: Table, other: Table) -> tuple[float, float]:
    """Return mean column shape and mean pair trend."""
    shapes, trends, binned, values = [], [], {}, {}
    for column in real.schema.columns:
        if column.ordered:
            one, two = values[column.name] = real.values(column.name), other.values(column.name)
            at = np.unique(np.concatenate([one, two]))
            below = [np.searchsorted(np.sort(v), at, "right") / len(v) for v in (one, two)]
            shapes.append(1 - np.abs(below[0] - below[1]).max())
            binned[column.name] = [np.digitize(v, np.histogram_bin_edges(one, 10)[1:-1]) for v in (one, two)]
        else:
            texts = [np.array(t.data[column.name].fill_null("?none").to_pylist()) for t in (real, other)]
            codes = np.unique(np.concatenate(texts), return_inverse=True)[1]
            binned[column.name] = np.split(codes, [len(real)])
            shapes.append(contingency(*(part[:, None] for part in binned[column.name])))
    for i, j in combinations(real.schema.names, 2):
        if i in values and j in values:
            known = [~np.isnan(values[i][k] + values[j][k]) for k in (0, 1)]
            r = [np.corrcoef(values[i][k][known[k]], values[j][k][known[k]])[0, 1] for k in (0, 1)]
            trends.append(1 - abs(r[0] - r[1]) / 2)
        else:
            trends.append(contingency(*(np.stack([binned[i][k], binned[j][k]], 1) for k in (0, 1))))
    return float(np.mean(shapes)), float(np.mean(trends))


def features(*tables: Table, skip: str = "") -> tuple[list[Any], list[bool]]:
    """Return a matrix for each table with common codes of categories, and which features are categories."""
    columns = [c for c in tables[0].schema.columns if c.name != skip]
    out = []
    for column in columns:
        if column.ordered:
            out.append([t.values(column.name) for t in tables])
        else:
            texts = [np.array(t.data[column.name].fill_null("?none").to_pylist()) for t in tables]
            codes = np.unique(np.concatenate(texts), return_inverse=True)[1]
            out.append(np.split(codes.astype(float), np.cumsum([len(t) for t in tables])[:-1]))
    return [np.stack([c[k] for c in out], 1) for k in range(len(tables))], [not c.ordered for c in columns]


def utility(synthetic: Table, held: Table, target: str, positive: str) -> float:
    """Return the AUC on held-out rows of boosted trees trained on synthetic ones."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    (one, two), kinds = features(synthetic, held, skip=target)
    labels = [np.array(t.data[target].to_pylist()) == positive for t in (synthetic, held)]
    model = HistGradientBoostingClassifier(categorical_features=kinds, random_state=0).fit(one, labels[0])
    return float(roc_auc_score(labels[1], model.predict_proba(two)[:, 1]))


def detection(synthetic: Table, held: Table) -> float:
    """Return the AUC, over five folds, of boosted trees that tell synthetic from held-out rows; 0.5 is ideal."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict

    (one, two), kinds = features(synthetic, held)
    labels = np.repeat([1, 0], [len(one), len(two)])
    model = HistGradientBoostingClassifier(categorical_features=kinds, random_state=0)
    mixed = np.concatenate([one, two])
    order = np.random.default_rng(0).permutation(len(mixed))
    chance = cross_val_predict(model, mixed[order], labels[order], cv=5, method="predict_proba")[:, 1]
    return float(roc_auc_score(labels[order], chance))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0, 3.0, 10.0])
    parser.add_argument("--fast", action="store_true", help="leave out C2ST")
    options = parser.parse_args()
    rows, domain = adult(Path(os.environ.get("BOTTEGA_DATA", "../shared/data")) / "tables")
    print(f"{len(rows):,} distinct rows")
    print("  epsilon  seed  fit-s  draw-s  shapes  trends  quality   TSTR   C2ST")
    for epsilon in options.epsilon:
        results = []
        for seed in range(options.seeds):
            order = np.random.default_rng(seed).permutation(len(rows))
            real, held = table([rows[i] for i in order[:10_000]]), table([rows[i] for i in order[10_000:20_000]])
            start = time.process_time()
            model = Marginals.fit(real, domain, epsilon=epsilon, delta=1e-5, seed=seed, targets=["income"])
            middle = time.process_time()
            made = model.sample(10_000, seed=seed)
            end = time.process_time()
            shapes, trends = quality(real, made)
            told = float("nan") if options.fast else detection(made, held)
            results.append((middle - start, end - middle, shapes, trends, (shapes + trends) / 2,
                            utility(made, held, "income", ">50K"), told))
            print(row(epsilon, seed, results[-1]), flush=True)
        print(row(epsilon, "median", [statistics.median(v) for v in zip(*results, strict=True)]))
        print(row(epsilon, "spread", [max(v) - min(v) for v in zip(*results, strict=True)]))
    print(PEERS)


def row(epsilon: float, seed: object, values: Any) -> str:
    return f"  {epsilon:7g}{seed!s:>7}{values[0]:6.1f}{values[1]:8.2f}" + "".join(f"{v:8.3f}" for v in values[2:])


if __name__ == "__main__":
    main()
