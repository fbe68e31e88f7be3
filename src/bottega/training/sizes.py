"""How many tokens an optimiser step and a forward pass hold, when the recipe leaves it open.

A run should hold at least two thousand steps: small batches cost little quality and give the schedule room. Larger
budgets get larger batches, up to half a million tokens, as machines like them.
"""

from __future__ import annotations

from dataclasses import dataclass

from bottega.core.recipe import TrainingSpec

_STEPS = 2000
_PICTURES = 64  # a step: many small steps teach a small network most
_ROWS = 256
_LEAST, _MOST = 2048, 1 << 19
_STEPS_BUDGET_BATCH = 8192
_CPU_PASS, _GPU_PASS = 4096, 32768  # tokens a forward pass: fits the caches of a CPU, fills a GPU


@dataclass(frozen=True, slots=True)
class Sizes:
    """Tokens an optimiser step, sequences a forward pass, and why."""

    batch_tokens: int
    micro_batch: int
    reason: str


def item_sizes(spec: TrainingSpec, medium: str) -> Sizes:
    """Return pictures or rows an optimiser step and a forward pass, counted in `batch_tokens` and `micro_batch`."""
    batch = spec.batch or (_ROWS if medium == "table" else _PICTURES)
    reason = "as the recipe says" if spec.batch else "the default for rows" if medium == "table" else \
        f"the default for {'graphs' if medium == 'graph' else 'pictures'}"
    return Sizes(batch, min(batch, spec.micro_batch or batch), reason)


def sizes(spec: TrainingSpec, tokens_per_second: float, *, on_gpu: bool = False) -> Sizes:
    """Return the recipe's sizes, the open ones derived.

    Args:
        spec: budget, context and what the recipe fixed.
        tokens_per_second: expected speed; a minutes budget holds this many times its seconds.
        on_gpu: whether training runs on a GPU.
    """
    budget, reason = spec.budget, "as the recipe says"
    if spec.batch_tokens is not None:
        wanted = spec.batch_tokens
    elif budget.steps is not None:
        wanted, reason = _STEPS_BUDGET_BATCH, "the default of a steps budget"
    else:
        tokens = budget.tokens if budget.tokens is not None else tokens_per_second * 60 * (budget.minutes or 0)
        wanted = _LEAST
        while wanted * 2 <= min(_MOST, tokens / _STEPS):
            wanted *= 2
        reason = f"a power of two that leaves {_STEPS:,} steps or more, at least {_LEAST:,}"
    rows = max(1, wanted // spec.context)
    limit = max(1, (_GPU_PASS if on_gpu else _CPU_PASS) // spec.context)
    return Sizes(rows * spec.context, min(rows, spec.micro_batch or limit), reason)
