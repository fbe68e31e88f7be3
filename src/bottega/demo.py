"""The demo: raw text to an aligned model that answers and explains itself. `bottega demo` (or `make demo`) runs it.

Three recipes, each starting from the model before: pretrain, fine-tune on instructions, align with preferences. After
each one the same held-out cases are measured and the same prompts answered, and a report shows all of it. With `--all`
three models of pictures follow (`demo_pictures.py`).
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bottega import demo_pictures
from bottega.core.bundle import META, Bundle
from bottega.core.energy import Cost
from bottega.core.errors import RecipeError
from bottega.core.files import digest_json, read_json, write_json
from bottega.core.home import recipe_path
from bottega.core.lineage import ancestry, code_digest
from bottega.core.progress import say, timed
from bottega.core.recipe import Recipe
from bottega.core.request import Controls, Message, Request
from bottega.data.dataset import Dataset
from bottega.data.pipeline import prepare
from bottega.demo_pictures import Painted
from bottega.evaluation import baselines, suites
from bottega.evaluation.report import DataCard, Glass, Metric, ReportData, Sample, Stage, write_report
from bottega.generation.engine import Engine
from bottega.training.metrics import read_history
from bottega.training.run import make

CHAIN = ("python-lm", "python-assistant", "python-assistant-dpo")
_ABOUT = {
    "python-lm": "Learns to continue text from Python's own documentation and library source.",
    "python-assistant": "Learns to answer: questions about Python, and a customer-support desk with known policies.",
    "python-assistant-dpo": "Learns which of two right answers people prefer: the house tone over the curt one.",
}
_CONTINUE = ("def read_lines(path):\n", "The statement is used to ")
_WATCH = {"pretrain": ("bits_per_byte",), "sft": ("token_accuracy",), "dpo": ("accuracy",)}


@dataclass(slots=True)
class _Made:
    """One finished link of the chain with what was measured on it."""

    recipe: Recipe
    bundle: Bundle
    dataset: Dataset
    suites: dict[str, Any]
    samples: list[tuple[str, str]]
    reused: bool


def run(*, home: Path, folder: Path, seed: int = 0, fresh: bool = False, pictures: bool = False) -> dict[str, Any]:
    """Make the chain, measure every link, write the report.

    Args:
        home: the workshop.
        folder: where `report.html` and `results.json` go.
        seed: of weights, data order and samples.
        fresh: forget the demo's models and runs first.
        pictures: make the models of pictures too.

    Returns:
        JSON-ready results: seconds, baselines, and for each model its metrics and suites; of models of pictures their
        scores.

    Raises:
        MissingExtraError: pictures are wanted and a library for them is not installed; found before any work.
    """
    start = time.perf_counter()
    painting = demo_pictures.recipes(seed) if pictures else []
    write_json(folder / "results.json", {})  # a folder that cannot be written is found out now, not at the end
    if fresh:
        for name in (*CHAIN, *(recipe.name for recipe in painting)):
            shutil.rmtree(home / "models" / name, ignore_errors=True)
            shutil.rmtree(home / "runs" / name, ignore_errors=True)
    recipes = [Recipe.load(recipe_path(name), [f"seed={seed}"]) for name in CHAIN]
    last = recipes[-1].evaluation
    chain: list[_Made] = []
    for number, recipe in enumerate(recipes, 1):
        say(f"\n── {number} of {len(recipes) + len(painting)}: {recipe.name} · {_ABOUT[recipe.name]}")
        bundle, reused = _make(recipe, home)
        dataset = prepare(recipe.data, home=home, seed=recipe.seed)
        with timed(f"measuring {recipe.name} on held-out cases"):
            found, samples = _measure(bundle, last.suites, last.cases, [*last.prompts], seed, home)
        for name, metrics in found.items():
            say(f"  {name}: " + ", ".join(f"{metric} {_percent(value)}" for metric, value in metrics.items()))
        chain.append(_Made(recipe, bundle, dataset, found, samples, reused))
    painted: list[Painted] = []
    for number, recipe in enumerate(painting, len(recipes) + 1):
        say(f"\n── {number} of {len(recipes) + len(painting)}: {recipe.name} · {demo_pictures.ABOUT[recipe.name]}")
        painted.append(demo_pictures.judge(recipe, *_make(recipe, home), home, seed))
    compared = _baselines(chain[0], home)
    seconds = time.perf_counter() - start
    report = _report(chain, painted, compared, seconds, home, folder, seed)
    results = {
        "seed": seed, "seconds": round(seconds, 1), "baselines": compared, "report": str(report),
        "models": {made.recipe.name: {"path": str(made.bundle.path), "digest": made.bundle.digest,
                                      "reused": made.reused, "before": _before(made, home),
                                      "metrics": made.bundle.meta["metrics"], "suites": made.suites,
                                      "training": made.bundle.meta["training"]} for made in chain},
        "pictures": demo_pictures.results(painted),
    }
    write_json(folder / "results.json", results)
    _what_next(chain, painted, compared, seconds, report)
    return results


def _make(recipe: Recipe, home: Path) -> tuple[Bundle, bool]:
    """Make one link, going on where a stopped demo was, and return whether it was there already."""
    began = time.time()
    bundle = _trained(recipe, home)
    return bundle, (bundle.path / META).stat().st_mtime < began


def _trained(recipe: Recipe, home: Path) -> Bundle:
    if (home / "runs" / recipe.name / "checkpoints").is_dir():
        try:
            return make(recipe, home=home, resume=True)
        except RecipeError:
            say("what is there is of another recipe: training from the start")
    return make(recipe, home=home)


def _measure(bundle: Bundle, names: list[str], cases: int, prompts: list[str], seed: int,
             home: Path) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the suites' figures and the answers to the shared prompts, from the workshop when they are there."""
    key = digest_json([bundle.digest, names, cases, prompts, seed, code_digest()])
    cache = home / "cache" / "evaluations" / f"{key[:16]}.json"
    if cache.is_file():
        kept = read_json(cache)
        return kept["suites"], [(prompt, text) for prompt, text in kept["samples"]]
    engine = Engine.open(bundle)

    def answers(requests: list[Request]) -> list[str]:
        return [result.outputs[0].text for result in engine.generate_many(requests)]

    found = {name: suites.run(name, answers, cases=cases, seed=seed) for name in names}
    continued = Controls(temperature=0.7, top_p=0.95, max_tokens=48, seed=seed)
    answered = Controls(temperature=0.0, max_tokens=120, seed=seed)
    requests = [Request(prompt=prompt, controls=continued) for prompt in _CONTINUE]
    requests += [Request(messages=[Message(role="user", content=p)], controls=answered) for p in prompts]
    samples = list(zip([*_CONTINUE, *prompts], answers(requests), strict=True))
    write_json(cache, {"suites": found, "samples": samples})
    return found, samples


