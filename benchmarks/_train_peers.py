"""The peers of train_text.py, each run in a process (and, for litgpt, an environment) of its own.

    python benchmarks/_train_peers.py NAME TASK_FOLDER SEED MINUTES '{"learning_rate": 0.002}'

Reads the arrays and settings that train_text.py wrote, trains for MINUTES of wall clock and prints one JSON line. The
clock of a peer stops while it validates and starts after its first step, so that neither validation nor compilation
counts against it; ours pays for both. Imports nothing of Bottega.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Logits = Callable[[Tensor], Tensor]


class Task:
    """What all contestants share: training tokens, held-out windows int64 [n, context + 1], sizes."""

    def __init__(self, folder: Path) -> None:
        self.facts: dict[str, Any] = json.loads((folder / "task.json").read_text())
        self.train = np.load(folder / "train.npy", mmap_mode="r", allow_pickle=False)
        self.held_out = np.load(folder / "held_out.npy", allow_pickle=False)
        self.byte_lengths = np.load(folder / "byte_lengths.npy", allow_pickle=False)

    def __getattr__(self, name: str) -> Any:
        return self.facts[name]

    def windows(self, rng: np.random.Generator, rows: int) -> Tensor:
        """Return random training windows, int64 [rows, context + 1]."""
        starts = rng.integers(0, len(self.train) - self.context - 1, rows)
        return torch.from_numpy(self.train[starts[:, None] + np.arange(self.context + 1)].astype(np.int64))

    @torch.no_grad()
    def bits_per_byte(self, logits: Logits) -> float:
        """Return held-out bits per UTF-8 byte of a model, given as tokens [B, T] to logits [B, T, vocab]."""
        nats = 0.0
        for first in range(0, len(self.held_out), 16):
            rows = torch.from_numpy(self.held_out[first:first + 16])
            out = logits(rows[:, :-1]).float()
            nats += cross_entropy(out.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum").item()
        return nats / math.log(2) / float(self.byte_lengths[self.held_out[:, 1:]].sum())


class Watch:
    """Wall clock that can be stopped, with a validation at each of `points` equal parts of the budget."""

    def __init__(self, minutes: float, points: int, measure: Callable[[], float]) -> None:
        self.budget, self.points, self.measure = minutes * 60, points, measure
        self.spent, self.since, self.curve = 0.0, math.nan, list[tuple[float, float]]()
        self.steps = 0

    def step(self) -> bool:
        """Count an optimiser step; true when the time is up."""
        if math.isnan(self.since):  # the first step compiles and allocates: the clock starts after it
            self.since = time.perf_counter()
            return False
        self.steps += 1
        elapsed = self.spent + time.perf_counter() - self.since
        if elapsed >= self.budget * (len(self.curve) + 1) / self.points and len(self.curve) < self.points - 1:
            self._look(elapsed)
        return elapsed >= self.budget

    def _look(self, elapsed: float) -> None:
        self.spent = elapsed
        self.curve.append((elapsed, self.measure()))
        self.since = time.perf_counter()

    def finish(self) -> None:
        """Validate at the end."""
        self._look(self.spent + time.perf_counter() - self.since)


def seconds_a_step(step: Callable[[], None], warm: int = 2, timed: int = 6) -> float:
    """Return the median time of a training step, to set the length of the learning-rate schedule."""
    times = []
    for _ in range(warm + timed):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return sorted(times[warm:])[timed // 2]


def outcome(task: Task, watch: Watch, model: nn.Module, batch_tokens: int, settings: dict[str, Any]) -> dict[str, Any]:
    return {"parameters": sum(p.numel() for p in model.parameters()), "seconds": watch.spent,
            "tokens": watch.steps * batch_tokens, "curve": watch.curve, "settings": settings}


# ---- Hugging Face Trainer with a LlamaConfig ------------------------------------------------------------------------


def hf(task: Task, seed: int, minutes: float, options: dict[str, Any]) -> dict[str, Any]:
    """Train with `transformers.Trainer`. Empty options leave all its defaults; {"learning_rate": …} tunes it."""
    import tempfile

    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=task.vocab, hidden_size=task.width, num_hidden_layers=task.depth, num_attention_heads=task.heads,
        num_key_value_heads=task.kv_heads, head_dim=task.head_dim, intermediate_size=task.intermediate,
        max_position_embeddings=task.context + 1, tie_word_embeddings=True, use_cache=False))
    batch_tokens = task.batch_tokens if options else 8 * task.context  # Trainer's default is 8 sequences
    rows = min(task.micro_batch, batch_tokens // task.context) if options else 8
    rng = np.random.default_rng(seed)
    bf16 = bool(options) and _bf16_pays(lambda: model(input_ids=(w := task.windows(rng, rows)), labels=w).loss)

    class Windows(torch.utils.data.Dataset[dict[str, Tensor]]):
        def __len__(self) -> int:
            return 1 << 40

        def __getitem__(self, index: int) -> dict[str, Tensor]:
            window = task.windows(np.random.default_rng([seed, index]), 1)[0]
            return {"input_ids": window, "labels": window}

    class Plain(Trainer):
        def _get_train_sampler(self, *args: Any, **keys: Any) -> Any:
            return torch.utils.data.SequentialSampler(range(1 << 40))  # the windows are random already

    def arguments(steps: int, folder: str) -> TrainingArguments:
        tuned = {"learning_rate": options["learning_rate"], "lr_scheduler_type": "cosine", "weight_decay": 0.1,
                 "adam_beta2": 0.95, "warmup_steps": max(1, steps // 50), "per_device_train_batch_size": rows,
                 "gradient_accumulation_steps": batch_tokens // (rows * task.context), "bf16": bf16} if options else {}
        return TrainingArguments(folder, max_steps=steps, report_to="none", save_strategy="no", disable_tqdm=True,
                                 seed=seed, use_cpu=not torch.cuda.is_available(), **tuned)

    class Clock(TrainerCallback):
        def __init__(self, watch: Watch | None = None) -> None:
            self.watch, self.times = watch, list[float]()

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> Any:
            self.times.append(time.perf_counter())
            if self.watch is not None and self.watch.step():
                control.should_training_stop = True
            return control

    def measure() -> float:
        model.eval()
        bits = task.bits_per_byte(lambda tokens: model(input_ids=tokens).logits)
        model.train()
        return bits

    start = {name: value.clone() for name, value in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        trial = Clock()
        Plain(model, arguments(10, folder), train_dataset=Windows(), callbacks=[trial]).train()
        pace = float(np.median(np.diff(trial.times)[2:]))
        model.load_state_dict(start)
        steps = max(10, int(minutes * 60 / pace))
        watch = Watch(minutes, task.points, measure)
        Plain(model, arguments(steps, folder), train_dataset=Windows(), callbacks=[Clock(watch)]).train()
        watch.finish()
    settings = {"bf16": bf16, "steps": steps, "batch_tokens": batch_tokens, **options}
    return outcome(task, watch, model, batch_tokens, settings)


def _bf16_pays(loss: Callable[[], Tensor]) -> bool:
    """Time forward and backward in fp32 and under bf16 autocast."""
    def once(cast: bool) -> None:
        with torch.autocast("cuda" if torch.cuda.is_available() else "cpu", torch.bfloat16, enabled=cast):
            value = loss()
        value.backward()

    return seconds_a_step(lambda: once(True), 1, 4) < seconds_a_step(lambda: once(False), 1, 4)


# ---- litgpt's GPT under the settings of `litgpt pretrain` ------------------------------------------------------------


def litgpt(task: Task, seed: int, minutes: float, options: dict[str, Any]) -> dict[str, Any]:
    """Train litgpt's model with the parts and settings of `litgpt pretrain`.

    AdamW 4e-4 (0.9, 0.95), decay 0.1, cosine to a tenth, clip 1.0, its own initialisation, loss, schedule and default
    precision, torch.compile. Two settings are made kinder for a run of minutes: our batch instead of 512 sequences, and
    a warm-up of 2 % instead of 2,000 steps. {"learning_rate": …} replaces 4e-4.
    """
    from lightning.fabric import Fabric
    from litgpt import GPT, Config
    from litgpt.pretrain import get_lr, initialize_weights
    from litgpt.utils import chunked_cross_entropy, get_default_supported_precision

    precision = get_default_supported_precision(training=True)
    fabric = Fabric(devices=1, accelerator="cuda" if torch.cuda.is_available() else "cpu", precision=precision)
    fabric.seed_everything(seed, verbose=False)
    config = Config(
        name="benchmark", block_size=task.context, vocab_size=task.vocab, padded_vocab_size=task.vocab,
        n_layer=task.depth, n_embd=task.width, n_head=task.heads, n_query_groups=task.kv_heads,
        head_size=task.head_dim, rotary_percentage=1.0, parallel_residual=False, bias=False,
        norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP", intermediate_size=task.intermediate)
    with fabric.init_module(empty_init=False):
        model = GPT(config)
    model.lm_head.weight = model.transformer.wte.weight  # tied, so that the sizes are equal
    initialize_weights(fabric, model, n_layer=config.n_layer, n_embd=config.n_embd)
    plain = model
    model = fabric.setup(torch.compile(model))
    peak = options.get("learning_rate", 4e-4)
    optimizer = fabric.setup_optimizers(
        torch.optim.AdamW(plain.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.1))
    rows, rng = min(task.micro_batch, task.batch_tokens // task.context), np.random.default_rng(seed)
    pieces = task.batch_tokens // (rows * task.context)

    def step() -> None:
        for _ in range(pieces):
            window = task.windows(rng, rows).to(fabric.device)
            fabric.backward(chunked_cross_entropy(model(window[:, :-1]), window[:, 1:]) / pieces)
        fabric.clip_gradients(model, optimizer, max_norm=1.0)
        optimizer.step()
        optimizer.zero_grad()

    start = {name: value.clone() for name, value in plain.state_dict().items()}
    steps = max(10, int(minutes * 60 / seconds_a_step(step)))
    plain.load_state_dict(start)
    optimizer.state.clear()

    def measure() -> float:
        model.eval()
        bits = task.bits_per_byte(lambda tokens: model(tokens.to(fabric.device)).cpu())
        model.train()
        return bits

    watch, done, count = Watch(minutes, task.points, measure), False, 0
    measure()  # compiles the forward pass of validation before the clock starts
    while not done:
        for group in optimizer.param_groups:
            group["lr"] = get_lr(peak, min(count, steps), max(1, steps // 50), steps, peak / 10)
        step()
        count += 1
        done = watch.step()
    watch.finish()
    settings = {"precision": str(precision), "steps": steps, "batch_tokens": task.batch_tokens, "learning_rate": peak}
    return outcome(task, watch, plain, task.batch_tokens, settings)


if __name__ == "__main__":
    name, folder, seed, minutes, options = sys.argv[1:]
    run = {"hf": hf, "litgpt": litgpt}[name]
    print(json.dumps(run(Task(Path(folder)), int(seed), float(minutes), json.loads(options))))
