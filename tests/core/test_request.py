"""Controls and requests: ranges, defaults and refusals by name."""

import math

import pytest

from bottega.core.errors import ControlError, RecipeError
from bottega.core.request import Controls, Request
from bottega.core.validate import validate


@pytest.mark.parametrize(("name", "value"), [
    ("temperature", -1), ("temperature", math.nan), ("temperature", 11), ("top_k", -1), ("top_p", 0), ("top_p", 1.5),
    ("min_p", 2), ("repetition_penalty", 0), ("seed", -1), ("seed", 2**63), ("max_tokens", 0), ("stop", [""]),
    ("n", 0), ("n", 129), ("best_of", 0), ("size", "big"), ("logit_bias", {"1": math.inf}), ("strength", 2),
])
def test_out_of_range_controls_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ControlError) as caught:
        Controls.parse({name: value})
    assert name in caught.value.problem
    assert caught.value.fix


def test_unknown_control_suggests() -> None:
    with pytest.raises(ControlError, match="did you mean 'temperature'"):
        Controls.parse({"temprature": 1})


def test_best_of_below_n() -> None:
    with pytest.raises(ControlError, match="at least n"):
        Controls.parse({"n": 3, "best_of": 2})


@pytest.mark.parametrize("shape", [{}, {"regex": "a", "grammar": "b"}])
def test_exactly_one_format(shape: dict[str, str]) -> None:
    with pytest.raises(ControlError, match="exactly one"):
        Controls.parse({"format": shape})


def test_over_takes_defaults_and_keeps_nulls_inside_a_schema() -> None:
    schema = {"const": None, "enum": [None, 1]}
    mine = Controls.parse({"temperature": 0, "format": {"json_schema": schema}})
    both = mine.over(Controls(temperature=0.8, top_p=0.9))
    assert (both.temperature, both.top_p) == (0, 0.9)
    assert both.format is not None
    assert both.format.json_schema == schema


def test_over_that_does_not_fit_is_a_control_error() -> None:
    with pytest.raises(ControlError, match="at least n"):
        Controls(n=4).over(Controls(best_of=2))


def test_require_names_the_control() -> None:
    with pytest.raises(ControlError, match="a gru model does not understand the control 'guidance_scale'"):
        Controls(guidance_scale=2.0).require(frozenset({"temperature"}), "gru")
    Controls(temperature=1).require(frozenset({"temperature"}), "gru")


@pytest.mark.parametrize(("data", "fix"), [
    ({}, "either prompt or messages"),
    ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "either prompt or messages"),
    ({"messages": []}, "must not be empty"),
    ({"messages": [{"role": "user", "content": "b"}], "suffix": "c"}, "suffix needs prompt"),
    ({"prompt": "a", "alternatives": 21}, "less than or equal to 20"),
    ({"messages": [{"role": "robot", "content": "b"}]}, "'system', 'user', 'assistant' or 'tool'"),
    ({"messages": [{"rôle": "user", "content": "b"}]}, "role"),
    ({"messages": [{"role": "user", "contents": "b", "content": "b"}]}, "did you mean 'content'?"),
])
def test_requests_that_make_no_sense(data: dict[str, object], fix: str) -> None:
    with pytest.raises(RecipeError) as caught:
        validate(Request, data, where="request")
    assert fix in caught.value.fix
