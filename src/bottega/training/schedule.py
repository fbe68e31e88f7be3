"""How far along a run is, and the learning rate that follows from it: `bottega train RECIPE training.budget.minutes=5`.

Everything follows one number, progress in 0..1, whatever the budget is counted in. Warmup, stable, decay (Hu et al.
2024, MiniCPM, arXiv 2404.06395, section 4): the long stable part makes the end of the budget free to choose.
"""

from __future__ import annotations

from dataclasses import dataclass

from bottega.core.recipe import Budget, TrainingSpec


def rate(progress: float, spec: TrainingSpec) -> float:
    """Return the share (0..1) of the peak learning rate at a progress of 0..1.

    Linear rise over the first `warmup`, flat, then a linear fall over the last `decay` to `final_rate`. Where the two
    overlap the lower one holds.
    """
    rise = 1.0 if spec.warmup == 0 else min(1.0, progress / spec.warmup)
    left = 1.0 if spec.decay == 0 else min(1.0, max(0.0, 1.0 - progress) / spec.decay)
    return min(rise, spec.final_rate + (1.0 - spec.final_rate) * left)


@dataclass(slots=True)
class Clock:
    """Turns steps, tokens and seconds into progress.

    Attributes:
        budget: what was asked.
        reserve: seconds at the end of a minutes budget kept for the last validation and checkpoint.
    """

    budget: Budget
    reserve: float = 0.0

    def progress(self, step: int, tokens: int, seconds: float) -> float:
        """Return the used share of the budget; 1 or more means that it is spent."""
        if self.budget.steps is not None:
            return step / self.budget.steps
        if self.budget.tokens is not None:
            return tokens / self.budget.tokens
        assert self.budget.minutes is not None
        total = self.budget.minutes * 60
        return seconds / max(total - self.reserve, 0.5 * total)

    def during(self, before: float, *, step: int, tokens: int, step_tokens: int) -> float:
        """Return the progress in the middle of the step about to run: its schedule point.

        For steps and tokens it depends on nothing but the arguments, so a resumed run repeats it to the bit; for
        minutes the step's length is taken as the mean of the steps before.
        """
        if self.budget.steps is not None:
            return before + 0.5 / self.budget.steps
        if self.budget.tokens is not None:
            return before + 0.5 * step_tokens / self.budget.tokens
        return before + (0.5 * before / step if step else 0.0)
