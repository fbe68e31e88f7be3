"""Fine-tuning starts from a finished model: what of a recipe that model decides, and how training finds it.

`bottega train recipes/python-lora.yaml` is one; without `adapter` all weights of the base are trained.
"""

from __future__ import annotations

from typing import Any

from bottega.core.bundle import Bundle
from bottega.core.errors import InputError, RecipeError
from bottega.core.recipe import Recipe
from bottega.families import adapters, bases
from bottega.families.base import Generator


def check_base(recipe: Recipe, base: Bundle) -> None:
    """Find what does not fit a base.

    Raises:
        RecipeError: the base is of another medium, or the recipe sets what the base decides.
    """
    kind = str(base.meta.get("codec"))
    if kind != recipe.codec.kind:
        raise RecipeError(f"the base '{base.name}' is a model of {kind}, this recipe's codec is {recipe.codec.kind}",
                          where="base", fix=f"write codec: {{kind: {kind}}}, or name another base")
    if recipe.codec.overrides:
        key = next(iter(recipe.codec.overrides))
        raise RecipeError(f"codec.{key} is decided by the base '{base.name}', whose codec is used",
                          where=f"codec.{key}", fix="leave it out")


def check_adapter(recipe: Recipe, base: Bundle | None) -> None:
    """Find faults of a recipe's `adapter` before any work.

    Raises:
        RecipeError: there is no base, or the base is an adapter itself.
    """
    if recipe.adapter is None:
        return
    if base is None:
        raise RecipeError("an adapter is trained beside the weights of a finished model, and the recipe names none",
                          where="base", fix="add 'base: NAME'; see 'bottega models'")
    if bases.is_adapter(base):
        raise RecipeError(f"the base '{base.name}' is an adapter itself", where="base",
                          fix=f"merge it first: bottega adapter merge {base.name} --name NEW")


def started(base: Bundle) -> Generator:
    """Return a base's generator, ready to learn from other data.

    Raises:
        InputError, CorruptError: it cannot be loaded.
    """
    generator = bases.load_generator(base)
    generator.begin_again()
    return generator


def put_adapter(generator: Generator, recipe: Recipe) -> None:
    """Put the recipe's adapter on its base, in place; nothing without one.

    Raises:
        RecipeError: its targets do not fit the model.
    """
    if recipe.adapter is None:
        return
    try:
        adapters.adapt(generator, recipe.adapter, seed=recipe.seed)
    except InputError as error:
        raise RecipeError(error.problem, where=error.where or "adapter.targets", fix=error.fix) from None


def shape(generator: Generator) -> dict[str, Any]:
    """Return numbers of an adapted model: trained and all parameters, and bytes that the base takes."""
    from bottega.families.quantised import NF4

    parameters = list(generator.parameters())
    packed = [module for module in generator.modules() if isinstance(module, NF4)]
    held = sum(p.numel() * p.element_size() for p in parameters if not p.requires_grad)
    held += sum(part.codes.numel() + 4 * part.scales.numel() for part in packed)
    numbers = sum(part.shape.numel() for part in packed)
    return {"trained": sum(p.numel() for p in parameters if p.requires_grad),
            "all": sum(p.numel() for p in parameters) + numbers, "base_bytes": held, "in_four_bits": numbers}
