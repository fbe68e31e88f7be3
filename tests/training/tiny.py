"""A generator and an objective of a few thousand parameters, for tests of the loop; also a process to be killed.

    python tests/training/tiny.py RUN STEPS CHECKPOINT_EVERY KILLS

trains in child processes of its own, kills each with SIGKILL at a random step, resumes, and prints a digest of the
final weights.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bottega.core.progress import set_quiet
from bottega.core.recipe import Budget, TrainingSpec
from bottega.families.base import Batch, Config, Generator, Loss
from bottega.training.checkpoint import model_tensors
from bottega.training.loop import TrainResult, train

VOCAB, CONTEXT = 40, 16


class Tiny(Generator):
    """Predicts the next token from this one, with dropout (so that random state matters)."""

    family = "tiny"
    Config = Config
    understands = frozenset()

    def __init__(self, width: int = 32, dropout: float = 0.1) -> None:
        super().__init__(Config())
        torch.manual_seed(7)
        self.embed_tokens = nn.Embedding(VOCAB, width)
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout),
                                   nn.Linear(2 * width, width), nn.LayerNorm(width))
        self.same = nn.Linear(width, width, bias=False)

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        hidden = self.embed_tokens(batch["tokens"])
        hidden = hidden + self.same(self.inner(hidden))
        logits = hidden @ self.embed_tokens.weight.T
        total = F.cross_entropy(logits.float().flatten(0, 1), batch["targets"].flatten(), reduction="sum")
        hits = (logits.argmax(-1) == batch["targets"]).sum()
        return Loss(total, torch.tensor(batch["targets"].numel()), {"accuracy": hits})

    def flops_per_item(self, context: int) -> float:
        return 2.0 * sum(p.numel() for p in self.parameters())


class Chain:
    """Tokens of a noisy cycle: t → 3t + 1 most of the time."""

    kind = "pretrain"

    def __init__(self, generator: Tiny, rows: int = 8, micro: int = 8) -> None:
        self.generator, self.rows, self.micro = generator, rows, micro

    def players(self) -> dict[str, list[nn.Parameter]]:
        return self.generator.players()

    def _draw(self, seed: int, rows: int) -> Batch:
        rng = np.random.default_rng(seed)
        tokens = np.empty((rows, CONTEXT + 1), dtype=np.int64)
        tokens[:, 0] = rng.integers(VOCAB, size=rows)
        for t in range(CONTEXT):
            noise = rng.random(rows) < 0.1
            tokens[:, t + 1] = np.where(noise, rng.integers(VOCAB, size=rows), (3 * tokens[:, t] + 1) % VOCAB)
        return {"tokens": torch.from_numpy(tokens[:, :-1].copy()), "targets": torch.from_numpy(tokens[:, 1:].copy())}

    def batch(self, step: int) -> list[Batch]:
        whole = self._draw(1000 + step, self.rows)
        return [{k: v[i:i + self.micro] for k, v in whole.items()} for i in range(0, self.rows, self.micro)]

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        return self.generator.loss(batch, player)

    def validation(self) -> Iterator[Batch]:
        yield self._draw(1, 8)

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        return {"loss": totals["loss"] / weight, "accuracy": totals["accuracy"] / weight}

    def tokens(self, batch: Batch) -> int:
        return batch["tokens"].numel()


def spec(steps: int = 30, **changes: object) -> TrainingSpec:
    plain = {"budget": Budget(steps=steps), "context": CONTEXT, "precision": "fp32", "compile": "off", **changes}
    return TrainingSpec.model_validate(plain)


def digest(generator: nn.Module) -> str:
    whole = hashlib.sha256()
    for name, tensor in sorted(model_tensors(generator).items()):
        whole.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return whole.hexdigest()


def once(run: Path, steps: int, every: int, *, resume: bool) -> tuple[Tiny, TrainResult]:
    generator = Tiny()
    result = train(Chain(generator), spec(steps, checkpoint_every=every), run=run, seed=3, resume=resume,
                   facts={"a": 1})
    return generator, result


def _chain_of_kills(run: Path, steps: int, every: int, kills: int) -> None:
    """Kill a training child at random steps `kills` times, then let one finish and print its digest."""
    rng = random.Random(5)
    stops = sorted(rng.sample(range(2, steps - 1), kills))
    log = run / "metrics.jsonl"
    for stop in stops:
        child = os.fork()
        if child == 0:
            once(run, steps, every, resume=True)
            os._exit(0)
        while True:
            lines = log.read_bytes().count(b"\n") if log.is_file() else 0
            if lines > stop:  # line 0 is the validation before the first step
                break
            if os.waitpid(child, os.WNOHANG)[0]:
                raise SystemExit(f"the child ended before step {stop}")
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    generator, result = once(run, steps, every, resume=True)
    print(digest(generator), result.steps)


if __name__ == "__main__":
    torch.set_num_threads(1)
    set_quiet(True)
    _chain_of_kills(Path(sys.argv[1]), *(int(value) for value in sys.argv[2:5]))
