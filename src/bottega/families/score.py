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


def logprobs(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability (nats) of each target, 0 where it is IGNORED.

    Args:
        hidden: [..., width] final hidden states.
        head: [vocab, width].
        targets: int64 [...], IGNORED or a token id.

    Returns:
        fp32 [...]. Matrix products run in the autocast dtype when autocast is on.
    """
    flat, wanted = hidden.flatten(0, -2), targets.flatten()
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        narrow = torch.get_autocast_dtype(device)
        flat, head = flat.to(narrow), head.to(narrow)
    known = wanted != IGNORED
    with torch.autocast(device, enabled=False):
        scores: Tensor = _Logprobs.apply(flat, head, wanted.clamp_min(0))  # type: ignore[no-untyped-call]
    return torch.where(known, scores, 0.0).view(targets.shape)


def token_logprobs(generator: TokenGenerator, batch: Batch) -> Tensor:
    """Return the model's log-probability (nats) of each target token of a batch, fp32 [B, T]; 0 where IGNORED.

    Args:
        generator: the model; gradients flow.
        batch: `tokens` and `targets` int64 [B, T], optional `segments` and `positions` int64 [B, T].
    """
    hidden = generator.hidden(batch["tokens"], positions=batch.get("positions"), segments=batch.get("segments"))
    return logprobs(hidden, generator.head_weight, batch["targets"])
