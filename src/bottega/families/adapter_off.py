"""The base of an adapted model as a model of its own: the same tensors in memory, the adapter off.

What a run with an adapter stays close to (the reference of dpo, kto, grpo and ppo), and what a value network stands on,
is the base; a second copy of its weights would be what an adapter saves. `pytest tests/families/test_adapter_off.py`.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from bottega.core.recipe import AdapterSpec
from bottega.families.adapters import PARTS, adapt, adapted, shared_copy, strip
from bottega.families.base import Generator

Model = TypeVar("Model", bound=Generator)


def without_adapter(model: Model) -> Model:
    """Return the base of an adapted model, in evaluation mode and without gradients; it stays what it was.

    A base in four bits is rounded as the adapter sees it.

    Args:
        model: adapted; not changed.
    """
    plain: Model = shared_copy(model)
    for module in adapted(plain).values():
        if module.frozen is not None:
            strip(module, module.frozen)
            continue
        for part in PARTS:  # in four bits there is no plain weight: the product with the adapter's counts nothing
            own = module._parameters[part]
            module.register_parameter(part, None if own is None or part == "magnitude" else
                                      nn.Parameter(own.detach(), requires_grad=False))
        module.scale = module.share = 0.0
    return plain.eval()


def with_new_adapter(model: Model, spec: AdapterSpec, *, seed: int) -> Model:
    """Return another model on the same base: with an adapter of its own, that changes nothing yet.

    Args:
        model: adapted; not changed.
        spec: the adapter of the new one.
        seed: of its first matrices.
    """
    other = without_adapter(model)
    adapt(other, spec, list(adapted(model)), seed=seed)
    return other
