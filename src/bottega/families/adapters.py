"""Small trained matrices beside frozen ones: LoRA and DoRA, put on any model from outside.

    adapter: {kind: lora, rank: 8, alpha: 16}      # in a recipe with a `base`
    pytest tests/families/test_adapters.py

LoRA (Hu et al. 2021, arXiv 2106.09685, eq. 3): W' = W + s·BA with A [rank, in], B [out, rank], s = alpha / rank. DoRA
(Liu et al. 2024, arXiv 2402.09353, eq. 5): W' = m · (W + s·BA) / ‖W + s·BA‖, a length m of its own for each output,
and the norm counts as a constant in the gradient (§4.3). No family knows of it: a chosen module changes its class in
place and keeps its name; calling it adds the small product, and reading `weight` gives W', so that code which reads the
matrix itself (a scan, a packed decoder, an export) is right too.
"""

from __future__ import annotations

import copy
import hashlib
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bottega.core.errors import InputError, suggest
from bottega.core.recipe import AdapterSpec
from bottega.families.quantised import NF4

if TYPE_CHECKING:
    from bottega.families.base import Generator

PARTS = ("lora_A", "lora_B", "magnitude")


class Adapted(nn.Module):
    """What the adapted modules share; they come into being by `adapt` alone.

    Attributes:
        frozen: the base's weight, without gradient; None when it is held in four bits.
        quantised: the base's weight in four bits, or None.
        lora_A, lora_B: the small matrices; of a convolution kernels [rank, in, …] and [out, rank, 1 …]; of an embedding
            [rank, rows] and [width, rank], as in PEFT.
        magnitude: DoRA's lengths [out], or None.
        scale: alpha / rank, or alpha / √rank (Kalajdzievski 2023, "rsLoRA", arXiv 2312.03732).
        share: of the inputs of the small product that training leaves out.
    """

    frozen: nn.Parameter | None
    quantised: NF4 | None
    lora_A: nn.Parameter
    lora_B: nn.Parameter
    magnitude: nn.Parameter | None
    scale: float
    share: float
    bias: nn.Parameter | None

    @property
    def weight(self) -> Tensor:
        """The weight as it acts: the base's with the adapter's."""
        whole = self.base() + self._delta()
        return whole if self.magnitude is None else whole * self.gain(whole).view(-1, *[1] * (whole.dim() - 1))

    def base(self) -> Tensor:
        """Return the base's weight."""
        if self.quantised is not None:
            return self.quantised.numbers()
        assert self.frozen is not None
        return self.frozen

    def _delta(self) -> Tensor:
        """Return s·BA in the weight's shape."""
        return (self.lora_B.flatten(1) @ self.lora_A.flatten(1) * self.scale).view(self._shape())

    def _shape(self) -> torch.Size:
        return self.quantised.shape if self.quantised is not None else self.base().shape

    def gain(self, whole: Tensor | None = None) -> Tensor:
        """Return m / ‖W + s·BA‖ [out]; the norm carries no gradient."""
        assert self.magnitude is not None
        with torch.no_grad():
            norm = _norms(self.base() + self._delta() if whole is None else whole)
        out: Tensor = self.magnitude / norm
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Return what the base module would, and the adapter's part."""
        if self.quantised is not None:
            out = self.quantised.used_by(lambda weight: self._product(x, weight), x.device.type)
        else:
            out = self._product(x, self.base())
        kept = F.dropout(x, self.share) if self.share and self.training else x
        out = out.add_(self._low_rank(kept), alpha=self.scale)  # in place: a product is not needed for its gradient
        last: list[int] = [1] * (x.dim() - 2) if isinstance(self, nn.Conv1d | nn.Conv2d) else []
        if self.magnitude is not None:
            out = out * self.gain().view(-1, *last)
        return out if self.bias is None else out + self.bias.view(-1, *last)

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the base's product, without its bias."""
        raise NotImplementedError

    def _low_rank(self, x: Tensor) -> Tensor:
        """Return B(A(x))."""
        raise NotImplementedError


class _Linear(Adapted, nn.Linear):  # type: ignore[misc, override]
    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    def _low_rank(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.lora_A), self.lora_B)


