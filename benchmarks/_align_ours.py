"""Our side of align.py: one task through the public training loop.

    python benchmarks/_align_ours.py TASK FOLDER SEED '{"precision": "fp32"}'
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _align_watch import Watch, reward

from bottega import families
from bottega.codecs.text import TextCodec
from bottega.core.progress import set_quiet
from bottega.core.recipe import Budget, TrainingSpec
from bottega.training.loop import train
from bottega.training.metrics import read_history


class Rows:
    """The rows of a file; the last eight are held out."""

    def __init__(self, path: Path) -> None:
        rows = [{"source": "-", **json.loads(line)} for line in path.read_text(encoding="utf-8").splitlines()]
        self.splits = {"train": rows[:-8], "validation": rows[-8:]}

    def rows(self, split: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a split."""
        yield from self.splits[split]


def objective(task: str, folder: Path, facts: dict[str, Any], seed: int, ahead: bool, watch: Watch) -> Any:
    """Return the objective of a task over the shared model; `ahead` keeps the reference's log-probabilities of DPO."""
    model, codec = families.load(folder / "model"), TextCodec.load(folder / "model")
    model.train()
    common = {"context": facts["context"], "batch_tokens": facts["batch_tokens"],
              "micro_batch": max(1, facts["batch_tokens"] // facts["context"]), "seed": seed, "validation_tokens": 64}
    data = Rows(folder / f"{task}.jsonl")
    if task == "sft":
        from bottega.objectives.sft import SFT

        return SFT(model, codec, data, **common)
    if task == "dpo":
        from bottega.objectives import reference
        from bottega.objectives.dpo import DPO

        if not ahead:
            return DPO(model, families.load(folder / "model").requires_grad_(False), codec, data, **common)
        data.splits["train"] = data.splits["train"][:facts["pairs"]]  # the pass before the first step is over these
        made = DPO(model, None, codec, data, **common)
        made.keep(reference.logprobs(model, made))
        return made
    return _grpo(model, codec, data, facts, common, watch)


def _grpo(model: Any, codec: TextCodec, data: Rows, facts: dict[str, Any], common: dict[str, Any], watch: Watch) -> Any:
    """Return GRPO whose rounds tell the watch how many tokens were drawn."""
    from bottega.objectives.grpo import GRPO, Settings
    from bottega.objectives.rewards import RewardResult
    from bottega.training.sampler import EngineSampler

    settings = Settings(rewards={"exact": 1.0}, check=None, prompts=facts["prompts"], group=facts["group"],
                        max_tokens=facts["completion"], beta=0.0, mean="token", held_out=8)

    def judge(samples: Any) -> list[RewardResult]:
        if watch.marks:
            watch.tokens(0, sum(len(sample.tokens) for sample in samples))
        return [RewardResult(reward(sample.text, sample.prompt.reference)) for sample in samples]

    made = GRPO(model, None, codec, data, EngineSampler(model, codec), extra={"exact": judge},
                settings=settings, **{name: common[name] for name in ("context", "micro_batch", "seed")})
    return made


def main() -> None:
    task, folder, seed, options = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
    facts = json.loads((folder / "task.json").read_text())
    set_quiet(True)
    watch = Watch(facts["warm"], facts["steps"])
    made = objective(task, folder, facts, seed, options.get("ahead", False), watch)
    batch, seen = made.batch, -1

    def watched(step: int) -> Any:
        nonlocal seen
        if step > seen:
            watch.mark()
            seen = step
        batches = batch(step)
        if step == seen and not watch.counted[-1]:
            watch.tokens(sum(int((each["segments"] > 0).sum()) for each in batches))
        return batches

    made.batch = watched
    spec = TrainingSpec(budget=Budget(steps=facts["warm"] + facts["steps"] + 1), context=facts["context"],
                        precision=options["precision"], optimizer=options.get("optimizer", "muon"), compile="off",
                        learning_rate=1e-4, learning_rate_rest=1e-4, validate_every=1, sample_every=0)
    watch.ready()
    with tempfile.TemporaryDirectory() as run:
        train(made, spec, run=Path(run) / "run", seed=seed)
        losses = [line["loss"] for line in read_history(Path(run) / "run") if "loss" in line]
    watch.tell(losses[-1])


if __name__ == "__main__":
    main()
