"""Objectives on pairs and on single ratings: each loss against a slow one from its paper, and real trainings."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bottega.codecs.text import TextCodec
from bottega.core.errors import DataError, RecipeError
from bottega.core.recipe import Budget, ObjectiveSpec
from bottega.data.order import Permutation
from bottega.families.base import TokenGenerator
from bottega.families.reward import RewardModel
from bottega.objectives import reference, settings
from bottega.objectives.dpo import DPO
from bottega.objectives.dpo import Settings as DPOSettings
from bottega.objectives.kto import KTO
from bottega.objectives.kto import Settings as KTOSettings
from bottega.objectives.orpo import ORPO, log_odds
from bottega.objectives.orpo import Settings as ORPOSettings
from bottega.objectives.reward import Reward
from bottega.objectives.reward import Settings as RewardSettings
from bottega.training.loop import validate
from tests.objectives.resuming import stopped_equals_whole
from tests.objectives.test_chat import CPU, Memory, codec, model, naive_score, pairs, train  # noqa: F401

SIZES = {"context": 192, "batch_tokens": 100_000, "micro_batch": 100, "seed": 0, "validation_tokens": 10**6}
SMALL = {**SIZES, "batch_tokens": 1536, "micro_batch": 8}
Log = dict[tuple[str, str], float]


def shaken(codec: TextCodec, seed: int) -> TokenGenerator:  # noqa: F811
    """A model that is not near any start: at a start many matrices are zero, which would hide a leak."""
    generator = model(codec, seed).eval()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return generator


def slow(codec: TextCodec, policy: TokenGenerator, frozen: TokenGenerator, item: dict[str, Any]) -> Log:  # noqa: F811
    """Summed log-probabilities of both answers under both models, and lengths, one conversation at a time."""
    with torch.no_grad():
        logs = {(name, key): naive_score(generator, codec, item["messages"], item[key])
                for name, generator in (("policy", policy), ("frozen", frozen)) for key in ("chosen", "rejected")}
    return logs | {("size", key): len(codec.encode(item[key])) + 1 for key in ("chosen", "rejected")}


def log_sigmoid(value: float) -> float:
    return -math.log1p(math.exp(-value))


def dpo_by_hand(options: DPOSettings, log: Log) -> float:
    gain = {key: log["policy", key] - log["frozen", key] for key in ("chosen", "rejected")}
    h = gain["chosen"] - gain["rejected"]
    if options.loss == "ipo":
        return (h - 0.5 / options.beta) ** 2
    if options.loss == "simpo":
        means = {key: log["policy", key] / log["size", key] for key in ("chosen", "rejected")}
        return -log_sigmoid(options.beta * (means["chosen"] - means["rejected"]) - options.gamma)
    smooth = options.label_smoothing
    return -(1 - smooth) * log_sigmoid(options.beta * h) - smooth * log_sigmoid(-options.beta * h)


@pytest.mark.parametrize("options", [{"loss": "ipo", "beta": 0.05}, {"loss": "simpo"}, {"label_smoothing": 0.2},
                                     {"loss": "simpo", "beta": 5, "gamma": 0.3}])
def test_each_variant_of_dpo_equals_its_paper(codec: TextCodec, options: dict[str, Any]) -> None:  # noqa: F811
    data, policy, frozen = pairs(5, 2), shaken(codec, 1), shaken(codec, 2)
    chosen = DPOSettings.model_validate(options)
    found = DPO(policy, frozen, codec, data, settings=chosen, **SIZES)
    with torch.no_grad():
        loss = found.loss(found._batch("train", range(5)))
    wanted = [dpo_by_hand(chosen, slow(codec, policy, frozen, item)) for item in data.splits["train"]]
    assert float(loss.total) == pytest.approx(math.fsum(wanted), rel=1e-3)
    assert float(loss.weight) == 5


def test_simpo_has_its_own_usual_numbers_and_gamma_is_its_alone() -> None:
    found = settings(ObjectiveSpec.model_validate({"kind": "dpo", "loss": "simpo"}))
    assert (found.beta, found.gamma) == (2.0, 1.0)
    assert settings(ObjectiveSpec.model_validate({"kind": "dpo"})).beta == 0.1
    with pytest.raises(RecipeError, match="gamma belongs to loss: simpo"):
        settings(ObjectiveSpec.model_validate({"kind": "dpo", "gamma": 1}))


def test_orpo_equals_its_paper(codec: TextCodec) -> None:  # noqa: F811
    data, policy = pairs(5, 2), shaken(codec, 1)
    found = ORPO(policy, codec, data, settings=ORPOSettings(weight=0.7), **SIZES)
    with torch.no_grad():
        loss = found.loss(found._batch("train", range(5)))
    wanted = 0.0
    for item in data.splits["train"]:
        log = slow(codec, policy, policy, item)
        mean = {key: log["policy", key] / log["size", key] for key in ("chosen", "rejected")}
        odds = {key: math.exp(value) / (1 - math.exp(value)) for key, value in mean.items()}
        wanted += -mean["chosen"] - 0.7 * log_sigmoid(math.log(odds["chosen"] / odds["rejected"]))
    assert float(loss.total) == pytest.approx(wanted, rel=1e-4)
    assert torch.isfinite(log_odds(torch.tensor([0.0, -1e-9, -50.0]))).all()


def ratings(train_rows: int, held_out: int) -> Memory:
    """Thumbs: up for the house tone, down for the curt one, one answer a customer, two thirds of them down."""
    def single(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"messages": item["messages"], "answer": item["chosen" if number % 3 == 0 else "rejected"],
                 "desirable": number % 3 == 0, "source": "thumbs"} for number, item in enumerate(rows)]

    both = pairs(train_rows, held_out)
    return Memory(single(both.splits["train"]), single(both.splits["validation"]))


@pytest.mark.parametrize("seeds", [(1, 2), (2, 1)])
def test_kto_equals_its_paper(codec: TextCodec, seeds: tuple[int, int]) -> None:  # noqa: F811
    data, policy, frozen = ratings(7, 4), shaken(codec, seeds[0]), shaken(codec, seeds[1])
    found = KTO(policy, frozen, codec, data, settings=KTOSettings(beta=0.3), **SIZES)
    assert found.weights == pytest.approx((4 / 3, 1.0))  # 3 thumbs up, 4 down: both weigh the same in all
    with torch.no_grad():
        loss = found.loss(found._batch("train", range(7)))

        def gain(prompt: list[dict[str, str]], answer: str) -> float:
            return naive_score(policy, codec, prompt, answer) - naive_score(frozen, codec, prompt, answer)

        items = data.splits["train"]
        order = Permutation(7, 0, -1).take(np.arange(7)).tolist()
        beside = dict(zip(order, order[1:] + order[:1], strict=True))  # whose answer stands beside whose prompt
        gains = [gain(items[one]["messages"], items[other]["answer"]) for one, other in beside.items()]
        baseline = max(0.0, math.fsum(gains) / 7)
        assert (baseline > 0) is (seeds == (2, 1))  # in one direction the estimate is below zero and cut
        wanted = 0.0
        for item in items:
            lead = 0.3 * (gain(item["messages"], item["answer"]) - baseline)
            value = 1 / (1 + math.exp(-lead if item["desirable"] else lead))
            wanted += found.weights[0 if item["desirable"] else 1] * (1 - value)
    assert float(loss.total) == pytest.approx(wanted, rel=1e-3)


def test_the_answer_beside_a_prompt_belongs_to_another(codec: TextCodec) -> None:  # noqa: F811
    """Many answers to few prompts, as raters of one page leave them: none stands beside its own prompt."""
    asked = [[{"role": "user", "content": f"Question {number}?"}] for number in range(3)]
    items = [{"messages": asked[number % 3 if number < 12 else 0], "answer": f"Answer {number} to {number % 3}",
              "desirable": True} for number in range(20)]
    owner = {item["answer"]: item["messages"][0]["content"] for item in items}
    found = KTO(model(codec), None, codec, Memory(items, items), **SIZES)
    for number, item in enumerate(items):
        batch = found._batch("train", [number])
        swapped = codec.decode(batch["tokens"][batch["owners"] == 1].tolist())
        said = next(answer for answer in sorted(owner, key=len, reverse=True) if answer in swapped)
        assert owner[said] != item["messages"][0]["content"]
        assert item["messages"][0]["content"] in swapped


def judge(codec: TextCodec, seed: int = 1) -> RewardModel:  # noqa: F811
    return RewardModel(shaken(codec, seed))


def test_the_reward_loss_equals_its_paper(codec: TextCodec) -> None:  # noqa: F811
    data = pairs(5, 2)
    data.splits["train"][3]["margin"] = 2.0
    judging = RewardModel(shaken(codec, 1)).eval()
    torch.nn.init.normal_(judging.value.weight)
    found = Reward(judging, codec, data, settings=RewardSettings(margin=0.4, centre=0.05), **SIZES)
    with torch.no_grad():
        loss = found.loss(found._batch("train", range(5)))
        wanted = 0.0
        for number, item in enumerate(data.splits["train"]):
            one, other = (float(judging.backbone.hidden(torch.tensor([codec.encode_chat(
                [*item["messages"], {"role": "assistant", "content": item[key]}])]))[0, -1] @ judging.value.weight[0])
                for key in ("chosen", "rejected"))
            wanted += -log_sigmoid(one - other - 0.4 * (2 if number == 3 else 1)) + 0.05 * (one + other) ** 2
    assert float(loss.total) == pytest.approx(wanted, rel=1e-4)


def every(codec: TextCodec) -> list[Any]:  # noqa: F811
    data, policy, frozen = pairs(12, 4), shaken(codec, 1), shaken(codec, 2)
    return [DPO(policy, frozen, codec, data, **SIZES), ORPO(policy, codec, data, **SIZES),
            Reward(RewardModel(shaken(codec, 3)).eval(), codec, data, **SIZES)]


def test_packed_pairs_have_the_loss_of_pairs_one_by_one(codec: TextCodec) -> None:  # noqa: F811
    for objective in every(codec):
        if objective.kind == "reward":
            torch.nn.init.normal_(objective.generator.value.weight)
        with torch.no_grad():
            together = objective._batch("train", range(12))
            assert len(together["tokens"]) < 24  # several answers stand in a row
            alone = [objective.loss(objective._batch("train", [number])) for number in range(12)]
            found = objective.loss(together)
        assert float(found.total) == pytest.approx(sum(float(one.total) for one in alone), rel=1e-4), objective.kind


def test_reference_ahead_equals_reference_beside(codec: TextCodec, tmp_path: Path) -> None:  # noqa: F811
    for build, data in ((DPO, pairs(12, 4)), (KTO, ratings(12, 6))):
        policy, frozen = shaken(codec, 1), shaken(codec, 2)
        beside, ahead = (build(policy, model, codec, data, **SMALL) for model in (frozen, None))
        assert "reference" not in ahead._batch("train", range(12))
        reference.ahead(ahead, frozen, tmp_path, "model", "data")
        losses = []
        for objective in (beside, ahead):
            with torch.no_grad():
                losses.append([float(objective.loss(batch).total) for batch in (*objective.batch(3),
                                                                               *objective.validation())])
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    files = sorted((tmp_path / "references").iterdir())
    assert len(files) == 2
    again = DPO(shaken(codec, 5), None, codec, pairs(12, 4), **SMALL)
    reference.ahead(again, shaken(codec, 5), tmp_path, "model", "data")  # kept ones are read, not made
    kept = DPO(policy, None, codec, pairs(12, 4), **SMALL)
    reference.ahead(kept, frozen, tmp_path, "model", "data")
    assert torch.equal(again._kept["train"], kept._kept["train"])
    for file in files:
        file.write_bytes(b"broken")
    reference.ahead(again, frozen, tmp_path, "model", "data")
    assert torch.allclose(again._kept["train"], kept._kept["train"])


def test_ahead_pays_when_every_pair_is_seen_twice(codec: TextCodec) -> None:  # noqa: F811
    objective = DPO(shaken(codec, 1), None, codec, pairs(40, 4), **{**SIZES, "batch_tokens": 1536})
    enough = -(-80 // objective.pairs)
    assert reference.pays(objective, Budget(steps=enough), 1536)
    assert not reference.pays(objective, Budget(steps=enough - 1), 1536)
    assert reference.pays(objective, Budget(tokens=enough * 1536), 1536)
    assert not reference.pays(objective, Budget(minutes=60), 1536)  # how many steps they hold is not known


def test_a_reward_model_learns_what_people_chose_and_swapped_labels_turn_it_round(codec: TextCodec) -> None:  # noqa: F811
    data = pairs(200, 60)
    objective = Reward(judge(codec), codec, data, **SMALL)
    before = validate(objective, "fp32", CPU)
    assert before["log_loss"] == pytest.approx(math.log(2))  # the head starts at zero
    train(objective, 20, 0.004)
    after = validate(objective, "fp32", CPU)
    assert after["accuracy"] > 0.95
    assert after["log_loss"] < 0.2
    assert after["margin"] > 2

    def turned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]

    other = Memory(turned(data.splits["train"]), turned(data.splits["validation"]))
    swapped = Reward(objective.generator, codec, other, **SMALL)
    wrong = validate(swapped, "fp32", CPU)
    assert wrong["accuracy"] == pytest.approx(1 - after["accuracy"], abs=1e-6)
    assert wrong["margin"] == pytest.approx(-after["margin"], rel=1e-4)


@pytest.mark.parametrize("kind", ["ipo", "simpo", "orpo", "kto"])
def test_each_objective_comes_to_prefer_the_house_tone_on_new_customers(codec: TextCodec, kind: str) -> None:  # noqa: F811
    policy, frozen = model(codec, 1), model(codec, 1).eval()
    data = ratings(200, 60) if kind == "kto" else pairs(200, 60)
    objective: Any = KTO(policy, frozen, codec, data, **SMALL) if kind == "kto" else \
        ORPO(policy, codec, data, **SMALL) if kind == "orpo" else \
        DPO(policy, frozen, codec, data, settings=DPOSettings.model_validate({"loss": kind}), **SMALL)
    before = validate(objective, "fp32", CPU)
    train(objective, 20, 0.004)
    after = validate(objective, "fp32", CPU)
    assert after["loss"] < 0.7 * before["loss"]
    assert after["accuracy"] > 0.9


def test_what_cannot_teach_is_refused(codec: TextCodec) -> None:  # noqa: F811
    item = pairs(1, 1).splits["train"][0]
    tie = {**item, "rejected": item["chosen"]}
    with pytest.raises(DataError, match="all 3 train pairs are ties"):
        DPO(model(codec), None, codec, Memory([tie] * 3, [item]), **SIZES)
    with pytest.raises(DataError, match="the validation split holds no preference pair"):
        ORPO(model(codec), codec, Memory([item], []), **SIZES)
    one = Reward(judge(codec), codec, Memory([item, tie], [item]), **SIZES)  # a pair is enough, ties are left out
    assert one.count("train") == 1
    assert sum(len(batch["marks"]) for batch in one.batch(0)) == one.pairs
    thumbs = [{**each, "answer": each["rejected"], "desirable": False} for each in pairs(3, 1).splits["train"]]
    with pytest.raises(DataError, match="none of the 3 rated answers for training is desirable"):
        KTO(model(codec), None, codec, Memory(thumbs, thumbs), **SIZES)
    with pytest.raises(DataError, match="holds 1 rated answers that fit 192 tokens; two are needed"):
        KTO(model(codec), None, codec, Memory(thumbs[:1], thumbs), **SIZES)
    with pytest.raises(DataError, match="holds 3 rated answers, all to one prompt"):
        KTO(model(codec), None, codec, Memory([{**thumbs[0], "desirable": True}] * 3, thumbs), **SIZES)


def objective_of(kind: str, codec: TextCodec, tmp_path: Path) -> Any:  # noqa: F811
    if kind == "reward":
        return Reward(judge(codec), codec, pairs(40, 8), settings=RewardSettings(dropout=0.3), **SMALL)
    found: Any = KTO(model(codec, 1), None, codec, ratings(40, 8), **SMALL) if kind == "kto" else \
        DPO(model(codec, 1), None, codec, pairs(40, 8), **SMALL)
    reference.ahead(found, found.generator, tmp_path, kind)
    return found


@pytest.mark.parametrize("kind", ["reward", "dpo", "kto"])
def test_a_stopped_run_resumed_has_the_bits_of_a_whole_one(codec: TextCodec, kind: str, tmp_path: Path) -> None:  # noqa: F811
    stopped_equals_whole(lambda: objective_of(kind, codec, tmp_path), tmp_path)
