"""Tokens a second and memory of fine-tuning steps: ours against TRL's `SFTTrainer`, `DPOTrainer` and `GRPOTrainer`.

    python benchmarks/align.py --peer-python .venv-trl/bin/python --repeats 3
    python benchmarks/align.py --quick                          # minutes, to see that everything runs; writes nothing
    python benchmarks/align.py --kept runs.jsonl --tasks sft    # in parts: what a file holds is not run again

Both sides begin at the same weights (one random model of Qwen3's shape, saved once), read the same conversations or
pairs in the same tokens, and make the same number of optimiser steps of about the same number of tokens. Counted are
tokens that are no padding; GRPO's step draws its answers, scores them and learns from them. Every run is a process of
its own, in turn, on the threads that are asked for; a figure is tokens a second of the processor's time (other programs
may run meanwhile) and of the wall clock.

The peers run in an environment of their own, made once:

    python3 -m venv .venv-trl && .venv-trl/bin/pip install -r benchmarks/requirements-trl.txt
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from _report import machine, update

from bottega import families
from bottega.codecs.text import TextCodec
from bottega.core.files import write_json
from bottega.core.recipe import GeneratorSpec

HERE = Path(__file__).parent
VOCAB, CONTEXT = 16384, 512
SIZES = {"7M": (4, {"width": 256, "heads": 4}), "27M": (8, {"width": 448, "heads": 7})}
# `memory kept`: glibc gives no freed memory back and asks for none by mmap, so that no page is cleared anew for each
# large tensor; nobody has that by default. `run` makes an environment of the option `kept`.
_KEPT = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"
# What of TRL is tried: the options that pad least. The fastest is the peer; gradient checkpointing, TRL's default, is
# off, since it spends time for memory that these models do not need. Tried too and slower: SFT padded and padding-free;
# DPO with the reference in each step; for GRPO transformers' continuous batching, a third of the static cache's speed.
PEERS: dict[str, dict[str, dict[str, Any]]] = {
    "sft": {"TRL, by length": {"train_sampling_strategy": "group_by_length"}, "TRL, packed": {"packing": True},
            "TRL, by length, memory kept": {"train_sampling_strategy": "group_by_length", "kept": True},
            "TRL, packed, memory kept": {"packing": True, "kept": True}},
    "dpo": {"TRL, reference before": {"precompute_ref_log_probs": True},
            "TRL, reference before, memory kept": {"precompute_ref_log_probs": True, "kept": True},
            "TRL, reference before, padding-free, memory kept": {
                "precompute_ref_log_probs": True, "padding_free": True, "max_length": None, "kept": True},
            "TRL, memory kept": {"kept": True}},
    "grpo": {"TRL, generate": {}, "TRL, static cache": {"cache_implementation": "static"},
             "TRL, generate, memory kept": {"kept": True},
             "TRL, static cache, memory kept": {"cache_implementation": "static", "kept": True}},
}
_ADAMW = {"optimizer": "adamw"}
OURS: dict[str, dict[str, dict[str, Any]]] = {
    "sft": {"ours, Muon": {}, "ours, AdamW": _ADAMW, "ours, AdamW, memory kept": {**_ADAMW, "kept": True}},
    "dpo": {"ours, AdamW": _ADAMW, "ours, AdamW, memory kept": {**_ADAMW, "kept": True},
            "ours, AdamW, reference before": {**_ADAMW, "ahead": True},
            "ours, AdamW, reference before, memory kept": {**_ADAMW, "ahead": True, "kept": True}},
    "grpo": {"ours, Muon": {}, "ours, AdamW": _ADAMW, "ours, AdamW, memory kept": {**_ADAMW, "kept": True}},
}


@dataclass
class Contestant:
    """Who runs; `results` gathers what each repeat printed."""

    name: str
    command: list[str]
    options: dict[str, Any]
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ours(self) -> bool:
        return self.name.startswith("ours")

    def rate(self, clock: str) -> float:
        """Median of tokens a second by a clock, `cpu_seconds` or `seconds`."""
        return statistics.median(result["tokens"] / result[clock] for result in self.results)

    def median(self, name: str) -> float:
        return statistics.median(result[name] for result in self.results)


def conversations(data: Path | None) -> list[dict[str, Any]]:
    """Return conversations of one question and one answer: real ones where there are such, else the built-in desk's."""
    if data is not None and (data / "instruct_small").is_dir():
        rows = json.loads((data / "instruct_small" / "llamafactory_alpaca_en_demo.json").read_text(encoding="utf-8"))
        return [{"messages": [{"role": "user", "content": f"{row['instruction']}\n{row['input']}".strip()},
                              {"role": "assistant", "content": row["output"]}]} for row in rows if row["output"]]
    from bottega.data.builtin import BUILTIN

    return [record.payload() for record in BUILTIN["support-desk"]()]


