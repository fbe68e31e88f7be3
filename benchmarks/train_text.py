"""Held-out loss and tokens/s at equal minutes: ours against Hugging Face `Trainer` and litgpt.

    python benchmarks/train_text.py --minutes 4 --repeats 3 --depth 4
    python benchmarks/train_text.py --quick                 # a minute, to see that everything runs; writes nothing

All train a decoder of the same shape on the same tokens of real novels (BOTTEGA_DATA/english_novels, or --data with
a folder or zip of .txt files) and are measured on the same held-out windows. Peers run in an environment of their own:

    python3 -m venv .venv-bench && .venv-bench/bin/pip install -e . -r benchmarks/requirements.txt
    python3 -m venv .venv-litgpt && .venv-litgpt/bin/pip install -r benchmarks/requirements-litgpt.txt
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import machine, update
from numpy.typing import NDArray

from bottega import families
from bottega.codecs.text import TextCodec
from bottega.core.files import write_json
from bottega.core.recipe import Budget, CodecSpec, DataSpec, GeneratorSpec, Recipe, TrainingSpec
from bottega.evaluation.baselines import gzip_bits_per_byte, token_counts, unigram_bits_per_byte
from bottega.objectives.pretrain import Pretrain
from bottega.training.estimate import estimate
from bottega.training.loop import train
from bottega.training.metrics import read_history

HERE = Path(__file__).parent
CONTEXT, POINTS = 256, 6
RATES = (5e-4, 1e-3, 2e-3, 4e-3)  # tried for the tuned Trainer


@dataclass
class Arrays:
    """The packed tokens of both splits (what the objective calls shards)."""

    splits: dict[str, NDArray[np.uint16]]

    def tokens(self, split: str) -> NDArray[np.uint16]:
        return self.splits[split]


@dataclass
class Contestant:
    """Who runs and how; `results` gathers one outcome a repeat."""

    name: str
    run: Callable[[int, float], dict[str, Any]]  # (seed, minutes) → outcome
    share: float = 1.0  # of the minutes
    results: list[dict[str, Any]] = field(default_factory=list)

    def median(self, read: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(read(result) for result in self.results)

    @property
    def final(self) -> float:
        return self.median(lambda result: result["curve"][-1][1])


def novels(path: Path, limit: int | None) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of the .txt files in a folder or zip, in order of name."""
    if path.is_dir() and list(path.glob("*.zip")):
        path = sorted(path.glob("*.zip"))[0]
    if path.is_dir():
        for file in sorted(path.rglob("*.txt"))[:limit]:
            yield file.name, file.read_text(encoding="utf-8", errors="replace")
        return
    with zipfile.ZipFile(path) as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(".txt"))[:limit]:
            yield name, archive.read(name).decode("utf-8", errors="replace")


def prepare(texts: list[tuple[str, str]], vocab: int) -> tuple[TextCodec, Arrays, dict[str, float]]:
    """Split by novel (each tenth is held out), train the codec on the training split, encode, measure baselines."""
    held_out = [text for number, (_, text) in enumerate(texts) if number % 10 == 0]
    train_texts = [text for number, (_, text) in enumerate(texts) if number % 10 != 0]
    codec = TextCodec.train(train_texts, vocab)
    arrays = Arrays({name: np.array([token for ids in codec.encode_batch(part) for token in (codec.bos, *ids)],
                                    dtype=np.uint16)
                     for name, part in (("train", train_texts), ("validation", held_out))})
    size = sum(len(text.encode()) for text in held_out)
    unigram = unigram_bits_per_byte(token_counts(arrays.tokens("train"), vocab), arrays.tokens("validation"), size)
    return codec, arrays, {"gzip -9": gzip_bits_per_byte(held_out), "unigram over the same tokens": unigram}


