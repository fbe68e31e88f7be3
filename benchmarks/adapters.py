"""What adapters cost beside full fine-tuning, for equal steps from one base: `python benchmarks/adapters.py`.

A transformer of about 7 million parameters is trained on Python's documentation for a minute or two, then taught
Python's own source in each way, each in a process of its own: parameters trained, CPU seconds of the loop
(time.process_time, one thread), peak memory above that of the loaded program, bytes of a checkpoint, held-out loss
before and after. `--steps` and `--base-steps` change the lengths; one seed, no peer.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WAYS: dict[str, dict[str, Any] | None] = {
    "full": None, "lora": {"rank": 8}, "dora": {"kind": "dora", "rank": 8}, "nf4-lora": {"rank": 8, "quantise": "nf4"}}
_LOOP = {"context": 256, "batch_tokens": 1024, "micro_batch": 4, "precision": "fp32", "compile": "off",
         "sample_every": 0, "validate_every": 1.0, "validation_tokens": 8192, "checkpoint_every": 100_000}


def recipe(name: str, steps: int, way: str | None, rate: float | None) -> dict[str, Any]:
    """Return the recipe of the base (no way) or of one way from it."""
    made: dict[str, Any] = {"name": name, "training": {**_LOOP, "budget": {"steps": steps}}}
    if way is None:
        return {**made, "data": {"sources": ["python-docs"]}, "codec": {"vocab_size": 4096},
                "generator": {"family": "transformer", "depth": 5}}
    if rate is not None:
        made["training"]["learning_rate"] = rate
    adapter = {"adapter": WAYS[way]} if WAYS[way] else {}
    return {**made, "base": "base", **adapter, "data": {"sources": ["python-stdlib"], "limit": 300}}


def one(home: Path, name: str, steps: int, way: str | None, rate: float | None) -> dict[str, Any]:
    """Train once in this process and return its figures."""
    import torch

    from bottega.core.progress import set_quiet
    from bottega.core.recipe import Recipe
    from bottega.training import run
    from bottega.training.metrics import read_history

    torch.set_num_threads(1)
    set_quiet(True)
    real, figures = run.train, dict[str, float]()

    def timed(objective: Any, *arguments: Any, **options: Any) -> Any:
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        parameters = [p for p in objective.generator.parameters() if p.requires_grad]
        done = real(objective, *arguments, **options)
        figures.update(cpu_seconds=time.process_time() - start, trained=sum(p.numel() for p in parameters),
                       peak_mb=(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
        return done

    run.train = timed
    run.make(Recipe.model_validate(recipe(name, steps, way, rate)), home=home, report=False)
    looks = [line["validation"]["loss"] for line in read_history(home / "runs" / name) if line.get("validation")]
    *_, last = sorted((home / "runs" / name / "checkpoints").glob("step-*"))
    return {**figures, "before": looks[0], "after": looks[-1],
            "checkpoint_mb": sum(file.stat().st_size for file in last.iterdir()) / 1e6}


def main() -> None:
    """Train the base, then each way, and print a line of JSON for each."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--steps", type=int, default=40)
    asked.add_argument("--base-steps", type=int, default=80)
    asked.add_argument("--rate", type=float, default=None, help="learning rate of all ways; default: each one's own")
    asked.add_argument("--ways", default=",".join(WAYS))
    asked.add_argument("--home", type=Path, default=None)
    asked.add_argument("--one", nargs=2, default=None, help=argparse.SUPPRESS)
    said = asked.parse_args()
    home = said.home or Path(tempfile.mkdtemp(prefix="adapters-"))
    if said.one:
        name, way = said.one
        print(json.dumps({"way": name, **one(home, name, said.steps, None if way == "-" else way, said.rate)}))
        return
    jobs = [] if (home / "models" / "base").is_dir() else [("base", "-", said.base_steps)]
    jobs += [(f"{way}" + (f"-{said.rate}" if said.rate else ""), way, said.steps) for way in said.ways.split(",")]
    for name, way, steps in jobs:
        words = [sys.executable, __file__, "--home", str(home), "--steps", str(steps), "--one", name, way]
        words += ["--rate", str(said.rate)] if said.rate else []
        done = subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True, check=True,
                              stdout=subprocess.PIPE)
        print(done.stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
