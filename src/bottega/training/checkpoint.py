"""Checkpoints that prove themselves: a folder a step, verified on load, the one before as fallback.

    runs/NAME/checkpoints/step-00000800/
        model.safetensors      the generator's parameters and buffers
        optimiser.safetensors  momenta, by player and parameter name
        state.json             step, tokens, seconds, cost, choices made at the start, identity of data and recipe
        manifest.json          SHA-256 of each file

`bottega train RECIPE --resume` reads the newest that verifies. Randomness is a function of (seed, step), so that no
generator state has to be kept.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bottega.core.energy import Cost
from bottega.core.errors import CorruptError
from bottega.core.files import TEMPORARY, atomic_dir, read_json, remove_unfinished, verify_manifest, write_json
from bottega.core.progress import say
from bottega.core.validate import Strict, validate
from bottega.families.adapters import changing, is_adapted

_STATE, _MODEL, _OPTIMISER = "state.json", "model.safetensors", "optimiser.safetensors"


class State(Strict):
    """Everything of a run besides tensors.

    Attributes:
        step: optimiser steps done; `tokens`: tokens of work done; `seconds`: wall clock of the loop.
        cost: seconds and energy so far.
        facts: identity of data, codec and recipe; a resume under others is refused.
        choices: what was decided at the start (precision, compile, learning rates).
        metrics: the last validation.
        finished: the budget is spent.
    """

    step: int
    tokens: int
    seconds: float
    cost: Cost = Cost()
    facts: dict[str, Any] = Field(default_factory=dict)
    choices: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    finished: bool = False


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters (shared ones once) and persistent buffers by name; of an adapted model no weight of the base.
    """
    if is_adapted(model):
        return changing(model)
    tensors = {name: p.detach() for name, p in model.named_parameters()}
    known = {tensor.data_ptr() for tensor in tensors.values()}
    for name, tensor in model.state_dict().items():
        if name not in tensors and tensor.data_ptr() not in known:
            tensors[name] = tensor
    return tensors


def save(folder: Path, state: State, model: nn.Module, optimiser: dict[str, Tensor], keep: int) -> Path:
    """Write one checkpoint, then delete all but the newest `keep`.

    Args:
        folder: the run's `checkpoints` folder.
        state: numbers of the run.
        model: whose parameters and buffers are kept.
        optimiser: momenta by name.
        keep: how many checkpoints stay.

    Raises:
        ResourceError: the disk is full; earlier checkpoints are untouched.
    """
    path = folder / f"step-{state.step:08d}"
    with atomic_dir(path, replace=True) as temporary:
        save_file({n: t.contiguous() for n, t in model_tensors(model).items()}, temporary / _MODEL)
        save_file({n: t.detach().contiguous() for n, t in optimiser.items()}, temporary / _OPTIMISER)
        write_json(temporary / _STATE, state.model_dump(mode="json"))
    kept = [old for old in _steps(folder) if _step(old) <= state.step]
    for old in _steps(folder):  # later steps than this one belong to a future that a corrupt file took away
        if old not in kept[-keep:]:
            doomed = old.with_name(f"{old.name}{TEMPORARY}{uuid.uuid4().hex[:8]}")
            os.replace(old, doomed)
            shutil.rmtree(doomed, ignore_errors=True)
    return path


def newest(folder: Path) -> tuple[Path, State] | None:
    """Return the newest checkpoint that verifies, or None where there is none at all.

    A corrupt one is named in a warning and the step before is tried.

    Raises:
        CorruptError: there are checkpoints, and none verifies.
    """
    remove_unfinished(folder)
    steps = _steps(folder)
    fault: CorruptError | None = None
    for path in reversed(steps):
        try:
            verify_manifest(path)
            return path, validate(State, read_json(path / _STATE), where=str(path / _STATE), error=CorruptError)
        except CorruptError as error:
            fault = fault or error
            say(f"warning: checkpoint {path.name} is corrupt and skipped: {error.problem}")
    if fault is not None:
        raise CorruptError(f"no checkpoint in {folder} verifies; the newest fault: {fault.problem}", where=str(folder),
                           fix="restore a copy, or train again without --resume")
    return None


def restore(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """Copy a verified checkpoint into `model`, in place, and return the optimiser state.

    Raises:
        CorruptError: its tensors do not fit the model.
    """
    saved = load_file(path / _MODEL)
    own = model_tensors(model)
    if saved.keys() != own.keys():
        odd = sorted(saved.keys() ^ own.keys())[0]
        raise CorruptError(f"{path / _MODEL} does not fit the model: '{odd}' is only in one of them",
                           fix="train again without --resume")
    with torch.no_grad():
        for name, tensor in own.items():
            if tensor.shape != saved[name].shape:
                raise CorruptError(f"{path / _MODEL}: '{name}' has shape {tuple(saved[name].shape)}, "
                                   f"the model's is {tuple(tensor.shape)}", fix="train again without --resume")
            tensor.copy_(saved[name])
    return load_file(path / _OPTIMISER)


def _steps(folder: Path) -> list[Path]:
    """Return checkpoint folders, oldest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.glob("step-*") if TEMPORARY not in path.name), key=_step)


def _step(path: Path) -> int:
    digits = path.name.removeprefix("step-")
    return int(digits) if digits.isdigit() else -1
