"""Rewards: what each gives, and what happens when one fails, gives no number, or there is nothing to learn from."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from bottega.codecs.text import TextCodec
from bottega.core.errors import DataError, RecipeError
from bottega.families.base import TokenGenerator
from bottega.objectives.grpo import GRPO, Settings
from bottega.objectives.rewards import RewardResult, Rewards
from bottega.objectives.samples import Prompt, Sample, prompts_of
from bottega.training.sampler import EngineSampler
from tests.objectives.test_chat import Memory, codec, model, support  # noqa: F401

PYTHON = "```python\ndef double(x):\n    return 2 * x\n```"


def sample(text: str, reference: str = "#### 12", *, finished: bool = True, tokens: int = 4) -> Sample:
    return Sample(Prompt([{"role": "user", "content": "?"}], [1, 2], reference), text, [5] * tokens, [-0.1] * tokens,
                  finished)


@pytest.mark.parametrize(("spec", "made", "value"), [
    ({"answer": 1.0}, sample("5 + 7 = 12\n#### 12.0"), 1.0), ({"answer": 1.0}, sample("12"), 0.0),
    ({"answer": {"marked": False}}, sample("it is 12"), 1.0), ({"answer": 1.0}, sample("#### 12", finished=False), 0.0),
    ({"answer": 2.0}, sample("#### 12", "So 12"), 2.0), ({"exact": 1.0}, sample("Rome ", "rome"), 1.0),
    ({"json": {"schema": {"type": "object"}}}, sample("{}"), 1.0), ({"json": {"schema": {"type": "object"}}},
                                                                      sample("[]"), 0.0),
    ({"json": {"equal": True}}, sample('{"a":1}', '{"a": 1}'), 1.0), ({"json": {"equal": True}},
                                                                       sample('{"a":2}', '{"a": 1}'), 0.5),
    ({"format": {"pattern": "^So"}}, sample("So 3"), 1.0), ({"length": {"weight": -1.0, "target": 4}},
                                                             sample("x", tokens=6), -0.5),
    ({"tests": 1.0}, sample(PYTHON, "assert double(4) == 8"), 1.0),
    ({"tests": 1.0}, sample(PYTHON, "assert double(4) == 9"), 0.0),
    ({"answer": 1.0, "length": {"weight": -0.1, "target": 2}}, sample("#### 12"), 0.9)])
def test_values(spec: dict[str, Any], made: Sample, value: float) -> None:
    scores = Rewards(spec)([made])
    assert scores.total == [pytest.approx(value)]
    assert list(scores.parts) == list(spec)


def test_a_reward_model_is_a_function_of_conversations() -> None:
    rewards = Rewards({"model": {"name": "judge", "weight": 2.0}}, lambda turns: [len(t[-1]["content"]) for t in turns])
    assert rewards([sample("abc"), sample("")]).total == [6.0, 0.0]
    with pytest.raises(RecipeError, match="no model behind it"):
        Rewards({"model": {"name": "judge"}})


def raises(samples: Sequence[Sample]) -> list[RewardResult]:
    raise ZeroDivisionError("by hand")


@pytest.mark.parametrize(("bad", "said"), [
    (raises, "the reward 'mine' failed: ZeroDivisionError: by hand"),
    (lambda samples: [RewardResult(math.nan) for _ in samples], "gave nan for the answer 'what it said'"),
    (lambda samples: [RewardResult(math.inf) for _ in samples], "gave inf"),
    (lambda samples: [], "gave 0 results for 1 answers")])
def test_a_bad_reward_is_named(bad: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Rewards({"mine": 1.0}, extra={"mine": bad})([sample("what it said")])


@pytest.mark.parametrize(("spec", "said"), [
    ({}, "no reward"), ({"anwser": 1.0}, "did you mean 'answer'"), ({"length": {"traget": 3}}, "traget"),
    ({"format": {"pattern": "("}}, "compile"), ({"json": {"schema": {"typ": 1}}}, "'typ'"),
    ({"answer": "yes"}, "'yes'"),
    ({"answer": math.inf}, "weight")])
def test_bad_settings_are_named(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Rewards(spec)


def test_prompts_that_cannot_be_used_are_left_out_and_none_is_an_error(codec: TextCodec,  # noqa: F811
                                                                       capsys: pytest.CaptureFixture[str]) -> None:
    right = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "12"}]}
    empty = {"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "12"}]}
    alone = {"messages": [{"role": "assistant", "content": "12"}]}
    long = {"messages": [{"role": "user", "content": "kettle " * 99}, {"role": "assistant", "content": "12"}]}
    room = {"context": 32, "max_tokens": 8, "what": "train"}
    found = prompts_of([right, empty, alone, long], codec, **room)  # type: ignore[arg-type]
    assert [prompt.reference for prompt in found] == ["12"]
    assert "1 prompts too long" in capsys.readouterr().err
    with pytest.raises(DataError, match="1 leave no room for 8 tokens in a context of 32, 2 ask nothing"):
        prompts_of([empty, alone, long], codec, **room)  # type: ignore[arg-type]


def test_rewards_that_are_all_alike_move_nothing_and_are_counted(codec: TextCodec) -> None:  # noqa: F811
    generator: TokenGenerator = model(codec).eval()
    objective = GRPO(generator, None, codec, support(8, 4), EngineSampler(generator, codec), context=192, micro_batch=4,
                     seed=0, settings=Settings(rewards={"answer": 1.0}, prompts=2, group=3, max_tokens=4, beta=0.0))
    assert objective.batch(0) == []
    assert objective.figures()["skipped"] == 1.0
    assert objective.figures()["reward"] == 0.0
