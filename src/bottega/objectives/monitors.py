"""Is reinforcement learning going wrong? Advice for people, and rules that end a run.

A policy that is optimised against a reward finds what the reward forgot (Gao, Schulman and Hilton 2022,
arXiv 2210.10760). The surest sign is held out: the reward still rises while a check that is not rewarded falls. Others
are drift from the reference, answers that grow or repeat, and a distribution that no longer varies before the task is
learned. `pytest tests/objectives/test_grpo.py`; `benchmarks/rl.py` plants a loophole and watches it being caught.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from bottega.core.validate import Strict

_LAST = 8  # rounds whose mean is judged: one odd round is no drift
_SIGMAS = 3.0  # a fall of the held-out check that chance alone would show once in 700 looks
_FALL = 0.05  # and at least this much
_LONGER, _SHORTER = 1.5, 0.5  # mean length as a multiple of the start's
_KL = 1.0  # nats a token from the reference: another language
_REPEATS = 0.6  # of the start's share of different 3-token sequences
_ENTROPY = 0.05  # of the start's entropy
_LEARNED = 0.9  # share of prompts checked right from which little entropy is what one wants
_SILENT = 0.95  # share of groups without a difference


class Stop(Strict):
    """When to end a run, keeping the weights of its best validation; means over 8 rounds. None: never.

    Attributes:
        kl: nats a token from the reference.
        length: tokens an answer.
        entropy: nats a token, at least.
        distinct: share of different 3-token sequences, at least.
        hacking: the held-out check fell significantly while the reward rose.
    """

    kl: float | None = Field(default=None, gt=0)
    length: float | None = Field(default=None, gt=0)
    entropy: float | None = Field(default=None, gt=0)
    distinct: float | None = Field(default=None, gt=0, le=1)
    hacking: bool = False

    @property
    def any(self) -> bool:
        """Whether there is a rule at all."""
        return self.hacking or any(getattr(self, name) is not None for name in ("kl", "length", "entropy", "distinct"))


def reason_to_stop(stop: Stop, rounds: Sequence[dict[str, float]]) -> str:
    """Return why a run must end, from the figures of its last rounds; empty when it may go on."""
    for name, highest in (("kl", True), ("length", True), ("entropy", False), ("distinct", False)):
        limit, values = getattr(stop, name), [figures[name] for figures in rounds[-_LAST:] if name in figures]
        if limit is None or len(values) < _LAST:
            continue
        mean = math.fsum(values) / len(values)
        if (mean > limit) if highest else (mean < limit):
            return f"{name} is {mean:.3g}, the rule says {'at most' if highest else 'at least'} {limit:g}"
    return ""


def hacking(looks: Sequence[dict[str, float]]) -> str:
    """Return a sentence when the held-out check fell while the reward rose, empty otherwise.

    The latest look is compared with the one whose check was best. A fall counts when it is over 5 points and over 3
    standard errors of the difference of two shares (as if the questions were others each time, which errs on the side
    of silence: they are the same).

    Args:
        looks: validations, oldest first, each with `reward`, `check` and `prompts` (their number); where the check is
            no share, as a reward model's score is none, nothing can be said.
    """
    known = [look for look in looks if {"reward", "check", "prompts"} <= look.keys()]
    if not all(0 <= look["check"] <= 1 for look in known):
        return ""
    if len(known) < 2:
        return ""
    best, now = max(known[:-1], key=lambda look: look["check"]), known[-1]
    spread = sum(look["check"] * (1 - look["check"]) / look["prompts"] for look in (best, now))
    fall = best["check"] - now["check"]
    if fall > max(_FALL, _SIGMAS * math.sqrt(spread)) and now["reward"] > best["reward"]:
        return (f"the reward rose from {best['reward']:.3g} to {now['reward']:.3g} on held-out prompts while the check "
                f"fell from {best['check']:.1%} to {now['check']:.1%}: it is being hacked")
    return ""


def advice(history: Sequence[dict[str, Any]]) -> list[str]:
    """Return warnings on a run, from the lines of its log (`training.metrics.read_history`)."""
    rounds = [line["metrics"] for line in history if "reward" in line.get("metrics", {})]
    looks = [line["validation"] for line in history if "validation" in line]
    found = []
    if said := hacking(looks):
        found.append(f"{said}; read some answers, mend or weigh down that reward, raise objective.beta, or set "
                     "objective.stop.hacking=true")
    if len(rounds) < 2 * _LAST:
        return found

    def mean(name: str, part: Sequence[dict[str, float]]) -> float:
        values = [figures[name] for figures in part if name in figures]
        return math.fsum(values) / len(values) if values else math.nan

    first, last = rounds[:_LAST], rounds[-_LAST:]
    length, before = mean("length", last), mean("length", first)
    if length > _LONGER * before or length < _SHORTER * before:
        found.append(f"answers went from {before:.0f} to {length:.0f} tokens: when they are no better for it add a "
                     "reward 'length' with a negative weight, or set objective.stop.length")
    if mean("kl", last) > _KL:
        found.append(f"the model is {mean('kl', last):.2f} nats a token from its reference: raise objective.beta (kl "
                     "for ppo), lower training.learning_rate, or set objective.stop.kl")
    if mean("distinct", last) < _REPEATS * mean("distinct", first):
        found.append(f"answers repeat themselves: {mean('distinct', last):.0%} of their 3-token sequences differ "
                     f"({mean('distinct', first):.0%} at the start); raise objective.beta, or set "
                     "objective.stop.distinct")
    right = looks[-1].get("check", math.nan) if looks else math.nan
    if mean("entropy", last) < _ENTROPY * mean("entropy", first) and not right >= _LEARNED:
        found.append(f"the model has nearly stopped varying its answers ({mean('entropy', last):.3g} nats a token, "
                     f"{mean('entropy', first):.3g} at the start) before the task is learned: raise "
                     "objective.clip_high or objective.beta, or lower training.learning_rate")
    if mean("skipped", last) > _SILENT and not right >= _LEARNED:
        found.append(f"in {mean('skipped', last):.0%} of the groups all answers earn the same, so there is nothing to "
                     "learn from: give easier or harder prompts, raise objective.group, or start from a better base")
    return found
