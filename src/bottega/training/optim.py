"""The optimisers: Muon for hidden matrices, AdamW for the rest; `training.optimizer=adamw` uses AdamW alone.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) takes the Nesterov momentum of a matrix and replaces it by
the nearest semi-orthogonal one, so that all directions learn at the same speed. The orthogonalisation is Polar Express
(Amsel, Persson, Musco, Gower 2025, arXiv 2505.16932): five odd polynomials of degree 5, each the best one for
what the one before leaves. Matrices of one shape go through it as one batch; a convolution's kernels count as a matrix
with a row for each output channel.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bottega.core.errors import CorruptError

# Coefficients (a, b, c) of X <- aX + b(XX^T)X + c(XX^T)^2 X, for singular values from 0.001 (algorithm 1 of the paper).
_POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
# parts of the names of first and last layers, and of the small matrices of adapters
_ENDS = ("lm_head", "head", "embed_tokens", "enter", "leave", "lora_A", "lora_B")
_SAFETY = 1.02  # the polynomials are tuned with this much head-room above 1


def orthogonalise(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the nearest semi-orthogonal matrices, approximately: singular values in about 0.85..1.15.

    Args:
        matrices: float [K, rows, columns].
        dtype: precision of the products; bfloat16 is enough (the result only points a direction).

    Returns:
        Tensor [K, rows, columns] of `dtype`.
    """
    x = matrices.to(dtype)
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT  # the Gram matrix below is then the small one
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * _SAFETY + 1e-6)
    for a, b, c in _POLAR_EXPRESS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon:
    """Momentum, orthogonalised, for matrices and the kernels of convolutions.

    Args:
        parameters: names and fp32 tensors of two or more dimensions; those after the first are one.
        learning_rate: peak rate; an update has root mean square about rate / sqrt(columns) for square matrices.
        momentum: decay of the running gradient.
        weight_decay: decoupled: each step multiplies weights by 1 - rate x weight_decay.
        dtype: precision of the orthogonalisation.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], *, learning_rate: float, momentum: float = 0.95,
                 weight_decay: float = 0.0, dtype: torch.dtype = torch.float32) -> None:
        self.learning_rate, self.momentum, self.weight_decay, self.dtype = learning_rate, momentum, weight_decay, dtype
        shapes: dict[tuple[int, int], list[str]] = defaultdict(list)
        for name, parameter in parameters.items():
            shapes[(parameter.size(0), parameter[0].numel())].append(name)
        self.names = list(shapes.values())
        self.groups = [[parameters[name] for name in names] for names in self.names]
        self.running = [torch.zeros(len(group), *shape, device=group[0].device)
                        for shape, group in zip(shapes, self.groups, strict=True)]

    @torch.no_grad()
    def step(self, share: float) -> None:
        """Update the parameters from their gradients at `share` (0..1) of the peak rate."""
        rate = self.learning_rate * share
        for group, running in zip(self.groups, self.running, strict=True):
            gradients = torch.stack([(torch.zeros_like(p) if p.grad is None else p.grad).flatten(1) for p in group])
            running.lerp_(gradients, 1 - self.momentum)
            update = orthogonalise(gradients.lerp_(running, self.momentum), self.dtype).to(running.dtype)
            scale = math.sqrt(max(1.0, running.size(1) / running.size(2)))  # keeps the update's spectral size
            tensors: list[Tensor] = list(group)
            if self.weight_decay:
                torch._foreach_mul_(tensors, 1 - rate * self.weight_decay)
            updates = [one.view_as(p) for one, p in zip(update.unbind(0), group, strict=True)]
            torch._foreach_add_(tensors, updates, alpha=-rate * scale)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by parameter name, for a checkpoint."""
        return {f"{name}.momentum": row for names, running in zip(self.names, self.running, strict=True)
                for name, row in zip(names, running.unbind(0), strict=True)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        for names, running in zip(self.names, self.running, strict=True):
            running.copy_(torch.stack([_take(tensors, f"{name}.momentum") for name in names]))


class AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) by PyTorch's fused kernel, its state addressable by name.

    The kernel is called without `torch.optim`, whose optimisers load the compiler when they are built: 3 CPU seconds,
    half of what a small table needs in all. The numbers are the same to the bit.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], *, learning_rate: float, weight_decay: float = 0.0,
                 betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8) -> None:
        self.parameters, self.learning_rate, self.weight_decay = parameters, learning_rate, weight_decay
        self.betas, self.eps = betas, eps
        self.state: dict[str, dict[str, Tensor]] = {}  # parameter → step (fp32 scalar), exp_avg, exp_avg_sq

    @torch.no_grad()
    def step(self, share: float) -> None:
        """Update the parameters from their gradients at `share` (0..1) of the peak rate; no decay of vectors."""
        moved = {name: p for name, p in self.parameters.items() if p.grad is not None}
        for device, many in sorted({(p.device, p.dim() >= 2) for p in moved.values()}, key=str):
            names = [name for name, p in moved.items() if (p.device, p.dim() >= 2) == (device, many)]
            for name in names:
                if name not in self.state:  # the fused step counts on the parameter's device
                    self.state[name] = {"step": torch.zeros((), device=device),
                                        "exp_avg": torch.zeros_like(moved[name]),
                                        "exp_avg_sq": torch.zeros_like(moved[name])}
            states = [self.state[name] for name in names]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1.0)
            torch._fused_adamw_(
                [moved[name] for name in names], [moved[name].grad for name in names],  # type: ignore[misc]
                [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states], [], steps,
                lr=self.learning_rate * share, beta1=self.betas[0], beta2=self.betas[1],
                weight_decay=self.weight_decay if many else 0.0, eps=self.eps, amsgrad=False, maximize=False)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by parameter name, for a checkpoint."""
        return {f"{name}.{key}": value for name, state in self.state.items() for key, value in state.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave; a parameter that never had a gradient has no state."""
        for name, parameter in self.parameters.items():
            if f"{name}.exp_avg" in tensors:
                self.state[name] = {
                    "step": _take(tensors, f"{name}.step").to(parameter.device, torch.float32).clone(),
                    "exp_avg": _take(tensors, f"{name}.exp_avg").to(parameter.device).clone(),
                    "exp_avg_sq": _take(tensors, f"{name}.exp_avg_sq").to(parameter.device).clone()}


