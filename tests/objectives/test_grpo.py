"""GRPO and PPO: the formulas against slow ones, the sampler against the forward pass, real training, exact resume."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bottega.codecs.text import TextCodec
from bottega.core.errors import RecipeError
from bottega.core.recipe import AdapterSpec, ObjectiveSpec, TrainingSpec
from bottega.families.adapters import adapt
from bottega.families.base import TokenGenerator
from bottega.families.score import token_logprobs
from bottega.objectives import monitors, settings
from bottega.objectives.grpo import GRPO, advantages, clipped_objective, kl_estimate
from bottega.objectives.ppo import PPO, gae, next_weight
from bottega.objectives.sft import SFT
from bottega.training import loop
from bottega.training.loop import validate
from bottega.training.sampler import EngineSampler
from tests.objectives.resuming import stopped_equals_whole
from tests.objectives.test_chat import CPU, codec, model, support, train  # noqa: F401

SHORT = {"rewards": {"length": {"weight": -1.0, "target": 4}}, "check": None, "prompts": 4, "group": 4,
         "max_tokens": 24, "minibatches": 2, "held_out": 8}


@pytest.fixture(scope="module")
def talks(codec: TextCodec) -> TokenGenerator:  # noqa: F811
    """A model that answers in several lengths."""
    tuned = SFT(model(codec), codec, support(300, 20), context=192, batch_tokens=1536, micro_batch=8, seed=0,
                validation_tokens=4096)
    train(tuned, 30, 0.02)
    return tuned.generator.eval()


def objective_of(kind: str, talks: TokenGenerator, codec: TextCodec, **more: Any) -> Any:  # noqa: F811
    generator = copy.deepcopy(talks)
    chosen = settings(ObjectiveSpec.model_validate({"kind": kind, **SHORT, **more}))
    frozen = copy.deepcopy(talks).requires_grad_(False) if chosen.needs_reference else None
    parts = (generator, frozen, codec, support(40, 8), EngineSampler(generator, codec))
    sizes: dict[str, Any] = {"context": 192, "micro_batch": 8, "seed": 3, "settings": chosen}
    if kind == "grpo":
        return GRPO(*parts, **sizes)
    return PPO(*parts, **sizes, trunk=copy.deepcopy(talks) if chosen.critic == "own" else None)


def test_advantages_by_hand() -> None:
    rewards = np.array([[1.0, 0.0, 0.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    assert advantages(rewards, False).tolist() == [[0.5, -0.5, -0.5, 0.5], [0.0] * 4]
    assert np.allclose(advantages(rewards, True), [[1, -1, -1, 1], [0] * 4], atol=1e-5)


def test_the_clipped_objective_and_the_divergence_by_hand() -> None:
    ratio, gain = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.1]), torch.tensor([1.0, 1.0, -1.0, -1.0, 2.0])
    assert torch.allclose(clipped_objective(ratio, gain, 0.2, 0.28), torch.tensor([1.28, 0.5, -1.5, -0.8, 2.2]))
    logs, other = torch.tensor([-1.0, -2.0]), torch.tensor([-1.0, -1.0])
    assert torch.allclose(kl_estimate(logs, other), torch.tensor([0.0, np.e - 2]).float())


_STEPS = st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=8)


@given(_STEPS, st.floats(0, 1), st.floats(0, 1))
def test_gae_is_the_sum_of_its_definition(steps: list[tuple[float, float]], discount: float, trace: float) -> None:
    rewards, values = (np.array(column) for column in zip(*steps, strict=True))
    ahead = [*values[1:], 0.0]
    errors = [reward + discount * then - now for reward, then, now in zip(rewards, ahead, values, strict=True)]
    wanted = [sum((discount * trace) ** (later - place) * errors[later] for later in range(place, len(errors)))
              for place in range(len(errors))]
    assert gae(rewards, values, discount, trace) == pytest.approx(wanted, abs=1e-9)


def test_the_weight_of_the_divergence_follows_its_target() -> None:
    assert next_weight(0.1, 0.2, 0.1) > 0.1 > next_weight(0.1, 0.05, 0.1)
    assert next_weight(0.1, 0.1, 0.1) == pytest.approx(0.1)


def test_the_sampler_says_the_probabilities_of_the_forward_pass(talks: TokenGenerator, codec: TextCodec) -> None:  # noqa: F811
    objective = objective_of("grpo", talks, codec)
    made = objective.rollouts.round(0)
    assert len(made.samples) == 16
    assert made.samples[0].tokens != made.samples[1].tokens or made.samples[2].tokens != made.samples[3].tokens
    for sample in made.samples[:4]:
        ids = torch.tensor([[*sample.prompt.tokens, *sample.tokens]])
        logs = token_logprobs(talks, {"tokens": ids[:, :-1], "targets": ids[:, 1:]})[0, len(sample.prompt.tokens) - 1:]
        with torch.no_grad():  # reserved tokens are left out of the draw, which raises the others a little
            assert sample.logprobs == pytest.approx(logs.tolist(), abs=0.02)
    again = objective.rollouts.round(0)
    assert [one.tokens for one in again.samples] == [one.tokens for one in made.samples]


@pytest.mark.parametrize(("kind", "more"), [("grpo", {"beta": 0.0}), ("grpo", {"beta": 0.01, "mean": "token"}),
                                            ("ppo", {"kl": 0.0})])
def test_it_learns_what_is_rewarded(kind: str, more: dict[str, Any], talks: TokenGenerator, codec: TextCodec,  # noqa: F811
                                    tmp_path: Path) -> None:
    """A real training: greedy answers to held-out prompts become at least a quarter shorter."""
    objective = objective_of(kind, talks, codec, **more)
    before = validate(objective, "fp32", CPU)
    steps = 100 if kind == "ppo" else 40  # its value network knows nothing at first: after 40 the seed decides
    spec = TrainingSpec.model_validate({"budget": {"steps": steps}, "context": 192, "precision": "fp32",
                                        "compile": "off", "optimizer": "adamw", "learning_rate": 0.001})
    loop.train(objective, spec, run=tmp_path, seed=1)
    after = validate(objective, "fp32", CPU)
    assert after["length"] < 0.75 * before["length"]
    assert after["reward"] > before["reward"]


@pytest.mark.parametrize("kind", ["grpo", "ppo"])
def test_a_run_stopped_within_a_round_has_the_bits_of_a_whole_one(kind: str, talks: TokenGenerator, codec: TextCodec,  # noqa: F811
                                                                  tmp_path: Path) -> None:
    whole = stopped_equals_whole(lambda: objective_of(kind, talks, codec), tmp_path, optimizer="adamw",
                                 learning_rate=0.001)
    assert not torch.equal(next(whole.generator.parameters()), next(talks.parameters()))


def test_a_stop_puts_the_best_adapter_back_without_a_copy_of_its_base(talks: TokenGenerator, codec: TextCodec) -> None:  # noqa: F811
    objective = objective_of("grpo", talks, codec, stop={"kl": 1.0})
    adapt(objective.generator, AdapterSpec(rank=2))
    trained = [part for part in objective.generator.parameters() if part.requires_grad]
    objective.summarise({"loss": 1.0, "reward": -1.0}, 1.0)
    best = [part.detach().clone() for part in trained]
    kept = sum(tensor.numel() for name, tensor in objective.tensors().items() if name.startswith("best."))
    assert sum(part.numel() for part in best) <= kept < 0.2 * sum(p.numel() for p in talks.parameters())
    with torch.no_grad():
        for part in trained:
            part.add_(1.0)
    objective.summarise({"loss": 2.0, "reward": -2.0}, 1.0)
    objective._stop("by hand")
    assert objective.finish()["reward"] == -1.0
    assert all(torch.equal(one, other) for one, other in zip(trained, best, strict=True))


def test_a_hack_is_told_from_honest_progress() -> None:
    honest = [{"reward": 0.4 + step / 10, "check": 0.4 + step / 10, "prompts": 400.0} for step in range(4)]
    hacked = [{"reward": 0.4 + step / 10, "check": 0.6 - step / 10, "prompts": 400.0} for step in range(4)]
    noise = [{"reward": 0.4, "check": 0.50, "prompts": 100.0}, {"reward": 0.5, "check": 0.46, "prompts": 100.0}]
    assert monitors.hacking(honest) == monitors.hacking(noise) == ""
    assert "hacked" in monitors.hacking(hacked)
    scores = [{"reward": 1.0, "check": 3.2, "prompts": 100.0}, {"reward": 2.0, "check": -1.5, "prompts": 100.0}]
    assert monitors.hacking(scores) == "", "a reward model's score is no share, and has no such error"
    history = [{"validation": look} for look in hacked]
    assert any("hacked" in said for said in monitors.advice(history))


@pytest.mark.parametrize(("wrong", "said"), [({"rewards": {"anser": 1.0}}, "anser"), ({"group": 1}, "group of one"),
                                             ({"stop": {"hacking": True}, "check": "model"}, "right or wrong"),
                                             ({"stop": {"hacking": True}, "check": None}, "right or wrong"),
                                             ({"prompts": 0}, "prompts"), ({"betta": 1}, "betta")])
def test_bad_settings_are_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        settings(ObjectiveSpec.model_validate({"kind": "grpo", **wrong}))
