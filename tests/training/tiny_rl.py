"""A process of GRPO to be killed, for test_rl_resume.py: `python -m tests.training.tiny_rl RUN KILLS`.

It trains in child processes of its own, kills each with SIGKILL (with two optimiser steps a round and a checkpoint a
step, every other one within a round), resumes, and prints a digest of the final weights.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tests.training.tiny import digest

from bottega import families
from bottega.codecs.text import TextCodec
from bottega.core.progress import set_quiet
from bottega.core.recipe import GeneratorSpec, TrainingSpec
from bottega.objectives.grpo import GRPO, Settings
from bottega.training.loop import train
from bottega.training.sampler import EngineSampler

STEPS = 10


class Questions:
    """A few prompts for both splits."""

    def rows(self, split: Any) -> Iterator[dict[str, Any]]:
        for number in range(12):
            yield {"messages": [{"role": "user", "content": f"{split} {number}"},
                                {"role": "assistant", "content": "a"}]}


def once(run: Path, *, resume: bool) -> str:
    torch.manual_seed(0)
    codec = TextCodec.train(["train validation 0 1 2 3 a e i o u"], 300)
    spec = GeneratorSpec.model_validate({"depth": 1, "width": 32, "head_dim": 16, "heads": 2, "intermediate": 64})
    special = {"bos": codec.bos, "eos": codec.eos, "pad": codec.pad, "end": codec.end_of_turn}
    generator = families.build(spec, vocab_size=codec.vocab_size, context=64, special=special)
    reference = families.build(spec, vocab_size=codec.vocab_size, context=64, special=special)
    reference.load_state_dict(generator.state_dict())
    chosen = Settings.model_validate({"rewards": {"format": {"pattern": "[aeiou]"}}, "check": None, "prompts": 4,
                                      "group": 4, "max_tokens": 10, "minibatches": 2, "held_out": 4, "beta": 0.05})
    objective = GRPO(generator, reference.eval().requires_grad_(False), codec, Questions(),  # type: ignore[arg-type]
                     EngineSampler(generator, codec), context=64, micro_batch=4, seed=5,  # type: ignore[arg-type]
                     settings=chosen)
    loop = TrainingSpec.model_validate({
        "budget": {"steps": STEPS}, "context": 64, "precision": "fp32", "compile": "off", "optimizer": "adamw",
        "learning_rate": 0.003, "checkpoint_every": 1, "validate_every": 0.5})
    train(objective, loop, run=run, seed=1, resume=resume)
    return digest(generator)


def main(run: Path, kills: list[int]) -> None:
    log = run / "metrics.jsonl"
    for stop in kills:
        child = os.fork()
        if child == 0:
            once(run, resume=True)
            os._exit(0)
        while (log.read_bytes().count(b"\n") if log.is_file() else 0) <= stop:  # line 0 is the first validation
            if os.waitpid(child, os.WNOHANG)[0]:
                raise SystemExit(f"the child ended before step {stop}")
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    print(once(run, resume=bool(kills)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    set_quiet(True)
    main(Path(sys.argv[1]), [int(value) for value in sys.argv[2:]])
