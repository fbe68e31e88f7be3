"""Rows of tables: ours against SDV's GaussianCopula, CTGAN and TVAE and MOSTLY AI's engine, beside four references.

    BOTTEGA_DATA=/path/to/data python benchmarks/tables.py --sdv-python .venv-sdv/bin/python \\
        --mostly-python .venv-mostly/bin/python
    python benchmarks/tables.py --quick       # a minute, to see that everything runs; writes nothing

Every table is split into rows to train on and as many held out, each seed its own split. A generator runs in a process
of its own, in one thread, at its defaults, and makes as many rows as it learned from. Each result is kept in
`--folder` and reused: a run that was stopped goes on; `--kept` only writes down what is there. Remove the folder after
a change of the code. BOTTEGA_DATA/tables holds adult-train.csv, adult-test.csv, pima-indians-diabetes.csv,
seaborn_titanic.csv and seaborn_diamonds.csv; without them breast cancer alone is measured.

Writes the section `tables` of RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from _report import machine, update
from _table_data import SETS, kinds, read_table, split, write
from _table_scores import read_rows, scores, trees

from bottega.core.files import write_json
from bottega.core.table import Table
from bottega.evaluation.table_references import copied, halves, independent

GENERATORS = {"bottega": "Bottega", "copula": "SDV GaussianCopula", "ctgan": "SDV CTGAN", "tvae": "SDV TVAE",
              "mostly": "MOSTLY TabularARGN"}
REFERENCES = {"fresh": "*fresh real rows*", "independent": "*independent columns*", "copied": "*bootstrap copy*",
              "trees": "*sequential trees, leaf 5*"}
COLUMNS = {"shapes": "shapes", "trends": "linked pairs", "all_trends": "all pairs", "our shapes": "shapes (ours)",
           "our trends": "all pairs (ours)", "c2st": "C2ST", "tstr": "TSTR", "dcr": "DCR share", "mia": "MIA",
           "copies": "copies %", "broken": "links broken %", "fit": "fit CPU-s", "sample": "sample CPU-s"}
_UP, _MIDDLE = ("shapes", "trends", "all_trends", "our shapes", "our trends", "tstr"), ("dcr", "mia", "c2st")
_SHARES, _SECONDS = ("copies", "broken"), ("fit", "sample")


class Cell:
    """A table and a seed: its rows, and the folder that keeps what was made of them."""

    def __init__(self, name: str, seed: int, args: argparse.Namespace) -> None:
        self.name, self.seed, self.args = name, seed, args
        self.folder: Path = args.folder / f"{name}-{seed}"
        self._tables: tuple[Table, Table, Table] | None = None

    @property
    def tables(self) -> tuple[Table, Table, Table]:
        """Rows to train on, held out, and further ones."""
        if self._tables is None:
            most = min(SETS[self.name].most, 200) if self.args.quick else SETS[self.name].most
            self._tables = split(read_table(self.name, self.args.data), most, self.seed)
            self.folder.mkdir(parents=True, exist_ok=True)
            write(self._tables[0], self.folder / "train.parquet")
            write_json(self.folder / "kinds.json", kinds(self._tables[0]))
        return self._tables

    def kept(self, generator: str) -> dict[str, float] | None:
        """Return a result that is there already."""
        path = self.folder / f"{generator}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def result(self, generator: str) -> dict[str, float] | None:
        """Return a generator's scores, made now if they are not there; None when it fails or has no environment."""
        if (found := self.kept(generator)) is not None or self.args.kept:
            return found
        train, held, _ = self.tables
        if generator in REFERENCES:
            made, held, cost = self.reference(generator)
            write(made, self.folder / f"{generator}.parquet")
        else:
            asked = self.generated(generator)
            if asked is None:
                return None
            made, cost = read_rows(self.folder / f"{generator}.parquet", train.schema), asked
        one = SETS[self.name]
        found = {**cost, **scores(made, train, held, one.target, one.twins, one.links, self.seed),
                 **self.quality(generator)}
        write_json(self.folder / f"{generator}.json", found)
        print(f"{self.name}, seed {self.seed}, {generator}: " + ", ".join(f"{key} {value:.3f}" for key, value in
                                                                         found.items()), file=sys.stderr, flush=True)
        return found

    def reference(self, name: str) -> tuple[Table, Table, dict[str, float]]:
        """Return rows of known worth, the held-out rows they are judged by, and what they cost."""
        train, held, further = self.tables
        if name == "fresh":  # where no real rows are left, half of the held-out rows stand for them
            return (further, held, {}) if len(further) >= len(held) // 2 else (*halves(held, self.seed), {})
        began = sum(os.times()[:2])
        make = {"independent": independent, "copied": copied, "trees": trees}[name]
        made = make(train, len(train), self.seed)
        return made, held, {"fit": sum(os.times()[:2]) - began} if name == "trees" else {}

    def generated(self, name: str) -> dict[str, float] | None:
        """Run a generator, unless its rows are there, and return its processor-seconds."""
        cost, rows = self.folder / f"{name}.cost.json", self.folder / f"{name}.parquet"
        if not (cost.is_file() and rows.is_file()):
            found = self.child(name, [name, str(self.folder), str(self.seed)])
            if found is None:
                return None
            write_json(cost, found)
        return dict(json.loads(cost.read_text()))

    def quality(self, name: str) -> dict[str, float]:
        """Return SDMetrics' own two scores; nothing without its environment."""
        return self.child("sdmetrics", ["quality", str(self.folder), name]) or {}

    def child(self, program: str, arguments: list[str]) -> dict[str, float] | None:
        """Run _table_peers.py with the Python of its environment and return what it prints last."""
        python = Path(sys.executable) if program == "bottega" else \
            self.args.mostly_python if program == "mostly" else self.args.sdv_python
        if python is None:
            return None
        script = Path(__file__).with_name("_table_peers.py").resolve()
        done = subprocess.run([str(python.absolute()), str(script), *arguments], cwd=self.folder, text=True,
                              capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
        if done.returncode:
            print(f"{self.name}, seed {self.seed}, {' '.join(arguments)} failed:\n{done.stderr[-800:]}",
                  file=sys.stderr, flush=True)
            return None
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))


