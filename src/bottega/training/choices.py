"""What a run decides at its start and then keeps: learning rates, precision, compile. Printed, and written to disk.

Precision is timed, not guessed: bf16 products were 2.4 times faster for a language model of 7 million parameters and
slower for small ones on the same processor. Choices that were timed are remembered per machine and shape, so that the
same recipe makes the same choice, and the same bytes, again.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from bottega.core.files import digest_json
from bottega.core.recipe import TrainingSpec
from bottega.core.validate import Strict
from bottega.families.adapters import is_adapted
from bottega.families.base import Batch
from bottega.objectives.base import Lively, Objective
from bottega.training.checkpoint import model_tensors
from bottega.training.optim import Optimiser, hidden_matrices
from bottega.training.peak import Notebook
from bottega.training.step import LossFunction, seed_step, take

_GAIN = 1.1  # a precision must be this much faster to be worth its rounding
_STEPS = 3

_MUON, _REST, _ADAMW = 0.02, 0.02, 0.003  # peak rates of pretraining at the reference width
_WIDTH = 256
_PICTURES, _ADVERSARIES = 0.002, 0.0015  # AdamW for small networks of pictures; two players need a calmer one
# share of those rates that fine-tuning takes
_TUNING = {"sft": 0.25, "distil": 0.25, "orpo": 0.1, "grpo": 0.1, "ppo": 0.1, "reward": 0.02, "dpo": 0.02, "kto": 0.02}
_ADAPTER, _NEAR = 0.003, 0.1  # of an adapter; the share of it for objectives that stay near their start


class Choices(Strict):
    """See the module.

    Attributes:
        precision: `fp32` or `bf16`; `compiled`: torch.compile was used.
        learning_rate, learning_rate_rest: peak rates.
        step_seconds: seconds of an eager optimiser step in the chosen precision, 0 when not timed.
        reasons: why, for people.
    """

    precision: str
    compiled: bool
    learning_rate: float
    learning_rate_rest: float
    step_seconds: float = 0.0
    reasons: dict[str, str] = {}


def learning_rates(objective: Objective, spec: TrainingSpec) -> tuple[float, float, str]:
    """Return peak rates for matrices and for the rest, and where they come from.

    Muon's update has spectral norm about 1 at any width, so that one rate (0.02, Jordan et al. 2024) serves all widths;
    AdamW's rate for the rest falls with the square root of width, as nanochat does, from 0.02 at 256: measured at width
    192 on Python's documentation, one CPU minute, bits per byte were 2.15 at 0.008, 2.03 at 0.02 and 2.05 at 0.04 (and
    2.05 with the matrices at 0.01). AdamW alone: 0.003 at width 256, falling with width (Yang et al. 2022,
    arXiv 2203.03466). Fine-tuning takes a quarter (sft), a tenth or a fiftieth.
    """
    if is_adapted(objective.generator):
        rate = spec.learning_rate or _ADAPTER * (_NEAR if _TUNING.get(objective.kind, 1.0) < _NEAR else 1.0)
        return rate, rate, "adamw for an adapter"
    if objective.kind == "pictures":
        rate = _ADVERSARIES if len(objective.players()) > 1 else _PICTURES
        return (spec.learning_rate or rate, spec.learning_rate_rest or spec.learning_rate or rate,
                f"{spec.optimizer} for pictures")
    matrices = hidden_matrices(objective.generator)
    shapes = [min(p.shape) for p in objective.generator.parameters() if id(p) in matrices]
    width = max(shapes, default=_WIDTH)
    share = _TUNING.get(objective.kind, 1.0)
    if spec.optimizer == "adamw":
        rate = _ADAMW * share * min(1.0, _WIDTH / width)
        return spec.learning_rate or rate, spec.learning_rate or rate, f"adamw at width {width}"
    rest = _REST * share * math.sqrt(_WIDTH / max(width, _WIDTH))
    return (spec.learning_rate or _MUON * share, spec.learning_rate_rest or rest,
            f"muon at any width, the rest at width {width}, x{share:g} for {objective.kind}")


def optimisers(objective: Objective, spec: TrainingSpec, rates: tuple[float, float],
               precision: str) -> dict[str, Optimiser]:
    """Return a fresh optimiser for each player.

    Adapters take AdamW whatever the recipe says: Muon makes all directions of an update equally long, and a matrix of
    rank 8 that starts at zero has no other directions to spare; its two halves would also grow at unlike speeds.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    kind = "adamw" if is_adapted(objective.generator) else spec.optimizer
    return {name: Optimiser(objective.generator, [p for p in parameters if p.requires_grad], kind=kind,
                            learning_rate=rates[0],
                            learning_rate_rest=rates[1], weight_decay=spec.weight_decay, dtype=dtype,
                            betas=objective.generator.betas)
            for name, parameters in objective.players().items()}