def _baselines(first: _Made, home: Path) -> dict[str, float]:
    """Return bits per byte of compressors and of a unigram over the model's own tokens, on the same held-out text."""
    from bottega.codecs.text import TextCodec
    from bottega.data.pack import pack

    codec = TextCodec.load(first.bundle.path)
    shards = pack(first.dataset, codec.encode_batch, codec_digest=codec.digest, vocab_size=codec.vocab_size,
                  bos=codec.bos, home=home)
    counts = baselines.token_counts(shards.tokens("train"), codec.vocab_size)
    found = baselines.compressed_bits_per_byte(first.dataset.texts("validation"))
    unigram = baselines.unigram_bits_per_byte(counts, shards.tokens("validation"), shards.bytes("validation"))
    return {**found, "unigram over the same tokens": unigram}


def _before(made: _Made, home: Path) -> dict[str, float]:
    """Return the held-out figures before the stage's first step."""
    history = read_history(home / "runs" / made.recipe.name)
    return dict(history[0].get("validation") or {}) if history and history[0]["step"] == 0 else {}


def _percent(value: Mapping[str, Any]) -> str:
    return f"{100 * value['value']:.1f} % [{100 * value['low']:.1f}, {100 * value['high']:.1f}] n={value['n']}"


def _metrics(made: _Made) -> list[Metric]:
    """Return a stage's figures for the report's table."""
    better = {"bits_per_byte": "lower", "loss": "lower", "perplexity": "lower"}
    found = [Metric(f"{made.recipe.objective.kind}: {name.replace('_', ' ')}", float(value),
                    better="lower" if better.get(name) else "higher", note="the stage's own held-out data")
             for name, value in made.bundle.meta["metrics"].items()]
    for suite, metrics in made.suites.items():
        found += [Metric(f"{suite}: {name}", value["value"], n=value["n"], low=value["low"], high=value["high"],
                         unit="%", note="cases never seen in training") for name, value in metrics.items()]
    return found