class Ours:
    """Our loop through its public interface, its budget in minutes; validation and checkpoints are on its clock."""

    def __init__(self, codec: TextCodec, arrays: Arrays, depth: int, minutes: float, held_out: int,
                 home: Path) -> None:
        self.codec, self.arrays, self.held_out, self.home = codec, arrays, held_out, home
        self.lengths = np.array([len(codec.token_bytes(token)) for token in range(codec.vocab_size)])
        self.recipe = Recipe(
            name="benchmark", data=DataSpec(sources=["-"]), codec=CodecSpec(vocab_size=codec.vocab_size),
            generator=GeneratorSpec(depth=depth),
            training=TrainingSpec(budget=Budget(minutes=minutes), context=CONTEXT, validate_every=1 / POINTS,
                                  validation_tokens=held_out, sample_every=0))
        self.sizes = estimate(self.recipe, home=home, generator=self.generator(0)).sizes

    def generator(self, seed: int) -> Any:
        torch.manual_seed(seed)
        special = {"bos": self.codec.bos, "eos": self.codec.eos, "pad": self.codec.pad, "unk": self.codec.unk}
        model = families.build(self.recipe.generator, vocab_size=self.codec.vocab_size, context=CONTEXT,
                               special=special)
        return model.to("cuda") if torch.cuda.is_available() else model

    def objective(self, seed: int) -> Pretrain:
        return Pretrain(self.generator(seed), self.arrays, self.lengths, context=CONTEXT,
                        batch_tokens=self.sizes.batch_tokens, micro_batch=self.sizes.micro_batch, seed=seed,
                        validation_tokens=self.held_out)

    def __call__(self, seed: int, minutes: float) -> dict[str, Any]:
        objective = self.objective(seed)
        spec = self.recipe.training.model_copy(update={"budget": Budget(minutes=minutes)})
        with tempfile.TemporaryDirectory(dir=self.home) as run:
            result = train(objective, spec, run=Path(run), seed=seed, cache=self.home / "cache")
            curve = [(line["seconds"], line["validation"]["bits_per_byte"])
                     for line in read_history(Path(run)) if line.get("validation")]
        return {"parameters": sum(p.numel() for p in objective.generator.parameters()), "seconds": result.seconds,
                "tokens": result.tokens, "curve": curve, "settings": result.choices}