def signature(objective: Objective, *more: object) -> str:
    """Return a digest of what a timed choice depends on besides the machine: model and batch shapes, and `more`."""
    shapes = [[name, list(p.shape)] for name, p in objective.generator.named_parameters()]
    batches = [{key: list(value.shape) for key, value in batch.items()} for batch in objective.batch(0)]
    return digest_json([objective.kind, shapes, batches, *more])[:16]


class _Snapshot:
    """The model's tensors at the start, to put back after throw-away steps."""

    def __init__(self, objective: Objective) -> None:
        self.model = objective.generator
        self.kept = {name: tensor.clone() for name, tensor in model_tensors(self.model).items()}

    def restore(self) -> None:
        with torch.no_grad():
            for name, tensor in model_tensors(self.model).items():
                tensor.copy_(self.kept[name])
        self.model.zero_grad(set_to_none=True)


def time_steps(objective: Objective, spec: TrainingSpec, loss: LossFunction, precisions: list[str],
               rates: tuple[float, float], seed: int) -> dict[str, float]:
    """Return seconds of one whole optimiser step (all players) for each precision: the fastest of a few, interleaved.

    The steps are real (forward, backward, optimiser) and thrown away: weights and buffers are put back to the bit.
    """
    snapshot = _Snapshot(objective)
    device = next(objective.generator.parameters()).device
    batches: list[Batch] = objective.batch(0)
    trials = {precision: optimisers(objective, spec, rates, precision) for precision in precisions}
    best = dict.fromkeys(precisions, math.inf)
    for attempt in range(_STEPS + 1):  # the first one warms up
        for precision, players in trials.items():
            seed_step(seed, 0)
            start = time.perf_counter()
            for player, optimiser in players.items():
                take(loss, batches, player, optimiser, model=objective.generator, precision=precision, clip=spec.clip,
                     share=0.01, device=device)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if attempt:
                best[precision] = min(best[precision], time.perf_counter() - start)
    snapshot.restore()
    return best


def choose(objective: Objective, spec: TrainingSpec, notebook: Notebook, seed: int) -> Choices:
    """Decide for a new run; see the module. `compiled` is what to try: the loop falls back when it fails."""
    from bottega.training.compilation import worth_compiling

    rate, rest, source = learning_rates(objective, spec)
    reasons: dict[str, str] = {"learning rates": source}
    key = signature(objective, spec.budget.model_dump(), spec.optimizer)
    remembered: dict[str, Any] = notebook.get("choice", key) or {}
    seconds = float(remembered.get("step_seconds", 0.0))
    precision = spec.precision
    if precision == "auto" and "precision" in remembered:
        precision, reasons["precision"] = remembered["precision"], "as timed before on this machine for this shape"
    elif precision == "auto":
        timed = time_steps(objective, spec, objective.loss, ["fp32", "bf16"], (rate, rest), seed)
        precision = "bf16" if timed["bf16"] * _GAIN < timed["fp32"] else "fp32"
        seconds = timed[precision]
        reasons["precision"] = f"timed: fp32 {timed['fp32'] * 1e3:.1f} ms, bf16 {timed['bf16'] * 1e3:.1f} ms a step"
    else:
        reasons["precision"] = "as the recipe says"
    if spec.compile != "auto":
        compiled, reasons["compile"] = spec.compile == "on", "as the recipe says"
    elif isinstance(objective, Lively):
        compiled, reasons["compile"] = False, "batches differ in shape from step to step"
    elif "compiled" in remembered:
        compiled, reasons["compile"] = bool(remembered["compiled"]), "as decided before on this machine for this shape"
    else:
        compiled, reasons["compile"] = worth_compiling(
            objective, spec, seconds, warm=bool(notebook.get("compiled", signature(objective, precision))))
    if spec.precision == "auto" or spec.compile == "auto":
        notebook.put({"precision": precision, "compiled": compiled, "step_seconds": seconds}, "choice", key)
    return Choices(precision=precision, compiled=compiled, learning_rate=rate, learning_rate_rest=rest,
                   step_seconds=seconds, reasons=reasons)
