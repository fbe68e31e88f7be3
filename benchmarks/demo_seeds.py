"""The demo over several seeds: what it reaches, with spread. `python benchmarks/demo_seeds.py --seeds 0 1 2`.

Each seed is a whole `bottega demo` in a process and a workshop of its own, one after the other. Results are kept in
`--folder` and reused, so that a stopped run goes on. Writes the section `demo` of RESULTS.md.
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

from _report import machine, update


def result(seed: int, folder: Path) -> dict[str, Any]:
    """Return the results of one seed, making them when they are not there."""
    place = folder / f"seed-{seed}"
    if not (place / "demo" / "results.json").is_file():
        place.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "BOTTEGA_HOME": str(place / "workshop")}
        subprocess.run([sys.executable, "-m", "bottega", "demo", "--seed", str(seed)], cwd=place, env=environment,
                       check=True)
    found: dict[str, Any] = json.loads((place / "demo" / "results.json").read_text())
    return found


def spread(values: list[float], percent: bool = False) -> str:
    """Return mean ± standard deviation."""
    scale = 100 if percent else 1
    mean, deviation = statistics.fmean(values) * scale, (statistics.stdev(values) if len(values) > 1 else 0.0) * scale
    return f"{mean:.1f} ± {deviation:.1f} %" if percent else f"{mean:.3f} ± {deviation:.3f}"


def main() -> None:
    """Run the seeds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("workshop/demo-seeds"))
    options = parser.parse_args()
    runs = [result(seed, options.folder) for seed in options.seeds]
    models = list(runs[0]["models"])
    seeds = ", ".join(map(str, options.seeds))
    whole = [run for run in runs if not any(model["reused"] for model in run["models"].values())]
    seconds = ", ".join(f"{run['seconds']:.0f}" for run in whole) or "not known, parts were reused"
    lines = [f"Whole demo, seeds {seeds}, on {machine()}. Mean ± standard deviation over seeds; n is cases a seed. "
             f"Seconds of a demo: {seconds}.", ""]
    bits = [run["models"][models[0]]["metrics"]["bits_per_byte"] for run in runs]
    base = ", ".join(f"{name} {spread([run['baselines'][name] for run in runs])}" for name in runs[0]["baselines"])
    lines += [f"Held-out bits per byte of {models[0]}: **{spread(bits)}** ({base}).", ""]
    watched = ((models[1], "loss", "nats an assistant token"), (models[2], "accuracy", "share of preference pairs"))
    for name, key, what in watched:
        before, after = ([run["models"][name][part].get(key, float("nan")) for run in runs]
                         for part in ("before", "metrics"))
        lines += [f"{name}, held-out {key} ({what}): {spread(before)} before, {spread(after)} after.", ""]
    lines += ["| suite | figure | n | " + " | ".join(models) + " |", "|---|---|---|" + "---|" * len(models)]
    for suite, figures in runs[0]["models"][models[0]]["suites"].items():
        for figure, value in figures.items():
            cells = [spread([run["models"][model]["suites"][suite][figure]["value"] for run in runs], True)
                     for model in models]
            lines.append(f"| {suite} | {figure} | {value['n']} | " + " | ".join(cells) + " |")
    update("demo", "## The demo over seeds\n\n" + "\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
