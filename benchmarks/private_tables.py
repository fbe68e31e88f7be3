"""Differentially private rows of Adult: quality, use and processor-seconds beside published generators.

    BOTTEGA_DATA=/path/to/data python benchmarks/private_tables.py --seeds 0 1 2 --epsilon 1 3 10

10,000 of Adult's distinct rows are learned and 10,000 others held out, as in tables.py, under delta 1e-5. The public
domain is that of the set's description: ranges of numbers, and the levels that appear anywhere in it. Writes the
section `private-tables`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from _report import machine, update
from _table_data import SETS, read_table, split

from bottega.core.table import Table
from bottega.evaluation.table_detection import detection
from bottega.evaluation.table_shapes import compare
from bottega.evaluation.table_utility import utility
from bottega.families.marginals import Marginals

RANGES = {"age": (17, 90, 1), "fnlwgt": (0, 1_500_000, 1), "education_num": (1, 16, 1), "capital_gain": (0, 99_999, 1),
          "capital_loss": (0, 5_000, 1), "hours_per_week": (1, 99, 1)}
COLUMNS = ("fit CPU s", "shapes", "trends", "quality", "target", "told apart")
# measured once with their own programs on a split of the same rows, judged by other trees
PEERS = {("dpmm MST", 1): (129, .939, .935, .937, .794, .959), ("dpmm MST", 3): (124, .980, .946, .963, .837, .875),
         ("TabularARGN with DP-SGD", 3): (368, .911, .825, .868, .853, .955)}


def measured(whole: Table, domain: dict[str, Any], epsilon: float, seed: int) -> tuple[float, ...]:
    """Return the figures of COLUMNS for one split, fit and draw."""
    real, held, _ = split(whole, SETS["adult"].most, seed)
    began = time.process_time()
    model = Marginals.fit(real, domain, epsilon=epsilon, delta=1e-5, seed=seed, targets=["income"])
    fitted = time.process_time() - began
    made = model.sample(len(real), seed=seed)
    shapes = compare(real, made)
    (target,) = utility({"made": made}, held, targets=["income"], seed=seed)
    return (fitted, shapes.shapes, shapes.trends, (shapes.shapes + shapes.trends) / 2, target.scores["made"],
            detection(made, held, seed=seed)["value"])


def line(name: str, epsilon: float, cells: list[str]) -> str:
    """Return a row of the table."""
    return f"| {name} | {epsilon:g} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("BOTTEGA_DATA"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0, 3.0, 10.0])
    arguments = parser.parse_args()
    if arguments.data is None or not SETS["adult"].there(Path(arguments.data)):
        raise SystemExit("the tables are not there: set BOTTEGA_DATA")
    whole = read_table("adult", Path(arguments.data))
    domain = {column.name: RANGES.get(column.name) or whole.codes(column.name)[1] for column in whole.schema.columns}
    lines = ["## Rows under differential privacy", "",
             f"`python benchmarks/private_tables.py` on {machine()}, 1 thread. Adult, 10,000 rows to learn and as many "
             f"held out, delta 1e-5; medians over seeds {', '.join(map(str, arguments.seeds))} (lowest to highest); "
             "figures as in tables.py. The others were measured once, on a split of the same rows, by other trees.", "",
             f"| | epsilon | {' | '.join(COLUMNS)} |", f"|---|--:|{'--:|' * len(COLUMNS)}"]
    for epsilon in arguments.epsilon:
        found = [measured(whole, domain, epsilon, seed) for seed in arguments.seeds]
        cells = [f"{statistics.median(values):.3f} ({min(values):.3f}–{max(values):.3f})"
                 for values in zip(*found, strict=True)]
        lines.append(line("**Bottega**", epsilon, cells))
        print(lines[-1], file=sys.stderr, flush=True)
        lines += [line(name, other, [f"{value:g}" for value in figures])
                  for (name, other), figures in PEERS.items() if other == epsilon]
    print("\n".join(lines))
    update("private-tables", "\n".join(lines))


if __name__ == "__main__":
    main()
