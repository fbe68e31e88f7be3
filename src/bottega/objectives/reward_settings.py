"""Keys of the rewards of `objective.rewards`, a class each; see `objectives.rewards` for what they give.

`pytest tests/objectives/test_rewards.py` refuses bad ones.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, field_validator

from bottega.core.validate import Strict
from bottega.data import checks


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
