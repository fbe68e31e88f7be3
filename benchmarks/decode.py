"""Greedy decoding on the CPU: our engine against `transformers.generate` on the same random Qwen3 weights.

    python benchmarks/decode.py                    # all sizes, one and two threads; writes RESULTS.md
    python benchmarks/decode.py --quick            # the smallest model, to see that everything runs; writes nothing

The whole engine is timed (sampling, text, log-probabilities, steps), prompt included. Contestants take turns within
each repeat, and a ratio is the median over repeats of theirs / ours from the same repeat, because other programs may
use the machine. CPU seconds are given beside wall time: they do not count the time in which others ran.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from _report import machine, update

from bottega.codecs.text import TextCodec
from bottega.core.request import Controls, Request
from bottega.families.transformer import Transformer, TransformerConfig
from bottega.generation.engine import Engine
from bottega.generation.runner import make_runner

SIZES = {"5M": (5, 256, 4096), "30M": (8, 512, 8192), "100M": (12, 768, 32768)}  # depth, width, vocabulary
PROMPT = "one two three four"
PEERS = {"transformers fp32": torch.float32, "transformers bf16": torch.bfloat16}
OURS = ("fp32", "fp16", "int8")


@dataclass
class Contestant:
    """One way to make tokens and what it took, in milliseconds a token of one sequence: wall clock and CPU."""

    name: str
    run: Callable[[], None]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def measure(self, steps: int) -> None:
        start, spent = time.perf_counter(), time.process_time()
        self.run()
        self.wall.append((time.perf_counter() - start) / steps * 1e3)
        self.cpu.append((time.process_time() - spent) / steps * 1e3)


def bandwidth() -> float:
    """Return bytes a second that this process reads from memory with its threads: the best of ten sums of 256 MB."""
    data, best = torch.ones(64 << 20), 0.0
    for _ in range(10):
        start = time.perf_counter()
        data.sum()
        best = max(best, data.nbytes / (time.perf_counter() - start))
    return best


def random_model(size: str) -> tuple[Transformer, TextCodec]:
    depth, width, vocab = SIZES[size]
    torch.manual_seed(0)
    codec = TextCodec.train([PROMPT], vocab)
    generator = Transformer(TransformerConfig.derive(depth, vocab, 1024, {"width": width}, codec.special))
    with torch.no_grad():
        for weight in generator.parameters():
            if weight.dim() == 2:
                weight.normal_(std=weight.shape[1] ** -0.5)
    return generator.eval(), codec


def peers(generator: Transformer) -> dict[str, Any]:
    """Return the same weights as transformers models."""
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        generator.save(Path(folder))
        models = {name: AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
                  for name, dtype in PEERS.items()}
    for model in models.values():
        model.generation_config.eos_token_id = None  # all make the same number of tokens
    return models


def greedy_agrees(generator: Transformer, peer: Any, prompt: list[int], tokens: int) -> bool:
    """Whether our fp32 makes the same greedy tokens as transformers'."""
    runner = make_runner(generator, "fp32")
    reading, rows, made = runner.read(prompt), runner.rows(), list[int]()
    while reading.remaining:
        runner.advance([reading])
    logits = rows.add(reading, 1, tokens)
    for _ in range(tokens):
        made.append(int(logits.argmax(-1)))
        logits = rows.step(torch.tensor(made[-1:]))
    theirs = peer.generate(torch.tensor([prompt]), max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    return made == theirs[0, len(prompt):].tolist()


def contestants(models: dict[str, Any], engines: dict[str, Engine], prompt: list[int], tokens: int,
                batch: int) -> list[Contestant]:
    def peer(model: Any) -> Callable[[], None]:
        ids = torch.tensor([prompt] * batch)

        def run() -> None:
            made = model.generate(ids, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
            assert made.shape == (batch, len(prompt) + tokens)
        return run

    def ours(engine: Engine) -> Callable[[], None]:
        ends = {str(engine.codec.eos): -100.0, str(engine.codec.end_of_turn): -100.0}
        controls = Controls(temperature=0, max_tokens=tokens, logit_bias=ends)
        requests = [Request(prompt=PROMPT, controls=controls)] * batch

        def run() -> None:
            results = engine.generate_many(requests)
            assert all(result.new_tokens == tokens for result in results)
        return run

    return [*(Contestant(name, peer(model)) for name, model in models.items()),
            *(Contestant(f"ours {name}", ours(engine)) for name, engine in engines.items())]


def compare(field_: list[Contestant], tokens: int, repeats: int) -> None:
    for turn in range(repeats + 1):
        for one in field_ if turn % 2 else reversed(field_):  # nobody is always first
            one.measure(tokens)
    for one in field_:
        del one.wall[0], one.cpu[0]  # the first round warms up


def ratio(theirs: list[float], ours: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def rows(size: str, threads: int, batch: int, field_: list[Contestant], limits: dict[str, float]) -> list[str]:
    """Return the lines of the table for one setting."""
    against = {name: next(one for one in field_ if one.name == name) for name in PEERS}
    lines = []
    for one in field_:
        wall = statistics.median(one.wall)
        cells = [f"{ratio(peer.wall, one.wall):.1f} ({ratio(peer.cpu, one.cpu):.1f})" for peer in against.values()]
        limit = limits.get(one.name.split()[-1])
        share = f"{limit / wall:.0%}" if limit and batch == 1 else ""
        lines.append(f"| {size} | {threads} | {batch} | {one.name} | {batch * 1e3 / wall:,.0f} | {wall:.2f} | "
                     f"{statistics.median(one.cpu):.2f} | {cells[0]} | {cells[1]} | {share} |")
        print(lines[-1], flush=True)
    return lines


def _fewer(tokens: int) -> int:
    """Return how many tokens each sequence of a batch makes."""
    return max(8, tokens // 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smallest model, few tokens; writes nothing")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.threads, options.tokens, options.repeats = ["5M"], [1], 32, 2
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    head = ["| model | threads | sequences | decoder | tokens/s | ms a step | CPU ms a step | times transformers fp32 "
            "(CPU) | times transformers bf16 (CPU) | of the memory limit |", "|" + "---|" * 10]
    print("\n".join(head))
    table, notes = head, []
    for size in options.sizes:
        generator, codec = random_model(size)
        prompt = [codec.bos, *codec.encode(PROMPT)]
        models = peers(generator)
        engines = {dtype: Engine(generator, codec, controls=Controls(), model_digest="", lineage={}, dtype=dtype)
                   for dtype in OURS}
        count = generator.config.parameters()
        same = greedy_agrees(generator, models["transformers fp32"], prompt, 64)
        notes.append(f"{size}: {count:,} parameters; first 64 greedy tokens of our fp32 "
                     f"{'equal' if same else 'DIFFER FROM'} transformers fp32")
        for threads in options.threads:
            torch.set_num_threads(threads)
            speed = bandwidth()
            limits = {dtype: count * width / speed * 1e3
                      for dtype, width in (("fp32", 4), ("fp16", 2), ("bf16", 2), ("int8", 1))}
            notes.append(f"{size}, {threads} thread{'s' * (threads > 1)}: memory read at {speed / 1e9:.0f} GB/s")
            for batch, tokens in ((1, options.tokens), (options.batch, _fewer(options.tokens))):
                field_ = contestants(models, engines, prompt, tokens, batch)
                compare(field_, tokens, options.repeats)
                table += rows(size, threads, batch, field_, limits)
    if options.quick:
        return
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    update("decode", "\n".join([
        "## Decoding against transformers.generate", "",
        f"`python benchmarks/decode.py{' ' + ' '.join(sys.argv[1:]) if sys.argv[1:] else ''}` on {machine()}. "
        f"Random Qwen3 weights, {len(prompt)} tokens of prompt, {options.tokens} greedy tokens "
        f"({_fewer(options.tokens)} in batches), medians of {options.repeats} interleaved repeats after a warm-up. "
        "Ratios are theirs / ours within a repeat, of wall time and in parentheses of CPU time. "
        f"Load average at the end: {load}; other programs ran at the same time, so CPU ratios are the steadier "
        "ones; with as many threads as cores they slow both sides down.", "",
        "The memory limit is the time to read all weights once in the row's format; a share above 100% means that they "
        "stayed in the processor's cache. `fp16` is the engine's default: half-precision weights, fp32 activations and "
        "sums. Equal-precision comparisons are fp32 with fp32, and fp16 with bf16 (as many bytes; fp16 keeps 3 bits "
        "more of each weight).", "", *table, "", *(f"- {note}" for note in notes)]))


if __name__ == "__main__":
    main()