def peer(python: Path, name: str, task: Path, options: dict[str, Any]) -> Callable[[int, float], dict[str, Any]]:
    """Return a runner of a peer in its own process."""
    def run(seed: int, minutes: float) -> dict[str, Any]:
        command = [str(python), str(HERE / "_train_peers.py"), name, str(task), str(seed), str(minutes),
                   json.dumps(options)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return dict(json.loads(done.stdout.splitlines()[-1]))

    return run


def has(python: Path, module: str) -> bool:
    """Whether an interpreter can import a module."""
    return python.is_file() and subprocess.run([str(python), "-c", f"import {module}"], capture_output=True,
                                               check=False).returncode == 0


def seconds_to(curve: list[tuple[float, float]], goal: float) -> float | None:
    """Return when a curve first reached the goal (straight lines between validations), or None."""
    for (before, high), (after, low) in pairwise(curve):
        if low <= goal:
            return before if high <= goal else before + (after - before) * (high - goal) / (high - low)
    return None


def table(contestants: list[Contestant], ours: Contestant, minutes: float) -> list[str]:
    rows = ["| | parameters | bits per byte | spread | tokens/s | our time to its loss | ratio |",
            "|---|--:|--:|--:|--:|--:|--:|"]
    for one in contestants:
        finals = [result["curve"][-1][1] for result in one.results]
        reach, ratio = "", ""
        if one is not ours and one.share == 1:
            times = [seconds_to(result["curve"], one.final) for result in ours.results]
            known = [time for time in times if time is not None]
            reach = f"{statistics.median(known):.0f} s" if len(known) == len(times) else "not reached"
            ratio = f"{minutes * 60 / statistics.median(known):.1f}x" if len(known) == len(times) else "–"
        rows.append(f"| {one.name} | {one.results[0]['parameters'] / 1e6:.2f}M | {one.final:.4f} | "
                    f"{max(finals) - min(finals):.4f} | {one.median(lambda r: r['tokens'] / r['seconds']):,.0f} | "
                    f"{reach} | {ratio} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--held-out", type=int, default=32768, help="held-out tokens a validation")
    parser.add_argument("--quick", action="store_true", help="tiny model, seconds, results only printed")
    place = os.environ.get("BOTTEGA_DATA")
    parser.add_argument("--data", type=Path, default=Path(place) / "english_novels" if place else None)
    parser.add_argument("--hf-python", type=Path, default=Path(sys.executable))
    parser.add_argument("--litgpt-python", type=Path, default=Path(".venv-litgpt/bin/python"))
    args = parser.parse_args()
    if args.quick:
        args.minutes, args.repeats, args.depth, args.vocab = 0.15, 1, 2, 1024
        args.held_out = 4096
    if args.data is None or not args.data.exists():
        parser.error(f"no novels at {args.data}: set BOTTEGA_DATA, or give --data a folder or zip of .txt files")
    texts = list(novels(args.data, 4 if args.quick else None))
    codec, arrays, baselines = prepare(texts, args.vocab)
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        ours = Ours(codec, arrays, args.depth, args.minutes, args.held_out, home)
        contestants = line_up(ours, arrays, args, home)
        for repeat in range(args.repeats):
            turn = repeat % len(contestants)  # another one begins each time
            for one in [*contestants[turn:], *contestants[:turn]]:
                one.results.append(one.run(repeat, args.minutes * one.share))
                result = one.results[-1]
                print(f"repeat {repeat} {one.name}: {result['curve'][-1][1]:.4f} bits per byte, "
                      f"{result['tokens'] / result['seconds']:,.0f} tokens/s", file=sys.stderr, flush=True)
        text = report(contestants, args, baselines, len(arrays.tokens("train")), ours)
    print(text)
    if not args.quick:
        update("train_text", text)


def line_up(ours: Ours, arrays: Arrays, args: argparse.Namespace, home: Path) -> list[Contestant]:
    """Write the task for the peers, tune the Trainer's learning rate, and return who takes part."""
    task, config = home / "task", ours.generator(0).config
    task.mkdir()
    np.save(task / "train.npy", arrays.tokens("train"))
    np.save(task / "byte_lengths.npy", ours.lengths)
    batches = list(ours.objective(0).validation())
    np.save(task / "held_out.npy", np.concatenate(
        [torch.cat([b["tokens"], b["targets"][:, -1:]], 1).numpy() for b in batches]))
    write_json(task / "task.json", {
        "vocab": config.vocab_size, "context": CONTEXT, "depth": config.depth, "width": config.width,
        "heads": config.heads, "kv_heads": config.kv_heads, "head_dim": config.head_dim,
        "intermediate": config.intermediate, "batch_tokens": ours.sizes.batch_tokens,
        "micro_batch": ours.sizes.micro_batch, "points": POINTS})
    found = [Contestant("Bottega", ours), Contestant("Bottega, a third of the minutes", ours, share=1 / 3)]
    if has(args.hf_python, "transformers, accelerate"):
        found.append(Contestant("HF Trainer, its defaults", peer(args.hf_python, "hf", task, {})))
        trials = {}
        for rate in RATES if not args.quick else RATES[1:2]:
            result = peer(args.hf_python, "hf", task, {"learning_rate": rate})(99, args.minutes / 3)
            trials[rate] = result["curve"][-1][1]
            print(f"tuning HF Trainer: {rate:g} gives {trials[rate]:.4f}", file=sys.stderr, flush=True)
        best = min(trials, key=lambda rate: trials[rate])
        found.append(Contestant(f"HF Trainer, tuned (cosine, {best:g})",
                                peer(args.hf_python, "hf", task, {"learning_rate": best})))
    else:
        print("left out: HF Trainer (pip install -r benchmarks/requirements.txt)", file=sys.stderr)
    if has(args.litgpt_python, "litgpt"):
        found.append(Contestant("litgpt, its settings", peer(args.litgpt_python, "litgpt", task, {})))
    else:
        print("left out: litgpt (pip install -r benchmarks/requirements-litgpt.txt in .venv-litgpt)", file=sys.stderr)
    return found


def report(contestants: list[Contestant], args: argparse.Namespace, baselines: dict[str, float], tokens: int,
           ours: Ours) -> str:
    first = contestants[0]
    lines = [
        "## Training a text model: held-out loss at equal minutes", "",
        f"`python benchmarks/train_text.py --minutes {args.minutes:g} --repeats {args.repeats} --depth {args.depth}` "
        f"on {machine()}.", "",
        f"{args.data.name}: {tokens:,} training tokens (byte-level BPE, {args.vocab}), context {CONTEXT}, "
        f"{ours.sizes.batch_tokens:,} tokens a step (HF's defaults: {8 * CONTEXT:,}). Medians of {args.repeats} "
        "seeds, run in turn; spread is highest less lowest. The clock of a peer stops while it validates and starts "
        "after its first step; ours pays for validation and checkpoints. Ratio: the peer's minutes over "
        "the time our run of equal length needed to reach the peer's final loss.", "",
        *table(contestants, first, args.minutes), "",
        "Baselines: " + ", ".join(f"{name} {value:.3f}" for name, value in baselines.items()) + " bits per byte.", ""]
    third = contestants[1]
    for one in contestants[2:]:
        wins = sum(mine["curve"][-1][1] <= theirs["curve"][-1][1]
                   for mine, theirs in zip(third.results, one.results, strict=True))
        lines.append(f"- {one.name}: our run of a third of the minutes ends at or below its loss in {wins} of "
                     f"{len(one.results)} repeats (medians {third.final:.4f} and {one.final:.4f}). Settings: "
                     f"`{json.dumps(one.results[0]['settings'])}`.")
    lines.append(f"- Bottega chose: `{json.dumps(first.results[0]['settings'])}`.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
