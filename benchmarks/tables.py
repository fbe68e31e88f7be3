"""Rows made by Bottega beside those of other generators, on the same rows and in the same scores.

    BOTTEGA_DATA=/path/to/data python benchmarks/tables.py --seeds 0 1 2 --mostly-python /path/to/venv/bin/python
    python benchmarks/tables.py --quick                      # breast cancer, one seed; writes nothing

Each generator runs in a process of its own (`_table_peers.py`), peers in environments of their own
(`requirements-sdv.txt`, `requirements-mostly.txt`; leave out what is not there); all are given the same rows and
judged beside as many others. Rows and scores are kept in `--folder` and taken as they are: remove it after a change of
the code.
Reference rows stand below, for the first seed: sequential trees, fresh real rows, independent columns, a
bootstrap copy. Writes the section `tables`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from _report import machine, update
from _table_data import COMPARED, SETS, Set, kinds, read_table, split, write
from _table_trees import trees

from bottega.core.table import Table
from bottega.evaluation.table_detection import detection
from bottega.evaluation.table_privacy import privacy
from bottega.evaluation.table_references import copied, independent
from bottega.evaluation.table_shapes import compare
from bottega.evaluation.table_utility import utility

PEERS = {"mostly": "MOSTLY AI engine", "copula": "SDV GaussianCopula", "tvae": "SDV TVAE", "ctgan": "SDV CTGAN"}
NAMES = {"bottega": "**Bottega**", **PEERS, "trees": "*sequential trees, leaf 5*",
         "fresh": "*fresh real rows*", "independent": "*independent columns*",
         "copy": "*bootstrap copy*"}
COLUMNS = {"shapes": "shapes", "trends": "trends", "quality": "quality", "told": "told apart", "target": "target",
           "closer": "closer to training", "membership": "membership", "copies": "copies", "links": "links broken",
           "fit": "fit CPU s", "sample": "sample CPU s"}


def made_by(name: str, python: str, folder: Path, seed: int) -> dict[str, float] | None:
    """Return processor-seconds of a generator, run now or before; None when it failed."""
    cost = folder / f"{name}.cost.json"
    if not (cost.is_file() and cost.stat().st_size and (folder / f"{name}.parquet").is_file()):
        print(f"{folder.name}: {name} …", file=sys.stderr, flush=True)
        done = subprocess.run([python, str(Path(__file__).with_name("_table_peers.py")), name, str(folder), str(seed)],
                              capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
        if done.returncode:
            print(f"{folder.name}: {name} failed: {done.stderr.strip().splitlines()[-1][:200]}", file=sys.stderr)
            return None
        cost.write_text(done.stdout.strip().splitlines()[-1])
    found: dict[str, float] = json.loads(cost.read_text())
    return found


def read_back(path: Path, like: Table) -> Table:
    """Return a generator's rows in the types of the real ones."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    data, columns = pq.read_table(path), {}
    for field in like.data.schema:
        column = data[field.name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_string(field.type):
            column = pc.cast(column, pa.string())
        columns[field.name] = pc.cast(column, field.type, safe=False)
    return Table(like.schema, pa.table(columns))


def judge(made: Table, train: Table, held: Table, one: Set, seed: int) -> dict[str, float]:
    """Return the scores of rows: shapes and trends against the training rows, the rest against held-out ones."""
    shapes, near = compare(train, made), privacy(made, train, held, seed=seed)
    told = detection(made, held, seed=seed)
    keep = [name for name in train.schema.names if name not in one.twins]
    parts = [Table(table.schema.model_copy(update={"columns": [table.schema.column(name) for name in keep]}),
                   table.data.select(keep)) for table in (made, held)]
    (target,) = utility({"made": parts[0]}, parts[1], targets=[one.target], seed=seed)
    broken = [linked(made, train, *link) for link in one.links]
    return {"shapes": shapes.shapes, "trends": shapes.trends, "quality": (shapes.shapes + shapes.trends) / 2,
            "told": told["value"], "target": target.scores["made"], "closer": near.closer["value"],
            "membership": near.membership["value"], "copies": near.copies["value"],
            "links": float(np.mean(broken)) if broken else float("nan")}


def linked(made: Table, train: Table, key: str, column: str) -> float:
    """Return the share of rows whose pair of values no training row has."""
    pairs = [set(zip(*(table.data[name].to_pylist() for name in (key, column)), strict=True)) for table in (train,)]
    rows = zip(*(made.data[name].to_pylist() for name in (key, column)), strict=True)
    return float(np.mean([row not in pairs[0] for row in rows]))


def measured(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return generator → scores for one table and one split."""
    one, folder = SETS[name], arguments.folder / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    train, held, fresh = split(read_table(name, arguments.data), one.most, seed)
    write(train, folder / "train.parquet")
    (folder / "kinds.json").write_text(json.dumps(kinds(train)))
    pythons = {"bottega": sys.executable, "mostly": arguments.mostly_python,
               **dict.fromkeys(("copula", "tvae", "ctgan"), arguments.sdv_python)}
    rows: dict[str, tuple[Table, dict[str, float]]] = {}
    for generator, python in pythons.items():
        wanted = python and generator in arguments.generators
        cost = made_by(generator, str(python), folder, seed) if wanted else None
        if cost is not None:
            rows[generator] = (read_back(folder / f"{generator}.parquet", train), cost)
    if seed == arguments.seeds[0]:
        rows["trees"] = (trees(train, len(train), seed), {})
        if len(fresh) >= 50:  # fewer tell nothing
            rows["fresh"] = (fresh, {})
        rows["independent"] = (independent(train, len(train), seed), {})
        rows["copy"] = (copied(train, len(train), seed), {})
    found = {}
    for generator, (table, cost) in rows.items():
        known = folder / f"{generator}.scores.json"
        if not known.is_file():
            known.write_text(json.dumps(judge(table, train, held, one, seed)))
        found[generator] = {**json.loads(known.read_text()), **cost}
        print(name, seed, generator, {key: round(value, 4) for key, value in found[generator].items()},
              file=sys.stderr, flush=True)
    return found


def shown(values: list[float], key: str) -> str:
    """Return the median, and the ends where there are several."""
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return ""
    digits = 1 if key in ("fit", "sample") else 3
    middle = f"{statistics.median(known):.{digits}f}"
    return middle if len(known) == 1 else f"{middle} ({min(known):.{digits}f}–{max(known):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("BOTTEGA_DATA"))
    parser.add_argument("--folder", type=Path, default=Path("workshop/tables-benchmark"))
    parser.add_argument("--tables", nargs="+", default=list(COMPARED), choices=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--mostly-python", help="python of an environment with requirements-mostly.txt")
    parser.add_argument("--sdv-python", help="python of an environment with requirements-sdv.txt")
    parser.add_argument("--generators", nargs="+", default=["bottega", *PEERS], choices=["bottega", *PEERS])
    parser.add_argument("--quick", action="store_true", help="breast cancer, one seed; writes nothing")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.tables, arguments.seeds = ["breast-cancer"], [0]
    arguments.data = Path(arguments.data) if arguments.data else None
    lines = ["## Tables", "", f"`python benchmarks/tables.py --seeds {' '.join(map(str, arguments.seeds))}` on "
             f"{machine()}, 1 thread. Medians over seeds of split, fit and draw (lowest to highest). Shapes and trends "
             "(all pairs) are by SDMetrics' formulas, against the training rows; told apart is the AUC of boosted "
             "trees against held-out rows (0.5 is ideal), target is AUC, macro AUC or R² of trees trained on "
             "made rows and tested on held-out ones. Peers at their defaults; a peer that is not listed was "
             "not run.", ""]
    total: dict[str, list[float]] = {}
    for name in arguments.tables:
        if not SETS[name].there(arguments.data):
            print(f"{name}: left out, its files are not there", file=sys.stderr)
            continue
        found = [measured(name, seed, arguments) for seed in arguments.seeds]
        known = [generator for generator in NAMES if any(generator in part for part in found)]
        lines += [f"### {SETS[name].title}, target {SETS[name].target}", "",
                  f"| | {' | '.join(COLUMNS.values())} |", f"|---|{'--:|' * len(COLUMNS)}"]
        for generator in known:
            parts = [part[generator] for part in found if generator in part]
            cells = [shown([part.get(key, float('nan')) for part in parts], key) for key in COLUMNS]
            few = generator in arguments.generators and len(parts) < len(arguments.seeds)
            lines.append(f"| {NAMES[generator]}{f', {len(parts)} of the seeds' if few else ''} | {' | '.join(cells)} |")
            total.setdefault(generator, []).append(statistics.median(part["quality"] for part in parts))
        lines.append("")
    means = [f"{NAMES[generator]} {statistics.mean(values):.3f} ({len(values)} tables)"
             for generator, values in total.items()]
    lines += [f"Mean quality over the tables: {'; '.join(means)}.", ""]
    text = "\n".join(lines)
    print(text)
    if not arguments.quick:
        update("tables", text)


if __name__ == "__main__":
    main()
