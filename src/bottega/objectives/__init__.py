"""What training minimises: pretrain, sft, dpo, reward, grpo and others. The loop is the same for all.

An objective is one file beside this one, with a class and its `Settings`, and one line in `OBJECTIVES`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bottega.core.errors import RecipeError, suggest
from bottega.core.recipe import ObjectiveSpec
from bottega.core.validate import Strict, validate

OBJECTIVES: dict[str, tuple[str, str]] = {  # kind → module, class; imported when asked for
    "pretrain": ("bottega.objectives.pretrain", "Pretrain"),
    "sft": ("bottega.objectives.sft", "SFT"),
    "dpo": ("bottega.objectives.dpo", "DPO"),
    "kto": ("bottega.objectives.kto", "KTO"),
    "orpo": ("bottega.objectives.orpo", "ORPO"),
    "reward": ("bottega.objectives.reward", "Reward"),
    "distil": ("bottega.objectives.distil", "Distil"),
    "grpo": ("bottega.objectives.grpo", "GRPO"),
    "ppo": ("bottega.objectives.ppo", "PPO"),
    "pictures": ("bottega.objectives.pictures", "PictureTraining"),
    "tables": ("bottega.objectives.tables", "TableTraining"),
    "graphs": ("bottega.objectives.graphs", "GraphTraining"),
}
# kinds that read conversations
TALKING = frozenset({"sft", "dpo", "kto", "orpo", "distil", "reward", "grpo", "ppo"})
NEEDS_BASE = TALKING - {"sft", "distil"}  # kinds that start from a finished model; these two may make a new one


def _module(kind: str) -> Any:
    if kind not in OBJECTIVES:
        raise RecipeError(f"unknown objective '{kind}'", where="objective.kind", fix=suggest(kind, OBJECTIVES))
    return import_module(OBJECTIVES[kind][0])


def objective_class(kind: str) -> Any:
    """Return the class of an objective.

    Raises:
        RecipeError: no such kind; the message suggests the nearest.
    """
    return getattr(_module(kind), OBJECTIVES[kind][1])


def settings(spec: ObjectiveSpec) -> Any:
    """Check an objective's own keys and return its `Settings`.

    Raises:
        RecipeError: unknown kind, unknown key or bad value.
    """
    model: type[Strict] = _module(spec.kind).Settings
    return validate(model, spec.overrides, where=f"objective ({spec.kind})")
