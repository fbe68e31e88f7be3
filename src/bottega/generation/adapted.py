"""Adapters while decoding: one base packed in memory for all of them, and each adapter's small matrices beside it.

Every adapter is a model of its own to the engine and the batcher, so requests for different adapters of one base never
meet in a batch and need no row of theirs marked; what they share is the base's weights, by far the larger part.
`pytest tests/generation/test_adapted.py` asks several at once.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from bottega.families.adapters import Adapted, adapted
from bottega.families.bases import Standing
from bottega.families.transformer import Transformer
from bottega.generation.fast import FUSED, FastTransformer
from bottega.generation.linear import Linear, packer, supports_fp16

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_PARTS = frozenset(name for names in FUSED.values() for name in names)
_lock = threading.Lock()
_packed: WeakValueDictionary[tuple[Any, ...], FastTransformer] = WeakValueDictionary()


def shared_runner(generator: Transformer, dtype: str, piece: int) -> FastTransformer:
    """Return the runner of a model, with the packed weights of its base where it stands on one.

    An adapter of other parts than the layers' matrices, or a DoRA of matrices with biases, gets weights of its own.

    Args:
        generator: a model, on the CPU.
        dtype, piece: see `FastTransformer`.
    """
    standing: Standing | None = generator.__dict__.get("stands_on")
    small = adapted(generator)
    fits = all((found := _LAYER.fullmatch(name)) and found[2] in _PARTS and
               (module.magnitude is None or module.bias is None) for name, module in small.items())
    if standing is None or not fits or not isinstance(standing.base, Transformer):
        return FastTransformer(generator, dtype, piece)
    key = (*standing.key, dtype, piece)
    with _lock:
        base = _packed.get(key)
        if base is None:
            _packed[key] = base = FastTransformer(standing.base, dtype, piece)
    return base.changed(partial(_beside, generator, dtype)) if small else base


def _beside(generator: Transformer, dtype: str, layer: int, names: Sequence[str], product: Linear) -> Linear:
    """Return a fused product of one layer with the adapters of its parts: (W x + s B A x) · gain."""
    parts = [generator.get_submodule(f"model.layers.{layer}.{name}") for name in names]
    if not any(isinstance(part, Adapted) for part in parts):
        return product
    small, large, gains = list[Tensor](), list[Tensor](), list[Tensor]()
    for part in parts:
        assert isinstance(part, nn.Linear)
        if isinstance(part, Adapted):
            small.append(part.lora_A.detach())
            large.append(part.lora_B.detach() * part.scale)
        else:
            small.append(torch.empty(0, part.in_features))
            large.append(torch.empty(part.out_features, 0))
        gains.append(part.gain().detach() if isinstance(part, Adapted) and part.magnitude is not None
                     else torch.ones(part.out_features))
    # the products of half-precision weights give a row the same bits in any batch; int8 would round them too far
    pack = packer("fp16" if dtype in ("fp16", "int8") and supports_fp16() else "fp32")
    first, second = pack(torch.cat(small)), pack(torch.block_diag(*large))  # type: ignore[no-untyped-call]
    gain = torch.cat(gains) if any(bool((one != 1).any()) for one in gains) else None

    def changed(x: Tensor) -> Tensor:
        out = product(x).add_(second(first(x)))
        return out if gain is None else out.mul_(gain)

    return changed
