"""The attacks of anonymeter, run in an environment of their own by table_attacks.py.

    python benchmarks/_anonymeter.py FOLDER NAME SEED   # reads train, held and NAME.parquet; prints JSON

Prints attack → success, control, and risk with its ends as `results` gives them: (success - control) / (1 - control),
cut at zero. Of inference, the mean over columns.
"""

from __future__ import annotations

import json
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ATTACKS, COLUMNS, NEIGHBOURS = 500, 4, 5  # as many columns and neighbours as our attacks use


def read(path: Path) -> pd.DataFrame:
    """Return rows, missing categories as a level of their own: its comparisons take no gaps."""
    table = pd.read_parquet(path)
    for name in table.columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            table[name] = table[name].astype(object).where(table[name].notna(), "missing").astype(str)
    return table


def told(evaluator: Any) -> list[float]:
    """Return success, control, risk, low and high."""
    found = evaluator.results()
    return [found.attack_rate.value, found.control_rate.value, found.risk().value, *found.risk().ci]


def attacks(train: pd.DataFrame, held: pd.DataFrame, made: pd.DataFrame, seed: int) -> dict[str, list[float]]:
    """Run every attack that is possible."""
    from anonymeter.evaluators import InferenceEvaluator, LinkabilityEvaluator, SinglingOutEvaluator

    tries = min(ATTACKS, len(train), len(held))
    found = {}
    for mode, name in (("univariate", "singling out, one column"), ("multivariate", "singling out, several columns")):
        try:
            found[name] = told(SinglingOutEvaluator(ori=train, syn=made, control=held, n_attacks=tries, n_cols=COLUMNS,
                                                    max_attempts=100_000, seed=seed).evaluate(mode=mode))
        except RuntimeError as error:
            print(f"{name}: {error}", file=sys.stderr)
    columns = list(train.columns)
    random.Random(seed).shuffle(columns)
    halves = columns[:len(columns) // 2], columns[len(columns) // 2:]
    linked = LinkabilityEvaluator(ori=train, syn=made, control=held, n_attacks=tries, aux_cols=halves,
                                  n_neighbors=NEIGHBOURS)
    found["linkability"] = told(linked.evaluate(n_jobs=1))
    guessed = [told(InferenceEvaluator(ori=train, syn=made, control=held, secret=secret, n_attacks=tries,
                                       aux_cols=[name for name in train.columns if name != secret],
                                       regression=pd.api.types.is_numeric_dtype(train[secret])).evaluate(n_jobs=1))
               for secret in train.columns]
    found["inference"] = np.mean(guessed, axis=0).tolist()
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.random.seed(int(sys.argv[3]))
    folder = Path(sys.argv[1])
    tables = [read(folder / f"{name}.parquet") for name in ("train", "held", sys.argv[2])]
    print(json.dumps(attacks(*tables, seed=int(sys.argv[3]))))