class _Conv(Adapted):
    _conv_forward: Any

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        out: Tensor = self._conv_forward(x, weight, None)
        return out

    def _low_rank(self, x: Tensor) -> Tensor:
        inner: Tensor = self._conv_forward(x, self.lora_A, None)
        out: Tensor
        out = F.conv1d(inner, self.lora_B) if self.lora_B.dim() == 3 else F.conv2d(inner, self.lora_B)
        return out


class _Conv1d(_Conv, nn.Conv1d):  # type: ignore[misc, override]
    pass


class _Conv2d(_Conv, nn.Conv2d):  # type: ignore[misc, override]
    pass


class _Embedding(Adapted, nn.Embedding):  # type: ignore[override]
    bias = None

    def _delta(self) -> Tensor:
        return (self.lora_B @ self.lora_A).t() * self.scale

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.embedding(x, weight, self.padding_idx)

    def _low_rank(self, x: Tensor) -> Tensor:
        return F.linear(F.embedding(x, self.lora_A.t()), self.lora_B)

    def forward(self, x: Tensor) -> Tensor:
        """Return rows of the table."""
        return self._product(x, self.base()) + self._low_rank(x) * self.scale


_ADAPTED: dict[type[nn.Module], type[Adapted]] = {nn.Linear: _Linear, nn.Conv1d: _Conv1d, nn.Conv2d: _Conv2d,
                                                  nn.Embedding: _Embedding}


def _norms(weight: Tensor) -> Tensor:
    """Return the length of each output's weights [out]."""
    out: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    return out


