"""Reinforcement learning on the built-in sums: `python benchmarks/rl.py --seeds 0 1 2`.

For each seed: recipes/arithmetic-sft.yaml; from it recipes/arithmetic-grpo.yaml and PPO on the same task; and from the
model of GRPO a run with a planted loophole (results from 50 to 99 are paid for, right or wrong). Accuracy is measured
on held-out problems that no run has seen, not even for validation. Each run is a process of one thread; its processor
time is counted. Results are kept in `--folder` and reused. Writes the section `rl` of RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from _report import machine, update

RECIPES = Path(__file__).parent.parent / "recipes"
CASES = 1000
CHANGES: dict[str, list[str]] = {  # run → overrides of a recipe
    "sft": [], "grpo": [],
    "ppo": ["name=arithmetic-ppo", "objective={kind: ppo, max_tokens: 72, kl: 0.0, prompts: 64, group: 4, epochs: 1, "
            "minibatches: 2, critic: own}", "training.budget.steps=200"],
    "hack": ["name=arithmetic-hack", "base=arithmetic-grpo",
             "objective.rewards={answer: 0.2, format: {weight: 1.0, pattern: '#### [5-9][0-9]'}}",
             "training.budget.steps=100", "training.validate_every=0.1", "training.learning_rate=0.0005"],
}


def one(kind: str, seed: int, folder: Path, more: list[str]) -> dict[str, Any]:
    """Train one model in this process and measure it."""
    from bottega.core.recipe import Recipe
    from bottega.objectives import monitors
    from bottega.training import sampler
    from bottega.training.metrics import read_history
    from bottega.training.run import make

    spent = {"seconds": 0.0, "tokens": 0}
    draw: Callable[..., Any] = sampler.EngineSampler.__call__

    def counted(self: Any, *args: Any, **options: Any) -> Any:
        began, before = time.process_time(), self.drawn
        made = draw(self, *args, **options)
        if not options.get("greedy"):
            spent["seconds"] += time.process_time() - began
            spent["tokens"] += self.drawn - before
        return made

    sampler.EngineSampler.__call__ = counted  # type: ignore[method-assign]
    path = RECIPES / ("arithmetic-sft.yaml" if kind == "sft" else "arithmetic-grpo.yaml")
    recipe = Recipe.load(path, [*CHANGES[kind], f"seed={seed}", *more])
    home, began = folder / f"seed-{seed}", time.process_time()
    bundle = make(recipe, home=home, report=False)
    seconds = time.process_time() - began
    history = read_history(home / "runs" / recipe.name)
    looks = [line["step"] for line in history if "validation" in line]
    warned = {step: monitors.advice([line for line in history if line["step"] <= step]) for step in looks}
    rounds = [line["metrics"] for line in history if "reward" in line.get("metrics", {})]
    updates = history[-1]["tokens"]
    return {"cpu_seconds": seconds, "steps": history[-1]["step"], "accuracy": accuracy(bundle.path),
            "warned": {str(step): said for step, said in warned.items() if said},
            "looks": [line["validation"] for line in history if "validation" in line],
            "first": rounds[0] if rounds else {}, "last": rounds[-1] if rounds else {},
            "rollout": spent, "update_tokens": updates,
            "reward": statistics.fmean(one["reward"] for one in rounds[-10:]) if rounds else None}


def accuracy(path: Path) -> dict[str, float]:
    """Return the share of held-out problems answered right, greedily and sampled at temperature 1.

    `worked` is the share of sampled answers that show the working; `worked_right` and `bare_right` are how many of
    those and of the others are right.
    """
    from bottega.core.request import Controls, Message, Request
    from bottega.data.builtin.long_sums import problems
    from bottega.data.checks import marked_answer, same_answer
    from bottega.generation.engine import Engine

    engine = Engine.open(path, dtype="fp32")
    cases = list(islice(((p, q) for p, q in problems(40 * CASES, seed=1) if p.split == "validation"), CASES))
    found = {}
    for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        requests = [Request(messages=[Message(role="user", content=asked)],
                            controls=Controls(temperature=temperature, max_tokens=80, seed=number, n=1))
                    for number, (_, asked) in enumerate(cases)]
        texts = [result.outputs[0].text for result in engine.generate_many(requests)]
        right = [same_answer(marked_answer(text), str(problem.value))
                 for text, (problem, _) in zip(texts, cases, strict=True)]
        found[name] = statistics.fmean(right)
    manners = {manner: [good for good, text in zip(right, texts, strict=True) if ("=" in text) == (manner == "worked")]
               for manner in ("worked", "bare")}  # of the answers drawn last, the sampled ones
    return found | {"worked": len(manners["worked"]) / len(cases)} | {
        f"{manner}_right": statistics.fmean(goods) for manner, goods in manners.items() if goods}


def result(kind: str, seed: int, folder: Path, more: list[str]) -> dict[str, Any]:
    """Return a run's results, from its file or from a process of its own."""
    file = folder / f"seed-{seed}" / f"{kind}.json"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, __file__, "--one", kind, "--seeds", str(seed), "--folder", str(folder), *more],
                       env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}, check=True)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def hacked(run: dict[str, Any]) -> dict[str, str]:
    """Return step → what the monitors said, for the validations at which they called the reward hacked."""
    return {step: said for step, lines in run["warned"].items() for said in lines if "being hacked" in said}


