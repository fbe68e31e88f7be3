"""Rewards for sampled answers, by name: `objective: {kind: grpo, rewards: {answer: 1.0, length: {weight: -0.1}}}`.

A reward is a function from samples to one number each. Several are summed with their weights, and each is shown by its
name in the log. `pytest tests/objectives/test_grpo.py` runs them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import Field, field_validator

from bottega.core.errors import BottegaError, DataError, RecipeError, suggest
from bottega.core.validate import Strict, validate
from bottega.data import checks
from bottega.guard.sandbox import run_python
from bottega.objectives.samples import Sample, Scorer


@dataclass(frozen=True, slots=True)
class RewardResult:
    """A number for one sample, and a word on why."""

    value: float
    note: str = ""


Reward: TypeAlias = Callable[[Sequence[Sample]], list[RewardResult]]


class Weighted(Strict):
    """Keys of every reward.

    Attributes:
        weight: what the reward is multiplied by in the sum; may be negative.
    """

    weight: float = Field(default=1.0, allow_inf_nan=False)


class AnswerSettings(Weighted):
    """Keys of `answer`: is the marked result the reference's?

    Attributes:
        marked: the result must be marked (`#### 12`, `<answer>12</answer>`); else the last number of the text counts
            where nothing is marked.
    """

    marked: bool = True


class ExactSettings(Weighted):
    """Keys of `exact`: is the whole text the reference, spaces and case aside?"""


class JsonSettings(Weighted):
    """Keys of `json`: is the text one JSON value of a schema, and the reference's?

    Attributes:
        schema: JSON Schema (see `data.checks`); none accepts every value. Written `schema:` in a recipe.
        equal: it must also equal the reference; 0.5 for the schema alone.
    """

    shape: dict[str, Any] = Field(default={}, alias="schema")
    equal: bool = False

    @field_validator("shape")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        checks.check_schema(value, "objective.rewards.json.schema")
        return value


class LengthSettings(Weighted):
    """Keys of `length`: tokens beyond a target, as a share of it (0 up to the target). Use a negative weight.

    Attributes:
        target: tokens that are free.
    """

    target: int = Field(default=64, ge=1)


class FormatSettings(Weighted):
    """Keys of `format`: does the text match a regular expression anywhere?

    Attributes:
        pattern: the expression; by default a marked result.
    """

    pattern: str = r"####[ \t]*\S"

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"does not compile: {error}") from None
        return value


class TestsSettings(Weighted):
    """Keys of `tests`: do the tests of the data pass? Code runs in `guard.sandbox`, never in this process.

    The answer's last fenced block (or the whole answer) is run, and after it the tests: the fact `tests`, or else the
    reference.

    Attributes:
        seconds: wall clock of one run.
        megabytes: memory of one run.
    """

    seconds: float = Field(default=5.0, gt=0, le=60)
    megabytes: int = Field(default=512, ge=64)


class ModelSettings(Weighted):
    """Keys of `model`: the score of a reward model.

    Attributes:
        name: of the reward model.
    """

    name: str


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
