"""Objectives of text that need more than a model and data: a frozen reference, a scalar head, a teacher, a sampler.

`bottega train` with `objective.kind` dpo, kto, reward, distil, grpo or ppo.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bottega import families, objectives
from bottega.codecs.text import TextCodec
from bottega.core.bundle import Bundle, find_bundle
from bottega.core.errors import InputError, RecipeError
from bottega.core.recipe import Recipe
from bottega.families.adapter_off import with_new_adapter, without_adapter
from bottega.families.adapters import is_adapted
from bottega.families.base import Generator, TokenGenerator
from bottega.families.reward import RewardModel
from bottega.objectives import reference
from bottega.objectives.base import Objective
from bottega.objectives.pairs import PairObjective
from bottega.objectives.reward import reward_scorer

REFERENCED = frozenset({"dpo", "kto"})  # kinds that stay close to the model they start from


def start(recipe: Recipe, base: Bundle) -> Generator:
    """Return the model that fine-tuning starts with: the base, for a reward with a scalar head."""
    if recipe.objective.kind != "reward":
        return families.load(base.path)
    if base.meta["family"] == RewardModel.family:
        return RewardModel.load(base.path)
    return RewardModel(families.load(base.path))


def referenced(recipe: Recipe, generator: TokenGenerator, codec: TextCodec, dataset: Any, base: Bundle, settings: Any,
               home: Path, common: dict[str, Any]) -> Objective:
    """Return dpo or kto with its frozen reference: kept log-probabilities, a second model, or none."""
    build = objectives.objective_class(recipe.objective.kind)
    objective = build(generator, None, codec, dataset, **common)
    assert isinstance(objective, PairObjective)
    if getattr(settings, "loss", "") == "simpo":
        return objective  # type: ignore[return-value]  # every objective on pairs has loss and summarise
    if settings.reference == "ahead" or (settings.reference == "auto" and reference.pays(
            objective, recipe.training.budget, common["batch_tokens"])):
        rounding = [recipe.adapter.quantise] if recipe.adapter and recipe.adapter.quantise else []
        reference.ahead(objective, generator, home / "cache", base.digest, dataset.digest, codec.digest, *rounding)
    else:
        objective.reference = _frozen(generator, base)  # type: ignore[attr-defined]
    return objective  # type: ignore[return-value]


def _frozen(generator: TokenGenerator, base: Bundle) -> TokenGenerator:
    """Return what the model starts from, frozen: beside an adapter the base's own tensors, else a copy."""
    if is_adapted(generator):
        return without_adapter(generator)
    return families.load(base.path).to(generator.head_weight.device).eval().requires_grad_(False)


def rewarded(recipe: Recipe, generator: TokenGenerator, codec: TextCodec, dataset: Any, base: Bundle, home: Path,
             common: dict[str, Any]) -> Objective:
    """Return grpo or ppo with the engine as sampler, and copies of the base as reference and as value network.

    Beside an adapter neither is a copy: the reference is the base without the adapter, and the value network has an
    adapter of its own on the same base.

    Raises:
        InputError, CorruptError: see `advisor_of`.
    """
    from bottega.training.sampler import EngineSampler

    settings, device = common["settings"], generator.head_weight.device
    frozen = _frozen(generator, base) if settings.needs_reference else None
    judge = advisor_of(recipe, home)
    more: dict[str, Any] = {"scorer": reward_scorer(judge.path) if judge else None}
    if hasattr(settings, "critic"):
        more["trunk"] = None
        if settings.critic == "own":
            more["trunk"] = families.load(base.path).to(device) if recipe.adapter is None else \
                with_new_adapter(generator, recipe.adapter, seed=recipe.seed)
    sizes = {name: common[name] for name in ("context", "micro_batch", "seed", "settings")}
    made: Objective = objectives.objective_class(recipe.objective.kind)(
        generator, frozen, codec, dataset, EngineSampler(generator, codec), **sizes, **more)
    return made


def advisor_of(recipe: Recipe, home: Path) -> Bundle | None:
    """Return the model besides the base that training asks: distil's teacher, or the judge of the reward `model`.

    Raises:
        InputError: there is no such model, or it is of another kind.
        CorruptError: its files do not verify.
        RecipeError: distil names no teacher.
    """
    name = (recipe.objective.overrides.get("rewards") or {}).get("model", {})
    if recipe.objective.kind not in ("grpo", "ppo") or not name:
        return teacher_of(recipe, home)
    return judge_of(name["name"], home)


def judge_of(name: str, home: Path, where: str = "objective.rewards.model.name") -> Bundle:
    """Return a reward model by its name.

    Raises:
        InputError: there is no such model, or it is of another kind.
        CorruptError: its files do not verify.
    """
    bundle = Bundle.open(find_bundle(name, home / "models"))
    if bundle.meta.get("objective") != "reward":
        raise InputError(f"'{bundle.name}' is no reward model", where=where,
                         fix="train one with objective: {kind: reward}")
    return bundle


def teacher_of(recipe: Recipe, home: Path) -> Bundle | None:
    """Return the model that a recipe of kind distil learns from.

    Raises:
        InputError: there is no such model, or it writes no text.
        CorruptError: its files do not verify.
        RecipeError: the recipe names none.
    """
    if recipe.objective.kind != "distil":
        return None
    name = recipe.objective.overrides.get("teacher")
    if not isinstance(name, str) or not name:
        raise RecipeError("objective 'distil' learns from a teacher and the recipe names none",
                          where="objective.teacher", fix="add 'teacher: NAME'; see 'bottega models'")
    bundle = Bundle.open(find_bundle(name, home / "models"))
    if bundle.meta.get("codec", "text") != "text" or bundle.meta.get("objective") == "reward":
        raise InputError(f"'{name}' writes no text: it cannot teach a model that does", where="objective.teacher",
                         fix="name a language model; see 'bottega models'")
    return bundle


def taught(recipe: Recipe, generator: TokenGenerator, codec: TextCodec, dataset: Any, home: Path,
           common: dict[str, Any]) -> Objective:
    """Return distil with its teacher.

    Raises:
        RecipeError: teacher and student have different vocabularies.
    """
    bundle = teacher_of(recipe, home)
    assert bundle is not None
    if TextCodec.load(bundle.path).digest != codec.digest:
        raise RecipeError(f"the teacher '{bundle.name}' has another vocabulary than the student: their probabilities "
                          "cannot be compared token by token", where="objective.teacher",
                          fix="leave out 'base' to start a student with the teacher's vocabulary, or let the teacher "
                              "answer prompts ('bottega distil') and tune on its answers with kind: sft")
    teacher = families.load(bundle.path).to(generator.head_weight.device).eval().requires_grad_(False)
    objective: Objective = objectives.objective_class("distil")(generator, teacher, codec, dataset, **common)
    return objective