def _stage(made: _Made, home: Path) -> Stage:
    meta = made.bundle.meta
    training, choices = meta["training"], meta.get("choices", {})
    facts = {"parameters": f"{meta['derived'].get('parameters', 0):,}", "steps": f"{training['steps']:,}",
             "tokens": f"{training['tokens']:,}", "tokens a second": f"{training['tokens_per_second']:,.0f}",
             "precision": choices.get("precision", ""), "compiled": choices.get("compiled", "")}
    return Stage(name=made.recipe.name, kind=made.recipe.objective.kind, about=_ABOUT[made.recipe.name],
                 history=read_history(home / "runs" / made.recipe.name),
                 watch=_WATCH[made.recipe.objective.kind], metrics=_metrics(made), facts=facts,
                 samples=[Sample(prompt, text) for prompt, text in made.samples], cost=made.bundle.lineage.cost,
                 tokens=training["tokens"], reused=made.reused)


def _report(chain: list[_Made], painted: list[Painted], compared: dict[str, float], seconds: float, home: Path,
            folder: Path, seed: int) -> Path:
    final = chain[-1]
    bits = chain[0].bundle.meta["metrics"]["bits_per_byte"]
    prompt = final.recipe.evaluation.prompts[0]
    steps = list(Engine.open(final.bundle).stream(Request(
        messages=[Message(role="user", content=prompt)], alternatives=5,
        controls=Controls(temperature=0.8, top_p=0.95, max_tokens=120, seed=seed))))
    cost = sum((bundle.lineage.cost for bundle in (*(m.bundle for m in chain), *(p.bundle for p in painted))), Cost())
    drew = " Three families learned to draw." if painted else ""
    headline = {"held-out bits per byte": f"{bits:.3f} (gzip {compared['gzip']:.3f})"}
    for name, metrics in final.suites.items():
        key, value = list(metrics.items())[-1]
        headline[f"{name}: {key}"] = f"{100 * value['value']:.0f} %"
    machine = f"{torch.get_num_threads()} threads, {platform.machine()}, Python {platform.python_version()}, " \
              f"torch {torch.__version__}"
    return write_report(folder / "report.html", ReportData(
        title="Generators of text and pictures made on this machine" if painted else
              "A language model made on this machine",
        summary=f"Prepared, pretrained, taught to answer and aligned in {seconds / 60:.1f} minutes on {machine}, from "
                f"text that every Python installation holds.{drew} All figures are on held-out data.",
        headline={**headline, "energy": f"{cost.energy_wh_low:.1f}-{cost.energy_wh_high:.1f} Wh"},
        stages=[*(_stage(made, home) for made in chain), *demo_pictures.stages(painted, home)],
        data=[*(DataCard.of(made.dataset.card, ", ".join(made.recipe.data.sources)) for made in chain),
              *demo_pictures.cards(painted)],
        baselines={"bits_per_byte": compared},
        glass=[Glass(prompt=prompt, steps=steps, model=final.recipe.name)],
        lineage=ancestry(final.bundle.path, home),
        next_steps=[("bottega serve", "talk to the model in a browser, rate it, improve it; or ask it over HTTP"),
                    ("bottega chat", "talk to the model"),
                    (f'bottega explain "{prompt}"', "open an answer: probabilities, alternatives, controls"),
                    ("bottega train recipes/text-lm.yaml data.sources=[path/to/folder]", "train on your own texts"),
                    ("bottega lineage", "see where the model came from")],
        machine=machine, made=datetime.now(UTC).isoformat(timespec="seconds")))


def _what_next(chain: list[_Made], painted: list[Painted], compared: dict[str, float], seconds: float,
               report: Path) -> None:
    """Say on the terminal what was made and how to go on."""
    bits = chain[0].bundle.meta["metrics"]["bits_per_byte"]
    say(f"\nDone in {seconds / 60:.1f} minutes. Held-out bits per byte {bits:.3f}; "
        + ", ".join(f"{name} {value:.3f}" for name, value in compared.items()))
    say(f"Report: {report}\nNext:\n  .venv/bin/bottega serve    then open http://127.0.0.1:8400 in a browser\n"
        "  .venv/bin/bottega chat\n"
        f'  .venv/bin/bottega explain "{chain[-1].recipe.evaluation.prompts[0]}"\n'
        "  .venv/bin/bottega train recipes/text-lm.yaml data.sources=[path/to/folder]\n"
        + ('  .venv/bin/bottega generate "a small red star above a blue moon" --model symbols-diffusion --n 4 --grid'
           if painted else "  .venv/bin/bottega demo --all    makes models of pictures too"))
