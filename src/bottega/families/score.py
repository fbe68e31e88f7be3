"""Log-probabilities of given tokens, for every loss over text: pretraining, SFT, DPO, RL. Logits are made in slices.

At 4096 tokens and 150,000 words the logits alone would take 2.4 GB; a slice takes what fits a cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from bottega.families.base import Batch, TokenGenerator

IGNORED = -100  # target value that carries no loss
_SLICE = 1 << 21  # logits a slice: 8 MiB in fp32, about what a core's caches hold


class _Logprobs(torch.autograd.Function):
    """log softmax(hidden headᵀ)[target] for rows; the backward pass makes each slice of logits again."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        rows = max(1, _SLICE // head.shape[0])
        picked, sums = [], []
        for start in range(0, hidden.shape[0], rows):
            wanted = targets[start:start + rows]
            logits = F.linear(hidden[start:start + rows], head).float()
            sums.append(logits.logsumexp(-1))
            picked.append(logits.gather(1, wanted.unsqueeze(1)).squeeze(1))
        total = torch.cat(sums)
        ctx.save_for_backward(hidden, head, targets, total)
        return torch.cat(picked) - total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """d log p_target / d logit_j = [j = target] - p_j."""
        hidden, head, targets, total = ctx.saved_tensors
        rows = max(1, _SLICE // head.shape[0])
        grad_hidden, grad_head = [], torch.zeros(head.shape, dtype=torch.float32, device=head.device)
        for start in range(0, hidden.shape[0], rows):
            part, weight = hidden[start:start + rows], grad[start:start + rows].unsqueeze(1)
            slope = F.linear(part, head).float().sub_(total[start:start + rows].unsqueeze(1)).exp_().mul_(-weight)
            slope.scatter_add_(1, targets[start:start + rows].unsqueeze(1), weight)
            narrow = slope.to(head.dtype)
            grad_hidden.append(narrow @ head)
            grad_head += narrow.t() @ part
        return torch.cat(grad_hidden), grad_head.to(head.dtype), None


# An opaque operator: torch.compile would otherwise unroll the slices into code of their own.
@torch.library.custom_op("bottega::cross_entropy", mutates_args=())
def _cross_entropy(hidden: Tensor, head: Tensor, targets: Tensor, known: Tensor,
                   differentiate: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return -Σ known · log softmax(hidden headᵀ)[target] and its gradients, made slice by slice with the logits.

    Rows of `hidden` that are not known must be zero, so that they leave no trace in the gradient of `head`.
    """
    rows = max(1, _SLICE // head.shape[0])
    total = torch.zeros((), device=hidden.device)
    to_hidden = torch.empty_like(hidden if differentiate else hidden[:0], memory_format=torch.contiguous_format)
    to_head = torch.zeros(head.shape if differentiate else (0,), device=head.device)
    for start in range(0, hidden.shape[0], rows):
        end = start + rows
        part, wanted = hidden[start:end], targets[start:end].unsqueeze(1)
        scores = torch.log_softmax(F.linear(part, head), -1, dtype=torch.float32)
        total -= (scores.gather(1, wanted).squeeze(1) * known[start:end]).sum()
        if differentiate:  # d -log p_target / d logit_j = p_j - [j = target]
            slope = scores.exp_().scatter_add_(1, wanted, scores.new_full(wanted.shape, -1.0)).to(head.dtype)
            to_hidden[start:end] = slope @ head
            to_head += slope.t() @ part
    return total, to_hidden, to_head.to(head.dtype)


@_cross_entropy.register_fake
def _(hidden: Tensor, head: Tensor, targets: Tensor, known: Tensor,
      differentiate: bool) -> tuple[Tensor, Tensor, Tensor]:
    total = torch.empty((), dtype=torch.float32, device=hidden.device)
    if not differentiate:
        return total, hidden.new_empty(0, hidden.shape[1]), head.new_empty(0)
    return total, hidden.new_empty(hidden.shape), head.new_empty(head.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], output[2])


def _back(ctx: Any, grad: Tensor, _hidden: Tensor, _head: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
    to_hidden, to_head = ctx.saved_tensors
    return to_hidden * grad, to_head * grad, None, None, None


torch.library.register_autograd("bottega::cross_entropy", _back, setup_context=_remember)


def _rows(hidden: Tensor, head: Tensor) -> tuple[Tensor, Tensor]:
    """Return hidden states as rows and the matrix, both in the autocast dtype when autocast is on."""
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    return hidden.flatten(0, -2).to(dtype), head.to(dtype)


def cross_entropy(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Return the sum over all targets of -log-probability (nats), scalar fp32; IGNORED ones carry none.

    A third cheaper than summing `logprobs`, because all targets have the same weight.

    Args:
        hidden: [..., width] final hidden states.
        head: [vocab, width].
        targets: int64 [...], IGNORED or a token id.
    """
    rows, matrix = _rows(hidden, head)
    wanted = targets.flatten()
    known = wanted != IGNORED
    if hidden.device.type == "cpu" and not torch.compiler.is_compiling():
        if not bool(known.all()):  # elsewhere the number of rows must not depend on the data
            rows, wanted, known = rows[known], wanted[known], known[known]
    else:
        rows = torch.where(known.unsqueeze(1), rows, 0)
    differentiate = torch.is_grad_enabled() and (rows.requires_grad or matrix.requires_grad)
    with torch.autocast(hidden.device.type, enabled=False):
        total: Tensor = _cross_entropy(rows, matrix, wanted.clamp_min(0), known, differentiate)[0]
    return total


def logprobs(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability (nats) of each target, 0 where it is IGNORED.

    Args:
        hidden: [..., width] final hidden states.
        head: [vocab, width].
        targets: int64 [...], IGNORED or a token id.

    Returns:
        fp32 [...]. Matrix products run in the autocast dtype when autocast is on.
    """
    rows, matrix = _rows(hidden, head)
    wanted = targets.flatten()
    known = wanted != IGNORED
    with torch.autocast(hidden.device.type, enabled=False):
        scores: Tensor = _Logprobs.apply(rows, matrix, wanted.clamp_min(0))  # type: ignore[no-untyped-call]
    return torch.where(known, scores, 0.0).view(targets.shape)


def token_logprobs(generator: TokenGenerator, batch: Batch) -> Tensor:
    """Return the model's log-probability (nats) of each target token of a batch, fp32 [B, T]; 0 where IGNORED.

    Args:
        generator: the model; gradients flow.
        batch: `tokens` and `targets` int64 [B, T], optional `segments` and `positions` int64 [B, T].
    """
    hidden = generator.hidden(batch["tokens"], positions=batch.get("positions"), segments=batch.get("segments"))
    return logprobs(hidden, generator.head_weight, batch["targets"])
