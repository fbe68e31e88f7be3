"""Graphs made by Bottega beside random graphs fitted to the same data, and molecules beside published figures.

    python benchmarks/graphs.py --seeds 0 1 2                              # communities, grids, trees
    BOTTEGA_DATA=/path/to/data python benchmarks/graphs.py --molecules     # also QM9, some 20 minutes
    python benchmarks/graphs.py --quick                                    # trees, few steps; writes nothing

Every model is trained from its recipe for a fixed number of steps on one thread and judged as `bottega evaluate` does:
1,024 graphs as they come, without the help of the rule, against held-out ones. Writes the section `graphs`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from _report import machine, update

from bottega.core.home import recipe_path
from bottega.core.progress import set_quiet
from bottega.core.recipe import Recipe
from bottega.evaluation.graphs import GraphScores
from bottega.training.graph_report import judged
from bottega.training.run import make

SETS = {"communities": ("connected", 600), "grids": ("grid", 300), "trees": ("tree", 600)}  # rule, steps
DISTANCES = ("degree", "clustering, earth mover", "orbit", "spectrum")
PUBLISHED = "DiGress (Vignac et al., ICLR 2023, table of QM9 without hydrogens): valid 99.0 %, unique 96.2 %"


def trained(recipe: str, overrides: list[str], home: Path, seed: int) -> tuple[GraphScores, GraphScores, float]:
    """Return scores of free and of kept graphs, and the processor-seconds of training."""
    began = time.process_time()
    bundle = make(Recipe.load(recipe_path(Path(recipe)), [*overrides, f"seed={seed}"]), home=home, replace=True)
    seconds = time.process_time() - began
    found = judged(bundle, home, seed=seed)
    return found.free, found.kept, seconds


def share(scores: GraphScores, name: str) -> float:
    """Return a share of made graphs."""
    figure = next(one.made for one in scores.shares if one.name == name)
    return float("nan") if figure is None else figure["value"]


def spread(values: list[float], digits: int = 4) -> str:
    """Return the median, with the ends where there are several."""
    values = [round(value, digits) + 0.0 for value in values]  # a rounded zero has no sign
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def synthetic(kind: str, seeds: list[int], home: Path, steps: int) -> list[str]:
    """Return the lines of one known distribution."""
    found = [trained("communities-graph", [f"name={kind}", f"data.sources=[{kind}]", f"codec.rule={SETS[kind][0]}",
                                           f"training.budget.steps={steps}", "data.validation=0.2"], home, seed)
             for seed in seeds]
    free = [one for one, _, _ in found]
    lines = [f"### {kind.capitalize()}, {steps} steps of 16 graphs, {spread([sec for *_, sec in found], 0)} CPU s", "",
             f"Keep the rule '{SETS[kind][0]}' by themselves: {spread([share(one, 'valid') for one in free], 3)}, "
             f"different {spread([share(one, 'unique') for one in free], 3)}, not trained on "
             f"{spread([share(one, 'novel') for one in free], 3)}.", "",
             "| distance | Bottega | real | 95 % of real | Erdős–Rényi | Barabási–Albert |",
             "|---|--:|--:|--:|--:|--:|"]
    for name in DISTANCES:
        parts = [next(each for each in one.distances if each.name == name) for one in free]
        beside = [[part.baselines[other] for part in parts] for other in ("Erdős–Rényi", "Barabási–Albert")]
        columns = [[getattr(part, what) for part in parts] for what in ("value", "floor", "high")] + beside
        lines.append(f"| {name} | {' | '.join(spread(values) for values in columns)} |")
    return [*lines, ""]


def molecules(data: Path, seeds: list[int], home: Path, minutes: float) -> list[str]:
    """Return the lines of QM9."""
    source = data / "molecules" / "qm9.csv"
    found = [trained("molecules-graph", ["name=qm9", f"data.sources=[{source}]", f"training.budget.minutes={minutes}"],
                     home, seed) for seed in seeds]
    lines = [f"### QM9, {minutes:g} minutes, {spread([sec for *_, sec in found], 0)} CPU s with reading", "",
             f"{found[0][0].counts['train']:,} molecules to train on. {PUBLISHED}.", "",
             "| | valid | unique | novel | node types | edge types | ring sizes |", "|---|--:|--:|--:|--:|--:|--:|"]
    for title, place in (("as they come", 0), ("with the rule", 1)):
        scores = [one[place] for one in found]
        shares = [spread([share(one, name) for one in scores], 3) for name in ("valid", "unique", "novel")]
        types = [spread([next(each.value for each in one.types if each.name == name) for one in scores], 3)
                 for name in ("node types", "edge types", "ring sizes")]
        lines.append(f"| {title} | {' | '.join([*shares, *types])} |")
    real = [next(each.floor for each in found[0][0].types if each.name == name)
            for name in ("node types", "edge types", "ring sizes")]
    return [*lines, f"| real against real | | | | {' | '.join(f'{value:.3f}' for value in real)} |", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("BOTTEGA_DATA"))
    parser.add_argument("--kinds", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--molecules", action="store_true", help="also QM9 of BOTTEGA_DATA, one seed")
    parser.add_argument("--minutes", type=float, default=20.0, help="for the molecules")
    parser.add_argument("--quick", action="store_true", help="trees, one seed, few steps; writes nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    set_quiet(True)
    lines = ["## Graphs", "", f"`python benchmarks/graphs.py` on {machine()}, 1 thread. Squared maximum mean "
             "discrepancies to held-out graphs, of 1,024 graphs as they come, without the help of the rule; real "
             "against real beside: below its 95 % nothing is proven. Medians over seeds (lowest to highest).", ""]
    with tempfile.TemporaryDirectory() as folder:
        for kind in ["trees"] if arguments.quick else arguments.kinds:
            lines += synthetic(kind, arguments.seeds[:1] if arguments.quick else arguments.seeds, Path(folder),
                               40 if arguments.quick else SETS[kind][1])
            print("\n".join(lines[-9:]), file=sys.stderr, flush=True)
        if arguments.molecules and arguments.data:
            lines += molecules(Path(arguments.data), arguments.seeds[:1], Path(folder), arguments.minutes)
    print("\n".join(lines))
    if not arguments.quick:
        update("graphs", "\n".join(lines))


if __name__ == "__main__":
    main()
