"""A million rows: fitting in bounded memory, rows made a second, and rules that none of a million rows breaks.

    python benchmarks/table_scale.py                         # some 20 minutes
    python benchmarks/table_scale.py --rows 50000 --quick    # writes nothing

Wide: 50 columns (30 numbers, 20 of levels, linked through 8 hidden ones), fitted from a Parquet file by the command
line in a process of its own, whose peak memory is read; then rows are made into a file, by the base alone and by a
small network. Rules: a table of a million hotel stays made under five rules of five forms, checked here anew with
NumPy. Writes the section `table-scale`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _report import machine, update

RULES = ["arrive <= leave", "0 <= age <= 120", "total == nights + extras", "city -> country", "unique (code)"]


def wide(rows: int, path: Path) -> None:
    """Write a table of 50 linked columns, part after part."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(8, 50))
    with pq.ParquetWriter(path, _wide(rng, mix, 1).schema) as writer:
        for first in range(0, rows, 100_000):
            writer.write_table(_wide(rng, mix, min(100_000, rows - first)))


def _wide(rng: np.random.Generator, mix: Any, rows: int) -> Any:
    values = rng.normal(size=(rows, 8)) @ mix + rng.normal(size=(rows, 50))
    columns: dict[str, Any] = {f"number_{place}": values[:, place] for place in range(30)}
    for place in range(30, 50):
        levels = np.array([f"level {level}" for level in range(12)])
        columns[f"level_{place}"] = levels[np.digitize(values[:, place], np.linspace(-5, 5, 2 + place % 10))]
    return pa.table(columns)


def stays(rows: int, path: Path) -> None:
    """Write a table that keeps the five rules."""
    rng = np.random.default_rng(1)
    cities = {"Porto": "Portugal", "Lisboa": "Portugal", "Lyon": "France", "Paris": "France", "Bologna": "Italy",
              "Torino": "Italy", "Bilbao": "Spain"}
    city = rng.choice(list(cities), rows)
    arrive = np.datetime64("2024-01-01", "D") + rng.integers(0, 700, rows)
    nights, extras = (60 * rng.integers(1, 9, rows)).astype(float), np.round(rng.exponential(40, rows), 2)
    pq.write_table(pa.table({
        "code": rng.permutation(10 * rows)[:rows].astype(np.int64), "city": city,
        "country": [cities[name] for name in city], "age": np.clip(rng.normal(45, 18, rows), 0, 120).round(),
        "arrive": arrive.astype("datetime64[us]"), "nights": nights, "extras": extras, "total": nights + extras,
        "leave": (arrive + (nights / 60).astype(int)).astype("datetime64[us]")}), path)


def broken(path: Path, source: Path) -> dict[str, int]:
    """Return how many rows of a file break each rule, found without Bottega's own code."""
    made, real = pq.read_table(path).to_pydict(), pq.read_table(source)
    known = dict(zip(real["city"].to_pylist(), real["country"].to_pylist(), strict=True))
    arrive, leave, age, nights, extras, total = (np.array(made[name]) for name in (
        "arrive", "leave", "age", "nights", "extras", "total"))
    return {RULES[0]: int((arrive > leave).sum()), RULES[1]: int(((age < 0) | (age > 120)).sum()),
            RULES[2]: int((np.abs(nights + extras - total) > 1e-6).sum()),
            RULES[3]: sum(known[city] != country for city, country in zip(made["city"], made["country"], strict=True)),
            RULES[4]: len(made["code"]) - len(set(made["code"]))}


def run(arguments: list[str], home: Path) -> tuple[float, float, float]:
    """Run the command line and return its seconds, processor-seconds and peak memory in GiB."""
    code = ("import resource, sys, json; from bottega.cli import main\n"
            "try:\n    main()\nfinally:\n    use = resource.getrusage(resource.RUSAGE_SELF)\n"
            "    print(json.dumps([use.ru_utime + use.ru_stime, use.ru_maxrss / 2**20]), file=sys.stderr)")
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False,
                          env={**os.environ, "BOTTEGA_HOME": str(home)})
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"bottega {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    spent, memory = json.loads(done.stderr.strip().splitlines()[-1])
    return seconds, spent, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="writes nothing")
    arguments = parser.parse_args()
    rows, few = arguments.rows, max(1000, arguments.rows // 20)
    lines = ["## A million rows of a table", "", f"`python benchmarks/table_scale.py` on {machine()}, "
             f"{os.cpu_count()} threads. {rows:,} rows; rows a second of the whole command less that of {few:,} rows, "
             "so that starting does not count; writing the file does.", "",
             "| 50 columns | fit s | fit CPU s | fit GiB | rows a second | a CPU second | making GiB |",
             "|---|--:|--:|--:|--:|--:|--:|"]
    with tempfile.TemporaryDirectory() as folder:
        home, source, out = Path(folder), Path(folder) / "wide.parquet", Path(folder) / "out.parquet"
        wide(rows, source)
        for title, keys in (("the base alone", ["training.budget.steps=1"]),
                            ("a network of width 64, depth 1", ["training.budget.minutes=2", "depth=1",
                                                                "generator.width=64"])):
            name = f"wide-{len(keys)}"
            fit = run(["train", "patients-table", f"name={name}", f"data.sources=[{source}]", "codec.links=false",
                       *keys], home)
            print(title, "fit", fit, file=sys.stderr, flush=True)
            start = run(["generate", name, "--rows", str(few), "--seed", "1", "-o", str(out)], home)
            made = run(["generate", name, "--rows", str(rows), "--seed", "1", "-o", str(out)], home)
            speed = [(rows - few) / (made[place] - start[place]) for place in (0, 1)]
            lines.append(f"| {title} | {fit[0]:.0f} | {fit[1]:.0f} | {fit[2]:.1f} | {speed[0]:,.0f} | {speed[1]:,.0f} "
                         f"| {made[2]:.1f} |")
            print(lines[-1], file=sys.stderr, flush=True)
        source = home / "stays.parquet"
        stays(20_000, source)
        rules = "[" + ", ".join(f"'{rule}'" for rule in RULES) + "]"
        run(["train", "patients-table", "name=stays", f"data.sources=[{source}]", f"codec.rules={rules}",
             "training.budget.steps=300", "codec.columns={code: id}"], home)
        made = run(["generate", "stays", "--rows", str(rows), "--seed", "1", "-o", str(out)], home)
        found = broken(out, source)
    lines += ["", f"Rules: {rows:,} rows in {made[0]:.0f} s ({made[1]:.0f} CPU s, {made[2]:.1f} GiB) from a model of "
              "20,000 rows with five rules. Rows that break one: "
              + ", ".join(f"`{rule}` {count}" for rule, count in found.items()) + ".", ""]
    print("\n".join(lines))
    if not arguments.quick:
        update("table-scale", "\n".join(lines))


if __name__ == "__main__":
    main()
