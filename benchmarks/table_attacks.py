"""Records that stand alone, planted many times, and our attacks beside anonymeter's.

    BOTTEGA_DATA=/path/to/data python benchmarks/table_attacks.py --anonymeter-python /path/to/venv/bin/python
    python benchmarks/table_attacks.py --quick               # breast cancer, one seed; writes nothing

Eight training rows that an isolation forest finds strangest are put in twenty times. What is released is judged by the
report and its gate (quick scores) against the rows that were learned and as many held-out ones. Then attacks of ours
and of anonymeter (`requirements-anonymeter.txt`; left out where it is not) are tried on the same rows, without planted
ones. Figures are kept in `--folder` and taken as they are. Writes the section `table_attacks`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _report import machine, update
from _table_data import SETS, read_table, write
from _table_trees import trees

from bottega import tables
from bottega.core.table import Table, join
from bottega.evaluation.table_attacks import attacks
from bottega.evaluation.table_learners import features
from bottega.evaluation.table_references import copied
from bottega.evaluation.table_views import row_keys, views
from bottega.evaluation.tables import gate, judge_table

PLANTED, TIMES, MOST = 8, 20, 1000
RELEASES = {"fresh": ("none", "fresh real rows"), "ours": ("none", "**Bottega**"),
            "trees": ("none", "sequential trees"),
            "slipped": ("slipped in", "fresh real rows, the eight among them"),
            "nearly": ("slipped in, blurred", "fresh real rows, the eight among them"),
            "ours-planted": ("learned", "**Bottega**"), "trees-planted": ("learned", "sequential trees"),
            "copy-planted": ("learned", "bootstrap copy")}
ATTACKED = {"fresh": "fresh real rows", "ours": "**Bottega**", "trees": "sequential trees", "copy": "bootstrap copy"}
ATTACKS = ("singling out, one column", "singling out, several columns", "linkability", "inference")


def thirds(name: str, data: Path | None, seed: int) -> tuple[Table, Table, Table]:
    """Return rows to train on, rows held out, and fresh ones: as many of each."""
    table = read_table(name, data)
    order, count = np.random.default_rng(seed).permutation(len(table)), min(MOST, len(table) // 3)
    one, other, third = (table.take(order[place * count:(place + 1) * count]) for place in range(3))
    return one, other, third


def strangest(train: Table, seed: int) -> Table:
    """Return the rows that an isolation forest finds strangest: our own distances do not choose what they must find."""
    from sklearn.ensemble import IsolationForest

    (view,) = views(train)
    (side,) = features([view], view.order)
    filled = np.where(np.isnan(side.matrix), -1.0, side.matrix)
    return train.take(np.argsort(IsolationForest(random_state=seed).fit(filled).score_samples(filled))[:PLANTED])


def blurred(plants: Table, train: Table, seed: int) -> Table:
    """Return the records with every number moved by a hundredth of its standard deviation or so: no exact copies."""
    import pyarrow as pa

    rng, data = np.random.default_rng(seed), plants.data
    for place, column in enumerate(plants.schema.columns):
        if column.ordered:
            moved = plants.values(column.name) + rng.normal(0, 0.01 * np.nanstd(train.values(column.name)), len(plants))
            moved = np.rint(moved) if pa.types.is_integer(data.schema.field(place).type) else moved
            data = data.set_column(place, column.name, pa.array(moved, from_pandas=True).cast(
                data.schema.field(place).type))
    return Table(plants.schema, data)


def ours(train: Table, seed: int) -> Table:
    """Return as many rows of our model as there are training rows."""
    with tempfile.TemporaryDirectory() as home:
        made = tables.fit(train.data, name="rows", seed=seed, home=Path(home)).sample(len(train), seed=seed)
    return Table(train.schema, made.data)


def planted(name: str, data: Path | None, seed: int) -> dict[str, Any]:
    """Return release → how many planted records come out, and what the report says."""
    train, held, fresh = thirds(name, data, seed)
    plants = strangest(train, seed)
    more = join([train, *[plants] * (TIMES - 1)])
    rest = fresh.take(np.arange(len(fresh) - PLANTED))
    releases = {"fresh": fresh, "ours": ours(train, seed), "trees": trees(train, len(train), seed),
                "slipped": join([rest, plants]), "nearly": join([rest, blurred(plants, train, seed)]),
                "ours-planted": ours(more, seed), "trees-planted": trees(more, len(train), seed),
                "copy-planted": copied(more, len(train), seed)}
    found = {}
    for release, made in releases.items():
        known = more if RELEASES[release][0] == "learned" else train
        scores = judge_table(made, known, held, seed=seed, quick=True)
        keys, own = row_keys(*views(made, plants))
        said = gate(scores)
        told = [reason for reason in said if "stand most alone" in reason]
        alone = scores.outliers
        found[release] = {"out": int(np.isin(own, keys).sum()), "caught": bool(told),
                          "others": [reason for reason in said if reason not in told],
                          "given": alone.given["value"] if alone else None,
                          "control": alone.control["value"] if alone else None,
                          "closer": scores.privacy.closer["value"], "membership": scores.privacy.membership["value"]}
    return found


def attacked(name: str, data: Path | None, seed: int, python: str | None) -> dict[str, Any]:
    """Return release → attack → success, control and risk, by ours and by anonymeter."""
    train, held, fresh = thirds(name, data, seed)
    made = {"fresh": fresh, "ours": ours(train, seed), "trees": trees(train, len(train), seed),
            "copy": copied(train, len(train), seed)}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part, table in (("train", train), ("held", held), *made.items()):
            write(table, Path(folder) / f"{part}.parquet")
        for release, table in made.items():
            tried = attacks(table, train, held, seed=seed, tries=500)
            mine = {}
            for attack in ATTACKS:
                these = [one for one in tried if one.name.startswith(attack)]
                if these:
                    mine[attack] = [float(np.mean([figure["value"] for figure in figures])) for figures in (
                        [one.success for one in these], [one.control for one in these], [one.risk for one in these])]
            found[release] = {"ours": mine}
            if python:
                done = subprocess.run([python, str(Path(__file__).with_name("_anonymeter.py")), folder, release,
                                       str(seed)], capture_output=True, text=True, check=False)
                if done.returncode:
                    print(f"{name}: anonymeter failed on {release}: {done.stderr.strip()[-300:]}", file=sys.stderr)
                else:
                    found[release]["anonymeter"] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return figures, measured now or before."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(make()))
    found: dict[str, Any] = json.loads(path.read_text())
    print(path.stem, found, file=sys.stderr, flush=True)
    return found


def spread(values: list[float | None], digits: int = 2) -> str:
    """Return the mean with the lowest and the highest."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    return f"{np.mean(known):.{digits}f} ({min(known):.{digits}f} to {max(known):.{digits}f})"