def _take(tensors: dict[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise CorruptError(f"the checkpoint holds no optimiser state '{name}'",
                           fix="train again without --resume: the model or the optimiser changed")
    return tensors[name]


def hidden_matrices(model: nn.Module) -> set[int]:
    """Return the ids of the parameters Muon is for: matrices and kernels, no embedding tables, no first or last layers.

    Embeddings and heads act on one-hot rows, where orthogonality has no meaning (Jordan et al. 2024); the layers that
    take pixels in and give them out are left to AdamW for the same reason.
    """
    tables = {id(p) for module in model.modules() if isinstance(module, nn.Embedding)
              for p in module.parameters(recurse=False)}
    return {id(p) for name, p in model.named_parameters()
            if p.dim() in (2, 4) and min(p.size(0), p[0].numel()) > 1 and id(p) not in tables
            and not any(part in _ENDS for part in name.split("."))}


class Optimiser:
    """The optimisers of one player.

    Attributes:
        parameters: all tensors it moves, in order.
        parts: Muon and AdamW, or AdamW alone.
    """

    def __init__(self, model: nn.Module, parameters: Iterable[nn.Parameter], *, kind: str, learning_rate: float,
                 learning_rate_rest: float, weight_decay: float, dtype: torch.dtype,
                 betas: tuple[float, float] = (0.9, 0.95)) -> None:
        names = {id(p): name for name, p in model.named_parameters()}
        named = {names.get(id(p), f"extra.{index}"): p for index, p in enumerate(parameters)}
        matrices = hidden_matrices(model) if kind == "muon" else set()
        inner = {name: p for name, p in named.items() if id(p) in matrices}
        rest = {name: p for name, p in named.items() if id(p) not in matrices}
        self.parameters = list(named.values())
        self.parts: list[Muon | AdamW] = []
        if inner:
            self.parts.append(Muon(inner, learning_rate=learning_rate, weight_decay=weight_decay, dtype=dtype))
        if rest and kind == "muon":
            self.parts.append(AdamW(rest, learning_rate=learning_rate_rest, betas=betas))
        elif rest:
            self.parts.append(AdamW(rest, learning_rate=learning_rate, weight_decay=weight_decay, betas=betas))

    @torch.no_grad()
    def normalise(self, weight: float, clip: float) -> float:
        """Divide the summed gradients by `weight`, then shorten them to norm `clip` (0: never).

        Returns:
            The norm before shortening; not finite when a gradient is not.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not gradients:
            return 0.0
        norms = torch._foreach_norm(gradients)
        norm = float(torch.linalg.vector_norm(torch.stack(norms))) / weight
        factor = min(1.0, clip / (norm + 1e-6)) if clip > 0 else 1.0
        torch._foreach_mul_(gradients, factor / weight)
        return norm

    def step(self, share: float) -> None:
        """Move the parameters; `share` (0..1) of each part's peak rate."""
        for part in self.parts:
            part.step(share)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by parameter name."""
        return {name: tensor for part in self.parts for name, tensor in part.tensors().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        for part in self.parts:
            part.restore(tensors)