Results = dict[str, dict[str, list[dict[str, float]]]]  # table → generator → a result a seed


def median(results: list[dict[str, float]], score: str) -> float:
    """Return the median over seeds; NaN where nothing is known."""
    known = [one[score] for one in results if score in one and one[score] == one[score]]
    return statistics.median(known) if known else float("nan")


def shown(score: str, value: float) -> str:
    """Return a figure for a table."""
    if value != value:
        return ""
    return f"{100 * value:.2f}" if score in _SHARES else f"{value:.1f}" if score in _SECONDS else f"{value:.3f}"


def badness(score: str, value: float) -> float:
    """Return what a rank sorts by: lower is better. Below .5 no classifier tells anything, and nothing is copied."""
    return -value if score in _UP else max(value, 0.5) if score in _MIDDLE else value


def one_table(name: str, found: dict[str, list[dict[str, float]]]) -> list[str]:
    """Return the table of a set: medians over seeds, cells marked where another generator is better than ours."""
    real = median([one for results in found.values() for one in results], "trtr")
    columns = {score: title for score, title in COLUMNS.items()
               if any(score in one for results in found.values() for one in results)}
    ours = {score: median(found.get("bottega", []), score) for score in columns}
    lines = [f"### {SETS[name].title}", "", f"TSTR is of `{SETS[name].target}`; trained on real rows: {real:.3f}.", "",
             "| | seeds | " + " | ".join(columns.values()) + " |", "|---|--:|" + "--:|" * len(columns)]
    for generator, title in {**GENERATORS, **REFERENCES}.items():
        if not (results := found.get(generator, [])):
            continue
        cells = []
        for score in columns:
            value = median(results, score)
            better = generator in GENERATORS and badness(score, value) < badness(score, ours[score])
            cells.append(f"**{shown(score, value)}**" if better else shown(score, value))
        lines.append(f"| {title} | {len(results)} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def together(results: Results) -> list[str]:
    """Return means over the tables that every generator has, with ranks, and the cells that ours loses."""
    whole = [name for name in results if all(results[name].get(one) for one in GENERATORS)]
    lost = []
    for name, found in results.items():
        for score, title in COLUMNS.items():
            values = {one: median(found.get(one, []), score) for one in GENERATORS}
            values = {one: value for one, value in values.items() if value == value}
            if "bottega" in values:
                best = min(values, key=lambda one: badness(score, values[one]))
                if badness(score, values[best]) < badness(score, values["bottega"]):
                    lost.append(f"- {SETS[name].title}, {title}: {shown(score, values['bottega'])}, {GENERATORS[best]} "
                                f"{shown(score, values[best])}")
    lines = ["### Means and ranks", ""]
    if whole:
        lines += [f"Means over {', '.join(whole)} of the medians, in brackets the mean rank among the "
                  f"{len(GENERATORS)} generators (1 is best).", "", "| | " + " | ".join(COLUMNS.values()) + " |",
                  "|---|" + "--:|" * len(COLUMNS)]
        for generator, title in GENERATORS.items():
            cells = []
            for score in COLUMNS:
                values = [median(results[name][generator], score) for name in whole]
                ranks = [1 + sum(badness(score, median(results[name][other], score)) < badness(score, value)
                                 for other in GENERATORS) for name, value in zip(whole, values, strict=True)]
                known = [place for place, value in enumerate(values) if value == value]
                cells.append("" if not known else f"{shown(score, float(np.mean([values[p] for p in known])))} "
                             f"({np.mean([ranks[p] for p in known]):.1f})")
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    else:
        lines.append("No table has results of every generator yet, so there are no means.")
    return [*lines, "", "Where another generator is better than ours:", "", *(lost or ["- nowhere"]), ""]


def report(results: Results, args: argparse.Namespace) -> str:
    """Return the section."""
    missing = [f"{name} {one}" for name in args.tables for one in args.generators
               if len(results.get(name, {}).get(one, [])) < len(args.seeds)]
    text = ["## Tables", "", f"`python benchmarks/tables.py` on {machine()}; one thread, library defaults, seeds "
            f"{', '.join(map(str, args.seeds))}, each with its own split; medians over the seeds that are done.", "",
            "Shapes, linked pairs and all pairs are SDMetrics' own QualityReport, then the same by our evaluation. C2ST: AUC "
            "of boosted trees that tell synthetic from held-out rows. DCR share, MIA: 0.5 is ideal. Bold: better "
            "than ours. References in italics: a score that independent columns or a copy pass proves nothing alone. "
            "Fresh rows of small tables are half of the held-out ones, so their figures are noisier.", ""]
    if missing:
        text += [f"Not complete, or failed: {', '.join(missing)}.", ""]
    for name in results:
        text += one_table(name, results[name])
    return "\n".join(text + together(results))


def main() -> None:
    """Measure what is missing and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--generators", nargs="+", choices=[*GENERATORS, *REFERENCES],
                        default=[*GENERATORS, *REFERENCES])
    parser.add_argument("--folder", type=Path, default=Path("workshop/benchmark-tables"))
    parser.add_argument("--sdv-python", type=Path, help="of an environment with requirements-sdv.txt")
    parser.add_argument("--mostly-python", type=Path, help="of an environment with requirements-mostly.txt")
    parser.add_argument("--kept", action="store_true", help="run nothing, write down what --folder holds")
    parser.add_argument("--quick", action="store_true", help="few rows, one seed, ours and references; only printed")
    place = os.environ.get("BOTTEGA_DATA")
    parser.add_argument("--data", type=Path, default=Path(place) if place else None)
    args: Any = parser.parse_args()
    args.folder = args.folder.absolute()
    if args.quick:
        args.tables, args.seeds, args.folder = ["breast-cancer"], [0], args.folder.with_name("benchmark-tables-quick")
    results: Results = {}
    for seed in args.seeds:
        for name in args.tables:
            if not SETS[name].there(args.data):
                print(f"left out: {name} is not in BOTTEGA_DATA/tables", file=sys.stderr)
                continue
            cell = Cell(name, seed, args)
            for generator in args.generators:
                if (found := cell.result(generator)) is not None:
                    results.setdefault(name, {}).setdefault(generator, []).append(found)
    text = report(results, args)
    print(text)
    if not args.quick:
        update("tables", text)


if __name__ == "__main__":
    main()
