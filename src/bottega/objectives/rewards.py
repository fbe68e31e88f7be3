"""Rewards for sampled answers, by name: `objective: {kind: grpo, rewards: {answer: 1.0, length: {weight: -0.1}}}`.

A reward is a function from samples to one number each. Several are summed with their weights, and each is shown by its
name in the log. `pytest tests/objectives/test_rewards.py` runs them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from bottega.core.errors import BottegaError, DataError, RecipeError, suggest
from bottega.core.validate import validate
from bottega.data import checks
from bottega.guard.sandbox import run_python
from bottega.objectives.reward_settings import (
    AnswerSettings,
    ExactSettings,
    FormatSettings,
    JsonSettings,
    LengthSettings,
    ModelSettings,
    TestsSettings,
    Weighted,
)
from bottega.objectives.samples import Sample, Scorer


@dataclass(frozen=True, slots=True)
class RewardResult:
    """A number for one sample, and a word on why."""

    value: float
    note: str = ""


Reward: TypeAlias = Callable[[Sequence[Sample]], list[RewardResult]]


def _answer(sample: Sample, options: AnswerSettings) -> RewardResult:
    reference = sample.prompt.reference
    wanted = checks.marked_answer(reference) or checks.last_number(reference) or reference
    found = checks.marked_answer(sample.text) or (None if options.marked else checks.last_number(sample.text))
    right = sample.finished and checks.same_answer(found, wanted)
    return RewardResult(float(right), "" if right else f"{found!r}, not {wanted!r}")


def _exact(sample: Sample, options: ExactSettings) -> RewardResult:
    return RewardResult(float(sample.finished and checks.same_answer(sample.text, sample.prompt.reference)))


def _json(sample: Sample, options: JsonSettings) -> RewardResult:
    fault = checks.json_fault(sample.text, options.shape)
    if fault or not options.equal:
        return RewardResult(float(not fault), fault)
    try:
        equal = json.loads(sample.text) == json.loads(sample.prompt.reference)
    except ValueError:
        raise DataError(f"the reference {sample.prompt.reference!r} is no JSON", where="objective.rewards.json.equal",
                        fix="give data whose answers are JSON, or equal: false") from None
    return RewardResult(1.0 if equal else 0.5, "" if equal else "another value")


def _length(sample: Sample, options: LengthSettings) -> RewardResult:
    return RewardResult(max(0.0, len(sample.tokens) / options.target - 1))


def _format(sample: Sample, options: FormatSettings) -> RewardResult:
    return RewardResult(float(re.search(options.pattern, sample.text) is not None))


_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)


def _tests(sample: Sample, options: TestsSettings) -> RewardResult:
    code, tests = ((_FENCE.findall(text) or [text])[-1]
                   for text in (sample.text, str(sample.prompt.facts.get("tests") or sample.prompt.reference)))
    ran = run_python(code, tests, seconds=options.seconds, megabytes=options.megabytes)
    return RewardResult(float(ran.passed), ran.reason)


_EACH: dict[str, tuple[type[Weighted], Callable[[Sample, Any], RewardResult]]] = {
    "answer": (AnswerSettings, _answer), "exact": (ExactSettings, _exact), "json": (JsonSettings, _json),
    "length": (LengthSettings, _length), "format": (FormatSettings, _format), "tests": (TestsSettings, _tests)}
_MODEL = "model"
NAMES = (*_EACH, _MODEL)
NO_SHARE = ("length", _MODEL)  # their means are no shares of right answers


def options_of(name: str, given: object) -> Any:
    """Return the checked settings of a reward, from a weight or a mapping.

    Raises:
        RecipeError: unknown reward, unknown key or bad value.
    """
    where = f"objective.rewards.{name}"
    if name not in NAMES:
        raise RecipeError(f"unknown reward '{name}'", where="objective.rewards", fix=suggest(name, NAMES))
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = {"weight": float(given)}
    if not isinstance(given, Mapping):
        raise RecipeError(f"the reward '{name}' is {given!r}", where=where, fix=f"write {name}: 1.0, or a mapping")
    model = ModelSettings if name == _MODEL else _EACH[name][0]
    return validate(model, dict(given), where=where)


def _function(name: str, options: Any, scorer: Scorer | None) -> Reward:
    if name != _MODEL:
        judge = _EACH[name][1]
        return lambda samples: [judge(sample, options) for sample in samples]
    if scorer is None:
        raise RecipeError("the reward 'model' has no model behind it here", where="objective.rewards.model",
                          fix="use a reward that a program can check")

    def score(samples: Sequence[Sample]) -> list[RewardResult]:
        turns = [[*sample.prompt.messages, {"role": "assistant", "content": sample.text}] for sample in samples]
        return [RewardResult(value) for value in scorer(turns)]

    return score


@dataclass(slots=True)
class Scores:
    """What samples earned: the weighted sums, and each reward's own numbers by name."""

    total: list[float]
    parts: dict[str, list[float]] = field(default_factory=dict)


class Rewards:
    """A weighted sum of named rewards.

    Args:
        spec: reward → weight, or its settings.
        scorer: scores conversations for the reward `model`.
        extra: rewards of the caller's own, by name, to be named in `spec` by weight alone.

    Raises:
        RecipeError: unknown reward or key, no reward at all, or `model` without a scorer.
    """

    def __init__(self, spec: Mapping[str, Any], scorer: Scorer | None = None,
                 extra: Mapping[str, Reward] | None = None) -> None:
        if not spec:
            raise RecipeError("no reward is given", where="objective.rewards", fix="write rewards: {answer: 1.0}")
        self._functions: dict[str, Reward] = {}
        self._weights: dict[str, float] = {}
        for name, given in spec.items():
            if extra and name in extra:
                self._functions[name], self._weights[name] = extra[name], float(given)
            else:
                options = options_of(name, given)
                self._functions[name], self._weights[name] = _function(name, options, scorer), options.weight

    def __call__(self, samples: Sequence[Sample]) -> Scores:
        """Score samples.

        Raises:
            DataError: a reward failed, or gave another number of results or one that is not finite; it is named, with
                the answer.
        """
        parts: dict[str, list[float]] = {}
        for name, function in self._functions.items():
            try:
                results = function(samples)
            except BottegaError:
                raise
            except Exception as error:  # a reward is the user's code: whatever it dies of is said once, with its name
                raise DataError(f"the reward '{name}' failed: {type(error).__name__}: {error}",
                                where=f"objective.rewards.{name}", fix="correct the reward") from error
            if len(results) != len(samples):
                raise DataError(f"the reward '{name}' gave {len(results)} results for {len(samples)} answers",
                                where=f"objective.rewards.{name}", fix="return one result an answer, in order")
            for sample, result in zip(samples, results, strict=True):
                if not math.isfinite(result.value):
                    raise DataError(f"the reward '{name}' gave {result.value} for the answer {sample.text[:80]!r}",
                                    where=f"objective.rewards.{name}", fix="return a finite number for every answer")
            parts[name] = [float(result.value) for result in results]
        total = [math.fsum(self._weights[name] * parts[name][place] for name in parts)
                 for place in range(len(samples))]
        return Scores(total, parts)
