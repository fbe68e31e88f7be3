"""Rejection sampling: of several answers to a prompt keep the one that a reward likes best, where it is good enough.

What is kept is tuned on as any conversation (Touvron et al. 2023, "Llama 2", arXiv 2307.09288, §3.2.3; Yuan et al.
2023, arXiv 2308.01825). `bottega distil questions.jsonl --best-of 8 --reward answer --at-least 1 -o answers.jsonl`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bottega.objectives.rewards import Rewards
from bottega.objectives.samples import Sample


@dataclass(slots=True)
class Kept:
    """What came of rejection sampling.

    Attributes:
        answers: the kept ones, at most one a prompt, with their rewards, in the prompts' order.
        empty: prompts to which every answer was empty; `below`: those without one that was good enough.
        drawn: rewards of all answers that said something, by prompt.
    """

    answers: list[tuple[Sample, float]] = field(default_factory=list)
    empty: int = 0
    below: int = 0
    drawn: list[list[float]] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Return `reward_drawn`, the mean reward of all answers, and `reward_kept`, that of those kept, where any."""
        every = [reward for group in self.drawn for reward in group]
        found = {"reward_drawn": sum(every) / len(every)} if every else {}
        if self.answers:
            found["reward_kept"] = sum(reward for _, reward in self.answers) / len(self.answers)
        return found


def keep_best(groups: Sequence[Sequence[Sample]], rewards: Rewards | None, at_least: float | None, into: Kept) -> None:
    """Judge answers and keep the best one to each prompt; of equals the first.

    Args:
        groups: the answers to each prompt.
        rewards: judge them; None: all are worth 0.
        at_least: a smaller reward is not good enough; None: every one is.
        into: takes what is kept.

    Raises:
        DataError: a reward failed; see `Rewards`.
    """
    said = [[sample for sample in group if sample.text.strip()] for group in groups]
    every = [sample for group in said for sample in group]
    totals = iter(rewards(every).total if rewards and every else [0.0] * len(every))
    for group in said:
        into.drawn.append([next(totals) for _ in group])
        if not group:
            into.empty += 1
            continue
        best = max(range(len(group)), key=lambda place: into.drawn[-1][place])
        if at_least is not None and into.drawn[-1][best] < at_least:
            into.below += 1
        else:
            into.answers.append((group[best], into.drawn[-1][best]))