def adapted(model: nn.Module) -> dict[str, Adapted]:
    """Return the adapted modules by name, those of averaged copies included; empty for a plain model."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Adapted)}


def is_adapted(model: nn.Module) -> bool:
    """Whether a model carries an adapter."""
    return any(isinstance(module, Adapted) for module in model.modules())


def choose(model: Generator, targets: str | list[str]) -> list[str]:
    """Return the names of the modules that an adapter is for.

    Args:
        model: a plain one.
        targets: `all`: every linear layer and convolution but the matrix of a vocabulary's logits; a list of names or
            last parts of names; another text: a regular expression of whole names. As PEFT's `target_modules`.

    Raises:
        InputError: nothing fits, or a chosen module cannot carry one: its weight is shared, or it works in groups.
    """
    trained = {name: module for name, module in model.named_modules()
               if type(module) in _ADAPTED and name not in model.modules_to_save
               and any(p.requires_grad for p in module.parameters(recurse=False))}
    head: Any = getattr(model, "head_weight", None)
    if targets == "all":
        return [name for name, module in trained.items() if not isinstance(module, nn.Embedding)
                and module.weight is not head and getattr(module, "groups", 1) == 1]
    if isinstance(targets, str):
        try:
            found = [name for name in trained if re.fullmatch(targets, name)]
        except re.error as error:
            raise InputError(f"adapter.targets: '{targets}' is no regular expression: {error}",
                             fix="give 'all', a list of names, or a regular expression of whole names") from None
        missing = [] if found else [targets]
    else:
        found = [name for name in trained if any(name == one or name.endswith(f".{one}") for one in targets)]
        missing = [one for one in targets if not any(name == one or name.endswith(f".{one}") for name in trained)]
    if missing or not found:
        known = sorted({name.rsplit(".", 1)[-1] for name in trained if not name.rsplit(".", 1)[-1].isdigit()})
        raise InputError(f"adapter.targets: no linear layer, convolution or table of this model is named "
                         f"'{missing[0] if missing else ''}'", where=", ".join(known[:12]),
                         fix=suggest(missing[0] if missing else "", known))
    for name in found:
        module = trained[name]
        sharers = sum(part._parameters.get("weight") is module.weight for part in model.modules())
        if sharers > 1:
            raise InputError(f"adapter.targets: '{name}' shares its weight with another layer", where=name,
                             fix="leave it out, or start from a base with generator.tied=false")
        if getattr(module, "groups", 1) != 1:
            raise InputError(f"adapter.targets: the convolution '{name}' works in groups", where=name,
                             fix="leave it out")
    return found


def adapt(model: Generator, spec: AdapterSpec, names: list[str] | None = None, *, seed: int = 0) -> None:
    """Freeze a model and put an adapter that changes nothing yet on it, in place.

    A drawn first matrix depends on the seed and the module's name alone.

    Args:
        model: a plain one.
        spec: kind, rank and the rest.
        names: the modules; by default those that `spec.targets` chooses.
        seed: of the first matrices.

    Raises:
        InputError: as in `choose`; DoRA for an embedding.
    """
    names = choose(model, spec.targets) if names is None else names
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for name in model.modules_to_save:
        model.get_submodule(name).requires_grad_(True)
    for name in names:
        _change(model.get_submodule(name), spec, name, seed)
    for live, copies in model.copies.items():
        for path in copies:
            model.set_submodule(path, shared_copy(model.get_submodule(live), all_tensors=False).requires_grad_(False))


def _change(module: nn.Module, spec: AdapterSpec, name: str, seed: int) -> None:
    """Give one module its adapter, or another one."""
    if spec.kind == "dora" and isinstance(module, nn.Embedding):
        raise InputError(f"dora is for matrices that multiply, '{name}' is a table", where="adapter.targets",
                         fix="leave it out, or use kind: lora")
    if not isinstance(module, Adapted):
        weight = module._parameters.pop("weight")
        assert weight is not None
        module.__class__ = _ADAPTED[type(module)]
        assert isinstance(module, Adapted)
        in_four_bits = spec.quantise == "nf4" and not isinstance(module, nn.Embedding) and not weight.is_meta
        module.quantised = NF4.of(weight) if in_four_bits else None
        module.register_parameter("frozen", None if in_four_bits else weight)
    base = module.base()
    rank, outputs, inner = spec.rank, base.shape[0], base.shape[1:]
    shapes = {"lora_A": (rank, *inner), "lora_B": (outputs, rank, *[1] * (len(inner) - 1))}
    if isinstance(module, nn.Embedding):
        shapes = {"lora_A": (rank, outputs), "lora_B": (inner[0], rank)}
    for part, shape in shapes.items():
        module.register_parameter(part, nn.Parameter(torch.zeros(shape, device=base.device)))
    drawn = module.lora_B if isinstance(module, nn.Embedding) else module.lora_A
    if not base.is_meta:
        chance = torch.Generator().manual_seed(
            int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "big"))
        bound = 1 / math.sqrt(drawn[0].numel())  # Kaiming's for a = √5, as in the paper's code
        with torch.no_grad():
            drawn.copy_(torch.rand(drawn.shape, generator=chance) * 2 * bound - bound)
    module.register_parameter("magnitude", nn.Parameter(_norms(base).detach().clone())
                              if spec.kind == "dora" else None)
    module.scale, module.share = spec.scale, spec.dropout


def shared_copy(model: Any, *, all_tensors: bool = True) -> Any:
    """Return a copy of a module whose tensors are the same ones in memory.

    Args:
        model: any module.
        all_tensors: share everything; else the base's frozen weights only: what training changes is copied.
    """
    def shared() -> Iterator[Tensor]:
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and (all_tensors or name not in PARTS):
                    yield parameter
            if all_tensors or isinstance(module, NF4):
                yield from (buffer for buffer in module._buffers.values() if buffer is not None)

    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared()})


def merge(model: nn.Module) -> None:
    """Write the adapter into the weights, in place: the model is a plain one again and computes the same."""
    with torch.no_grad():
        for module in adapted(model).values():
            strip(module, nn.Parameter(module.weight.detach().clone()))


def strip(module: Adapted, weight: nn.Parameter) -> None:
    """Make one module a plain one with a weight, in place."""
    for name in (*PARTS, "frozen"):
        module._parameters.pop(name, None)
    module._modules.pop("quantised", None)
    module.__dict__.pop("quantised", None)
    plain = next(plain for plain, kind in _ADAPTED.items() if kind is type(module))
    module.__class__ = plain  # type: ignore[assignment]
    module.register_parameter("weight", weight)


def changing(model: nn.Module) -> dict[str, Tensor]:
    """Return what training changes of an adapted model, by name: adapters, new heads and buffers, no base's weight."""
    saved: frozenset[str] = getattr(model, "modules_to_save", frozenset())
    fixed = {f"{name}.{part}" if name else part for name, module in model.named_modules()
             if name not in saved for part in ((*module._buffers,) if isinstance(module, NF4) else
                          tuple(one for one in module._parameters if one not in PARTS))}
    return {name: tensor.detach() for name, tensor in model.state_dict(keep_vars=True).items() if name not in fixed}