def pairs(data: Path | None) -> list[dict[str, Any]]:
    """Return preferences of people (or the built-in ones): `messages`, `chosen`, `rejected`."""
    if data is None or not (data / "hh_rlhf_harmless_test").is_dir():
        from bottega.data.builtin import BUILTIN

        return [record.payload() for record in BUILTIN["house-tone"]()]
    found = []
    with gzip.open(data / "hh_rlhf_harmless_test" / "harmless_base_test.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            sides = [_turns(json.loads(line)[side]) for side in ("chosen", "rejected")]
            if all(len(side) > 1 and side[-1]["role"] == "assistant" and side[-1]["content"] for side in sides) \
                    and sides[0][:-1] == sides[1][:-1]:
                found.append({"messages": sides[0][:-1], "chosen": sides[0][-1]["content"],
                              "rejected": sides[1][-1]["content"]})
    return found


def _turns(text: str) -> list[dict[str, str]]:
    parts = re.split(r"\n\n(Human|Assistant): ", text)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[role], "content": said.strip()} for role, said in zip(parts[::2], parts[1::2], strict=True)]


def sums(count: int) -> list[dict[str, Any]]:
    """Return prompts with known answers for GRPO: two-digit sums."""
    return [{"messages": [{"role": "user", "content": f"{one} + {other} = ?"},
                          {"role": "assistant", "content": str(one + other)}]}
            for one, other in ((10 + 7 * i % 89, 10 + 13 * i % 83) for i in range(count))]