def planted_page(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return the table of planted records."""
    lines = []
    for name, found in results.items():
        lines += [f"### Planted records: {SETS[name].title}", "", "| planted | released | of the 8, come out exactly | "
                  "isolated records given away | held-out control | caught by isolated records | other reasons | "
                  "closer | membership |", "|---|---|--:|--:|--:|--:|--:|--:|--:|"]
        for release, (where, called) in RELEASES.items():
            these = [one[release] for one in found]
            caught = sum(one["caught"] for one in these)
            cells = [spread([one[key] for one in these], digits) for key, digits in
                     (("out", 1), ("given", 2), ("control", 2))]
            others = sum(bool(one["others"]) for one in these)
            lines.append(f"| {where} | {called} | {' | '.join(cells)} | {caught} of {len(these)} | {others} of "
                         f"{len(these)} | {spread([one['closer'] for one in these])} | "
                         f"{spread([one['membership'] for one in these])} |")
        lines.append("")
    return lines


def attacked_page(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return the table of both attackers."""
    lines = []
    for name, found in results.items():
        lines += [f"### Both attackers: {SETS[name].title}", "", "| attack | released | ours: success | control | "
                  "risk | anonymeter: success | control | risk |", "|---|---|" + "--:|" * 6]
        for attack in ATTACKS:
            for release, called in ATTACKED.items():
                cells = [spread([one[release].get(by, {}).get(attack, [None] * 3)[place] for one in found])
                         for by in ("ours", "anonymeter") for place in range(3)]
                lines.append(f"| {attack} | {called} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("BOTTEGA_DATA"))
    parser.add_argument("--folder", type=Path, default=Path("workshop/attacks-benchmark"))
    parser.add_argument("--tables", nargs="+", default=["adult", "pima"], choices=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--anonymeter-python", help="python of an environment with requirements-anonymeter.txt")
    parser.add_argument("--quick", action="store_true", help="breast cancer, one seed; writes nothing")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.tables, arguments.seeds = ["breast-cancer"], [0]
    data = Path(arguments.data) if arguments.data else None
    there = [name for name in arguments.tables if SETS[name].there(data)]
    python = arguments.anonymeter_python
    plants: dict[str, list[dict[str, Any]]] = {name: [] for name in there}
    tried: dict[str, list[dict[str, Any]]] = {name: [] for name in there}
    for seed in arguments.seeds:
        for name in there:
            plants[name].append(kept(arguments.folder / f"planted-{name}-{seed}.json",
                                     lambda name=name, seed=seed: planted(name, data, seed)))
            tried[name].append(kept(arguments.folder / f"attacked-{name}-{seed}.json",
                                    lambda name=name, seed=seed: attacked(name, data, seed, python)))
    lines = ["## Attacks on tables (table_attacks.py)", "",
             f"`python benchmarks/table_attacks.py --seeds {' '.join(map(str, arguments.seeds))}` on {machine()}, 1 "
             "thread. Means over seeds of split, fit and draw (lowest to highest); at most "
             f"{MOST} rows each to train on, held out, and fresh. {PLANTED} of the training rows, the strangest to an "
             f"isolation forest, are *learned* {TIMES} times each, or once, and *slipped in* among released rows, as "
             "they are or *blurred* (numbers moved by a hundredth of a standard deviation). "
             "Isolated records are the tenth (at most 100) of the training records that stands most alone; one is "
             "given away when a released row is within a fifth of its distance to the nearest other real record. Other "
             "reasons are what else the gate says. anonymeter's risk is (success − control) / (1 − control), cut at "
             "zero; ours is success − control. 500 tries each, 4 columns of a predicate, 5 neighbours; its inference "
             "takes numbers within 5 % of the value as right, ours within 2.5 % of the ranks.", ""]
    text = "\n".join([*lines, *planted_page(plants), *attacked_page(tried)])
    print(text)
    if not arguments.quick:
        update("table_attacks", text)


if __name__ == "__main__":
    main()