def report(runs: dict[int, dict[str, dict[str, Any]]]) -> str:
    """Return the section."""
    from bottega.evaluation.statistics import rate

    def spread(kind: str, value: Callable[[dict[str, Any]], float], form: str = "{:.1%}") -> str:
        return ", ".join(form.format(value(run[kind])) for run in runs.values())

    gains = [100 * (run[kind]["accuracy"]["greedy"] - run["sft"]["accuracy"]["greedy"])
             for kind in ("grpo", "ppo") for run in runs.values()]
    half = rate(CASES // 2, CASES)
    lines = ["## Reinforcement learning with checked answers", "",
             f"`python benchmarks/rl.py --seeds {' '.join(map(str, runs))}` on {machine()}, one thread a run. Built-in "
             f"sums of six numbers; accuracy is exact answers to {CASES} held-out problems (95 % interval of "
             f"a share at most ± {100 * (half['high'] - half['low']) / 2:.1f} points), one figure a seed. CPU minutes "
             "are processor time of the whole command: data, rollouts, updates, validations.", "",
             "| run | greedy | sampled (temperature 1) | of these, worked out | right of the worked out | "
             "reward at the end | CPU minutes | rollout tokens / CPU s | alarms |",
             "|---|---|---|---|---|---|---|---|---|"]
    for kind in CHANGES:
        reward = "–" if kind == "sft" else spread(kind, lambda run: run["reward"], "{:.2f}")
        speed = "–" if kind == "sft" else spread(
            kind, lambda run: run["rollout"]["tokens"] / max(run["rollout"]["seconds"], 1e-9), "{:,.0f}")
        lines.append(f"| {kind} | {spread(kind, lambda run: run['accuracy']['greedy'])} | "
                     f"{spread(kind, lambda run: run['accuracy']['sampled'])} | "
                     f"{spread(kind, lambda run: run['accuracy']['worked'], '{:.0%}')} | "
                     f"{spread(kind, lambda run: run['accuracy'].get('worked_right', 0.0), '{:.0%}')} | {reward} | "
                     f"{spread(kind, lambda run: run['cpu_seconds'] / 60, '{:.1f}')} | {speed} | "
                     f"{spread(kind, lambda run: len(hacked(run)), '{:.0f}')} |")
    half = len(gains) // 2
    lines += ["", f"Points gained in greedy accuracy: GRPO {', '.join(f'{gain:+.1f}' for gain in gains[:half])}; PPO "
              f"{', '.join(f'{gain:+.1f}' for gain in gains[half:])}. Alarms are validations at which the monitors "
              "said that the reward is being hacked (other advice, as on longer answers, is not counted); `hack` pays "
              "for results from 50 to 99, and was first caught at step "
              + ", ".join(min(hacked(run["hack"]), key=int, default="never") for run in runs.values())
              + f" of {next(iter(runs.values()))['hack']['steps']}: "
              + next((said for run in runs.values() for said in hacked(run["hack"]).values()), "–") + "."]
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("workshop/rl"))
    parser.add_argument("--one", choices=list(CHANGES), help="train one run of the first seed in this process")
    parser.add_argument("overrides", nargs="*", help="of the recipe, for --one")
    options = parser.parse_args()
    if options.one:
        import torch

        torch.set_num_threads(1)
        seed = options.seeds[0]
        found = one(options.one, seed, options.folder, options.overrides)
        (options.folder / f"seed-{seed}" / f"{options.one}.json").write_text(json.dumps(found, indent=1))
        print(options.one, seed, found["accuracy"], f"{found['cpu_seconds'] / 60:.1f} CPU minutes")
        return
    runs = {seed: {kind: result(kind, seed, options.folder, []) for kind in CHANGES} for seed in options.seeds}
    update("rl", report(runs))


if __name__ == "__main__":
    main()