def prepare(folder: Path, data: Path | None, size: str, args: argparse.Namespace) -> dict[str, Any]:
    """Write model, data and settings of a size for all contestants; return the settings."""
    talks, choices = conversations(data), pairs(data)
    texts = [turn["content"] for row in talks for turn in row["messages"]]
    texts += [text for row in choices for text in (row["messages"][-1]["content"], row["chosen"], row["rejected"])]
    codec = TextCodec.train(texts, VOCAB)
    depth, shape = SIZES[size]
    torch.manual_seed(0)
    special = {name: getattr(codec, name) for name in ("bos", "eos", "pad", "unk")} | {"end": codec.end_of_turn}
    # no row of the head without a token: those would be drawn by TRL and not by ours
    model = families.build(GeneratorSpec(depth=depth, **shape), vocab_size=codec.vocab_size, context=CONTEXT,
                           special=special)
    model.save(folder / "model")
    codec.save(folder / "model", CONTEXT)
    whole = [_with_answers(row) for row in choices]
    lengths = [len(codec.encode_chat(row["messages"])) for row in talks]
    talks = [row for row, length in zip(talks, lengths, strict=True) if length <= CONTEXT]
    fitting = [max(len(codec.encode_chat(side)) for side in sides) <= CONTEXT for sides in whole]
    choices = [row for row, fits in zip(choices, fitting, strict=True) if fits]
    means = {"sft": statistics.mean(length for length in lengths if length <= CONTEXT),
             "dpo": statistics.mean(len(codec.encode_chat(side)) for sides, fits in zip(whole, fitting, strict=True)
                                    if fits for side in sides), "grpo": 0.0}
    for name, rows in (("sft", talks), ("dpo", choices), ("grpo", sums(512))):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    needed = (args.warm + args.steps + 1) * round(args.batch_tokens / means["dpo"] / 2)  # pairs of all steps
    facts = {"context": CONTEXT, "batch_tokens": args.batch_tokens, "warm": args.warm, "steps": args.steps,
             "mean_tokens": means, "pairs": needed, "group": args.group, "completion": args.completion,
             "prompts": max(1, args.batch_tokens // (args.group * args.completion)), "vocabulary": codec.vocab_size,
             "parameters": sum(p.numel() for p in model.parameters())}
    write_json(folder / "task.json", facts)
    return facts


def _with_answers(row: dict[str, Any]) -> list[list[dict[str, str]]]:
    return [[*row["messages"], {"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")]


class Kept:
    """Results in a file, a JSON line each, so that a benchmark of an hour can be made in parts; none without a path."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8") if path and path.is_file() else ""
        self.known: dict[str, dict[str, Any]] = {line["key"]: line for line in map(json.loads, text.splitlines())}

    def get(self, key: str) -> dict[str, Any] | None:
        return self.known.get(key)

    def add(self, key: str, result: dict[str, Any]) -> None:
        if self.path:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps({'key': key, **result})}\n")


def run(one: Contestant, folder: Path, setting: str, seed: int, kept: Kept) -> None:
    """Run a contestant in a process of its own and keep what it printed; `setting`: size, task, precision, threads."""
    key = f"{setting} {one.name} {seed}"
    if (known := kept.get(key)) is not None:
        one.results.append(known)
        return
    _, task, precision, threads = setting.split()
    options = {name: value for name, value in one.options.items() if name != "kept"}
    command = [*one.command, task, str(folder), str(seed), json.dumps({"precision": precision, **options})]
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false",
                   "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(HERE.parent / "src"), "GOMP_SPINCOUNT": "1000",
                   **({"GLIBC_TUNABLES": _KEPT} if "kept" in one.options else {})}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        print(f"{key} failed (exit code {done.returncode}): {done.stderr[-1500:]}", file=sys.stderr)
        return
    one.results.append(result := json.loads(done.stdout.splitlines()[-1]))
    kept.add(key, result)
    print(f"{key}: {result['tokens'] / result['cpu_seconds']:,.0f} tokens a CPU "
          f"second, {result['tokens'] / result['seconds']:,.0f} a second, peak {result['peak_mb']:,.0f} MB "
          f"(+{result['grown_mb']:,.0f}), loss {result['loss']:.3f}", file=sys.stderr, flush=True)


def contestants(task: str, peer_python: Path) -> list[Contestant]:
    """Return ours and, where its environment is there, the peer's."""
    ours = [Contestant(name, [sys.executable, str(HERE / "_align_ours.py")], options)
            for name, options in OURS[task].items()]
    if not peer_python.is_file():
        print(f"left out: TRL (no {peer_python})", file=sys.stderr)
        return ours
    return ours + [Contestant(name, [str(peer_python), str(HERE / "_align_peers.py")], options)
                   for name, options in PEERS[task].items()]


def table(task: str, field_: list[Contestant]) -> list[str]:
    """Return the rows of one setting; ratios are of the fastest peer's."""
    peers = [one for one in field_ if not one.ours and one.results]
    best = max(peers, key=lambda one: one.rate("cpu_seconds"), default=None)
    more = task == "grpo"
    rows = ["| | tokens a CPU second (range) | ratio | tokens a second | ratio | peak memory, MB | of it by the steps |"
            f"{' drawn |' * more}", f"|---|--:|--:|--:|--:|--:|--:|{'--:|' * more}"]
    for one in field_:
        if not one.results:
            continue
        ratios = ["" if best is None or not one.ours else f"{one.rate(clock) / best.rate(clock):.2f}x"
                  for clock in ("cpu_seconds", "seconds")]
        each = [result["tokens"] / result["cpu_seconds"] for result in one.results]
        drawn = sum(result["drawn"] for result in one.results) / sum(result["tokens"] for result in one.results)
        rows.append(f"| {one.name}{' (the peer)' if one is best else ''} | {one.rate('cpu_seconds'):,.0f} "
                    f"({min(each):,.0f}–{max(each):,.0f}) | "
                    f"{ratios[0]} | {one.rate('seconds'):,.0f} | {ratios[1]} | {one.median('peak_mb'):,.0f} | "
                    f"{one.median('grown_mb'):,.0f} |{f' {drawn:.0%} |' * more}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="timed optimiser steps a run")
    parser.add_argument("--warm", type=int, default=2, help="steps before the clock starts")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="tokens an optimiser step, about")
    parser.add_argument("--group", type=int, default=8, help="GRPO: answers a prompt")
    parser.add_argument("--completion", type=int, default=64, help="GRPO: longest answer, tokens")
    parser.add_argument("--tasks", default="sft,dpo,grpo")
    parser.add_argument("--sizes", default="7M,27M")
    parser.add_argument("--settings", default="fp32:1,fp32:2,bf16:1", help="precision:threads, …")
    parser.add_argument("--kept", type=Path, help="file of results that are not made again")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peer-python", type=Path, default=Path(".venv-trl/bin/python"))
    place = os.environ.get("BOTTEGA_DATA")
    parser.add_argument("--data", type=Path, default=Path(place) if place else None)
    args = parser.parse_args()
    if args.quick:
        args.repeats, args.steps, args.warm, args.sizes, args.settings = 1, 2, 1, "7M", "fp32:1"
    lines: list[str] = []
    kept = Kept(None if args.quick else args.kept)
    with tempfile.TemporaryDirectory() as place_:
        for size in args.sizes.split(","):
            folder = Path(place_) / size
            (folder / "model").mkdir(parents=True)
            facts = prepare(folder, args.data, size, args)
            for task in args.tasks.split(","):
                for setting in args.settings.split(","):
                    precision, threads = setting.split(":")
                    field_ = contestants(task, args.peer_python)
                    for repeat in range(args.repeats):
                        turn = repeat % len(field_)  # another one begins each time
                        for one in [*field_[turn:], *field_[:turn]]:
                            run(one, folder, f"{size} {task} {precision} {threads}", repeat, kept)
                    lines += [f"**{task.upper()}, {size}, {precision}, {threads} thread"
                              f"{'s' if threads != '1' else ''}**", "", *table(task, field_), ""]
    means = facts["mean_tokens"]
    text = "\n".join([
        "## Fine-tuning steps against TRL", "",
        f"`python benchmarks/align.py --tasks {args.tasks} --sizes {args.sizes} --settings {args.settings} --repeats "
        f"{args.repeats} --steps {args.steps}` on {machine()}. Medians of {args.repeats} runs in turn, each a process "
        f"of its own, {args.warm} steps before the clock starts and {args.steps} timed; about {args.batch_tokens:,} "
        f"tokens an optimiser step, context {CONTEXT}, vocabulary {facts['vocabulary']:,}; sequences of "
        f"{means['sft']:.0f} (SFT) and {means['dpo']:.0f} (DPO) tokens in the mean, of "
        f"{'public sets' if args.data else 'the built-in data'}. Both sides begin at the same random weights and read "
        "the same tokens. Tokens are those that are no padding; DPO's count prompt and answer, chosen and rejected. A "
        f"step of GRPO draws {args.group} answers of at most {args.completion} tokens to each of {facts['prompts']} "
        "prompts at temperature 1, scores them and learns from them once, without a reference; its tokens are those "
        "of prompts and answers, and `drawn` is the answers' part. `reference before`: the reference's "
        "log-probabilities are made before the clock starts. TRL's AdamW is PyTorch's fused one; nothing is compiled "
        "on either side; gradient checkpointing, TRL's default, is off. `memory kept`: glibc keeps freed memory, "
        "nobody's default. Ratios are of the fastest that TRL gets, its memory kept or not. Peak memory is "
        "the process's, and what it grew by from the loaded model and data to the last step.", "", *lines])
    print(text)
    if not args.quick:
        update("align", text)


if __name__ == "__main__":
    main()
