"""TRL's side of align.py, in an environment of its own. Imports nothing of Bottega.

    .venv-trl/bin/python benchmarks/_align_peers.py TASK FOLDER SEED '{"precision": "fp32", "packing": true}'
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from _align_watch import Watch, reward

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)


def _arguments(facts: dict[str, Any], options: dict[str, Any], rows: int, folder: str) -> dict[str, Any]:
    """Return what all trainers are given: equal tokens a step, AdamW as PyTorch fuses it, nothing that costs time."""
    own = {key: value for key, value in options.items() if key not in ("precision",)}
    return {"output_dir": folder, "max_steps": facts["warm"] + facts["steps"] + 1, "report_to": "none",
            "save_strategy": "no", "disable_tqdm": True, "use_cpu": not torch.cuda.is_available(),
            "bf16": options["precision"] == "bf16", "gradient_checkpointing": False, "logging_steps": 1,
            "learning_rate": 1e-4, "weight_decay": 0.1, "optim": "adamw_torch_fused", "max_grad_norm": 1.0,
            "per_device_train_batch_size": rows, "gradient_accumulation_steps": 1, **own}


def _counted(base: type[Any], watch: Watch) -> type[Any]:
    """Return a trainer that tells the watch of every step's tokens; GRPO's inputs are answers drawn within the step."""

    class Counted(base):  # type: ignore[misc]
        def _prepare_inputs(self, batch: Any) -> Any:
            inputs = super()._prepare_inputs(batch)
            if "completion_mask" in inputs and "prompt_mask" in inputs:
                drawn = int(inputs["completion_mask"].sum())
                watch.tokens(int(inputs["prompt_mask"].sum()) + drawn, drawn)
            else:
                mask = inputs.get("attention_mask")
                watch.tokens(int(inputs["input_ids"].numel() if mask is None else mask.sum()))
            return inputs

    return Counted


def sft(facts: dict[str, Any], options: dict[str, Any], folder: Path, seed: int, watch: Watch, out: str) -> Any:
    """Return a trainer on assistant answers only, as ours."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    rows = [json.loads(line)["messages"] for line in (folder / "sft.jsonl").read_text().splitlines()]
    data = Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows])
    per_step = round(facts["batch_tokens"] / (facts["context"] if options.get("packing")
                                              else facts["mean_tokens"]["sft"]))
    config = SFTConfig(seed=seed, **{"max_length": facts["context"],
                                     **_arguments(facts, options, per_step, out)})
    return _counted(SFTTrainer, watch)(model, args=config, train_dataset=data, processing_class=tokenizer)


def dpo(facts: dict[str, Any], options: dict[str, Any], folder: Path, seed: int, watch: Watch, out: str) -> Any:
    """Return a trainer on pairs with a reference of its own, as ours."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    rows = [json.loads(line) for line in (folder / "dpo.jsonl").read_text().splitlines()]
    per_step = round(facts["batch_tokens"] / facts["mean_tokens"]["dpo"] / 2)
    answers = [{"prompt": row["messages"], **{side: [{"role": "assistant", "content": row[side]}]
                                              for side in ("chosen", "rejected")}} for row in rows]
    if options.get("precompute_ref_log_probs"):
        answers = answers[:facts["pairs"]]  # so that the passes before the first step are those of these steps
    config = DPOConfig(seed=seed, beta=0.1, **{"max_length": facts["context"],
                                               **_arguments(facts, options, per_step, out)})
    return _counted(DPOTrainer, watch)(model, args=config, train_dataset=Dataset.from_list(answers),
                                       processing_class=tokenizer)


def grpo(facts: dict[str, Any], options: dict[str, Any], folder: Path, seed: int, watch: Watch, out: str) -> Any:
    """Return a trainer on drawn answers: one optimiser step a round, no reference, the reward of both sides."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    rows = [json.loads(line)["messages"] for line in (folder / "grpo.jsonl").read_text().splitlines()]
    data = Dataset.from_list([{"prompt": row[:-1], "answer": row[-1]["content"]} for row in rows])

    def judge(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
        return [reward(said[0]["content"], right) for said, right in zip(completions, answer, strict=True)]

    config = GRPOConfig(seed=seed, beta=0.0, num_generations=facts["group"], num_iterations=1, steps_per_generation=1,
                        max_completion_length=facts["completion"], temperature=1.0, loss_type="dapo",
                        **_arguments(facts, options, facts["prompts"] * facts["group"], out))
    return _counted(GRPOTrainer, watch)(model, judge, args=config, train_dataset=data, processing_class=tokenizer)


def main() -> None:
    task, folder, seed, options = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
    from transformers import TrainerCallback

    facts = json.loads((folder / "task.json").read_text())
    watch = Watch(facts["warm"], facts["steps"])

    class Mark(TrainerCallback):
        def on_step_begin(self, *args: Any, **rest: Any) -> None:
            watch.mark()

    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(sys.stderr):
        trainer = {"sft": sft, "dpo": dpo, "grpo": grpo}[task](facts, options, folder, seed, watch, out)
        trainer.add_callback(Mark())
        watch.ready()
        trainer.train()
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    watch.tell(losses[-1])


if __name__ == "__main__":
    main()
