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


def _chosen(known: Tensor) -> Tensor | slice:
    """Return the places of rows that carry loss; on a GPU all, since what depends on their number would wait for it."""
    return slice(None) if known.device.type != "cpu" or bool(known.all()) else known.nonzero().squeeze(1)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add leftᵀ right to `total`, fp32: in place where the kernel can, without a product of its own."""
    if left.dtype == total.dtype:
        total.addmm_(left.t(), right)
    else:
        total += left.t() @ right


# Opaque operators: torch.compile would otherwise unroll the slices into code of their own.
@torch.library.custom_op("bottega::logprobs", mutates_args=())
def _logprobs(hidden: Tensor, head: Tensor, targets: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return log softmax(hidden headᵀ)[target] of each row, fp32 [rows], 0 where not known, and the logsumexp [rows].

    Of hidden [rows, width], head [vocab, width], targets int64 [rows] and known bool [rows].
    """
    size, places = max(1, _SLICE // head.shape[0]), _chosen(known)
    rows, wanted = hidden[places], targets[places].unsqueeze(1)
    picked, sums = (torch.empty(rows.shape[0], device=hidden.device) for _ in range(2))
    for start in range(0, rows.shape[0], size):
        end = start + size
        logits = F.linear(rows[start:end], head).float()
        sums[start:end] = logits.logsumexp(-1)
        picked[start:end] = logits.gather(1, wanted[start:end]).squeeze(1)
    scores, total = (torch.zeros(known.shape, device=hidden.device) for _ in range(2))
    scores[places], total[places] = picked - sums, sums
    return scores.masked_fill_(~known, 0.0), total


@torch.library.custom_op("bottega::logprobs_backward", mutates_args=())
def _logprobs_backward(grad: Tensor, hidden: Tensor, head: Tensor, targets: Tensor, known: Tensor,
                       total: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of hidden and head, logits made again: d log p_target / d logit_j = [j = target] - p_j."""
    size, places = max(1, _SLICE // head.shape[0]), _chosen(known)
    rows, wanted = hidden[places], targets[places].unsqueeze(1)
    weights, sums = grad.masked_fill(~known, 0.0)[places].unsqueeze(1), total[places].unsqueeze(1)
    to_rows, to_head = torch.empty_like(rows), torch.zeros(head.shape, device=head.device)
    for start in range(0, rows.shape[0], size):
        end = start + size
        part, weight = rows[start:end], weights[start:end]
        slope = F.linear(part, head).float().sub_(sums[start:end]).exp_().mul_(-weight)
        slope.scatter_add_(1, wanted[start:end], weight)
        narrow = slope.to(head.dtype)
        to_rows[start:end] = narrow @ head
        _add_product(to_head, narrow, part)
    to_hidden = torch.zeros(hidden.shape, dtype=hidden.dtype, device=hidden.device)
    to_hidden[places] = to_rows
    return to_hidden, to_head.to(head.dtype)


@_logprobs.register_fake
def _(hidden: Tensor, head: Tensor, targets: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    return tuple(hidden.new_empty(known.shape, dtype=torch.float32) for _ in range(2))  # type: ignore[return-value]


@_logprobs_backward.register_fake
def _(grad: Tensor, hidden: Tensor, head: Tensor, targets: Tensor, known: Tensor,
      total: Tensor) -> tuple[Tensor, Tensor]:
    return hidden.new_empty(hidden.shape), head.new_empty(head.shape)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])
    ctx.mark_non_differentiable(output[1])


def _slopes(ctx: Any, grad: Tensor, _total: Tensor) -> tuple[Tensor, Tensor, None, None]:
    return *_logprobs_backward(grad, *ctx.saved_tensors), None, None


torch.library.register_autograd("bottega::logprobs", _slopes, setup_context=_keep)


@torch.library.custom_op("bottega::cross_entropy", mutates_args=())
def _cross_entropy(hidden: Tensor, head: Tensor, targets: Tensor, known: Tensor,
                   differentiate: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return -Σ known · log softmax(hidden headᵀ)[target] and its gradients, made slice by slice with the logits."""
    size, places = max(1, _SLICE // head.shape[0]), _chosen(known)
    rows, wanted, weights = hidden[places], targets[places].unsqueeze(1), known[places]
    total = torch.zeros((), device=hidden.device)
    to_rows = torch.empty_like(rows if differentiate else rows[:0], memory_format=torch.contiguous_format)
    to_head = torch.zeros(head.shape if differentiate else (0,), device=head.device)
    for start in range(0, rows.shape[0], size):
        end = start + size
        part, ids, counts = rows[start:end], wanted[start:end], weights[start:end]
        scores = torch.log_softmax(F.linear(part, head), -1, dtype=torch.float32)
        total -= (scores.gather(1, ids).squeeze(1) * counts).sum()
        if differentiate:  # d -log p_target / d logit_j = p_j - [j = target]
            slope = scores.exp_().scatter_add_(1, ids, scores.new_full(ids.shape, -1.0))
            narrow = slope.to(head.dtype)
            to_rows[start:end] = narrow @ head
            _add_product(to_head, narrow, part)
    if not differentiate:
        return total, to_rows, to_head.to(head.dtype)
    to_hidden = torch.zeros(hidden.shape, dtype=hidden.dtype, device=hidden.device)
    to_hidden[places] = to_rows
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
    if hidden.device.type != "cpu":  # there all rows are scored: these must leave no trace in the gradient of the head
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
        scores: Tensor = _logprobs(rows, matrix, wanted.clamp_min(0), known)[0]
    return scores.view(targets.shape)


def token_logprobs(generator: TokenGenerator, batch: Batch) -> Tensor:
    """Return the model's log-probability (nats) of each target token of a batch, fp32 [B, T]; 0 where IGNORED.

    Args:
        generator: the model; gradients flow.
        batch: `tokens` and `targets` int64 [B, T], optional `segments` and `positions` int64 [B, T].
    """
    hidden = generator.hidden(batch["tokens"], positions=batch.get("positions"), segments=batch.get("segments"))
    return logprobs(hidden, generator.head_weight, batch["targets"])
