"""Fine-tuning on conversations: masks, packing, SFT and DPO, each against a slow reference or a hand computation."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from bottega import families
from bottega.codecs.text import TextCodec
from bottega.core.errors import DataError, RecipeError
from bottega.core.recipe import GeneratorSpec, ObjectiveSpec
from bottega.data.builtin import house_tone, support_desk
from bottega.families.base import IGNORED, TokenGenerator
from bottega.objectives import chat, settings
from bottega.objectives.dpo import DPO
from bottega.objectives.dpo import Settings as DPOSettings
from bottega.objectives.sft import SFT
from bottega.objectives.sft import Settings as SFTSettings
from bottega.training.loop import validate
from bottega.training.optim import Optimiser
from bottega.training.step import seed_step, take

CPU = torch.device("cpu")


class Memory:
    """A dataset held in memory: what the objectives need of one."""

    def __init__(self, train: list[dict[str, Any]], validation: list[dict[str, Any]]) -> None:
        self.splits = {"train": train, "validation": validation}

    def rows(self, split: str) -> Iterator[dict[str, Any]]:
        return iter(self.splits[split])


def support(train: int, validation: int, tone: support_desk.Tone = "curt") -> Memory:
    """Chats of the support desk in one tone."""
    def rows(split: Any, count: int) -> list[dict[str, Any]]:
        return [{"source": "support-desk", "messages": [{"role": "user", "content": message},
                                                        {"role": "assistant", "content": case.answer(tone)}]}
                for case, message in support_desk.cases(split, count)]
    return Memory(rows("train", train), rows("validation", validation))


@pytest.fixture(scope="module")
def codec() -> TextCodec:
    return TextCodec.train((f"{m} {c.answer('house')} {c.answer('curt')}"
                            for c, m in support_desk.cases("train", 400)), 600)


def model(codec: TextCodec, seed: int = 0, **options: Any) -> TokenGenerator:
    torch.manual_seed(seed)
    spec = GeneratorSpec(depth=2, width=96, head_dim=32, heads=3, kv_heads=3, intermediate=192, **options)
    special = {"bos": codec.bos, "eos": codec.eos, "pad": codec.pad}
    return families.build(spec, vocab_size=codec.vocab_size, context=192, special=special)


def conversations(count: int) -> list[list[dict[str, str]]]:
    rng = random.Random(3)
    words = ["kettle", "", "order 4821", "é ü 日本", "<|end|>", "two\nlines", "  spaces  ", "refund"]
    return [[{"role": rng.choice(["system", "user", "assistant", "tool"]), "content": " ".join(rng.choices(words, k=3))}
             for _ in range(rng.randrange(1, 6))] for _ in range(count)]


def test_masks_equal_a_slow_reference(codec: TextCodec) -> None:
    for messages in conversations(300):
        ids, wanted = [codec.bos], [IGNORED]
        for message in messages:
            content = codec.encode(message["content"])
            said = message["role"] == "assistant"
            ids += [codec.special[message["role"]], *content, codec.end_of_turn]
            wanted += [IGNORED, *(t if said else IGNORED for t in content), codec.end_of_turn if said else IGNORED]
        found = chat.row(codec, messages)
        assert found.tokens.tolist() == ids[:-1]
        assert found.targets.tolist() == wanted[1:]
        if messages[-1]["role"] == "assistant":
            last = chat.row(codec, messages, answer_only=True)
            assert last.weight == len(codec.encode(messages[-1]["content"])) + 1
            assert last.targets[-last.weight:].tolist() == found.targets[-last.weight:].tolist()


def test_packing_loses_nothing_and_fits(codec: TextCodec) -> None:
    rows = [chat.row(codec, m) for m in conversations(200)]
    bins = chat.pack(rows, 128)
    assert sorted(number for numbers in bins for number in numbers) == list(range(200))
    assert all(sum(rows[number].length for number in numbers) <= 128 for numbers in bins)
    assert chat.pack(rows, 128) == bins
    filled = sum(row.length for row in rows) / (128 * len(bins))
    assert filled > 0.9


@pytest.mark.parametrize("family", ["transformer", "recurrent"])
def test_packed_loss_equals_unpacked_loss(codec: TextCodec, family: str) -> None:
    data = support(40, 40)
    generator = model(codec) if family == "transformer" else families.build(
        GeneratorSpec(family="recurrent", depth=2, width=64), vocab_size=codec.vocab_size, context=192,
        special={"bos": codec.bos, "eos": codec.eos, "pad": codec.pad})
    with torch.no_grad():  # at the start many output matrices are zero, which would hide a leak
        for parameter in generator.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    losses = []
    for packed in (True, False):
        objective = SFT(generator, codec, data, context=192, batch_tokens=192, micro_batch=4, seed=0,
                        validation_tokens=10**6, settings=SFTSettings(pack=packed))
        losses.append(validate(objective, "fp32", CPU))
    assert losses[0]["loss"] == pytest.approx(losses[1]["loss"], rel=1e-5)
    assert losses[0]["token_accuracy"] == pytest.approx(losses[1]["token_accuracy"], abs=1e-6)


def test_nothing_usable_is_a_clear_error(codec: TextCodec) -> None:
    with pytest.raises(DataError, match="longer than the context of 16 tokens"):
        SFT(model(codec), codec, support(5, 5), context=16, batch_tokens=16, micro_batch=1, seed=0,
            validation_tokens=100)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(RecipeError, match="did you mean 'beta'"):
        settings(ObjectiveSpec.model_validate({"kind": "dpo", "betta": 1}))
    with pytest.raises(RecipeError, match="did you mean 'dpo'"):
        settings(ObjectiveSpec.model_validate({"kind": "dpoo"}))


def pairs(train: int, validation: int) -> Memory:
    """Pairs of the house tone over the curt one."""
    found: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
    counts = {"train": train, "validation": validation}
    for record in house_tone.records():
        split = str(record.split)
        if len(found[split]) < counts[split]:
            found[split].append({**record.payload(), "source": "house-tone"})
    return Memory(found["train"], found["validation"])


def naive_score(generator: TokenGenerator, codec: TextCodec, prompt: list[dict[str, str]], answer: str) -> float:
    """Sum of the answer's log-probabilities, one conversation at a time, from plain logits."""
    before = codec.encode_chat(prompt, add_generation_prompt=True)
    after = [*codec.encode(answer), codec.end_of_turn]
    logits = generator(torch.tensor([[*before, *after]]))[0].float().log_softmax(-1)
    places = range(len(before) - 1, len(before) + len(after) - 1)
    return sum(float(logits[place, token]) for place, token in zip(places, after, strict=True))


@pytest.mark.parametrize("normalised", [False, True])
def test_dpo_loss_equals_a_hand_computation(codec: TextCodec, normalised: bool) -> None:
    data, policy, reference = pairs(6, 2), model(codec, 1).eval(), model(codec, 2).eval()
    with torch.no_grad():
        for generator in (policy, reference):
            for parameter in generator.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.02)
    options = DPOSettings(beta=0.3, length_normalised=normalised, sft_weight=0.5)
    objective = DPO(policy, reference, codec, data, context=192, batch_tokens=100_000, micro_batch=100, seed=0,
                    validation_tokens=10**6, settings=options)
    batch = objective._batch("train", range(6))
    with torch.no_grad():
        found = objective.loss(batch)
        expected = 0.0
        for item in data.splits["train"]:
            sizes = {key: len(codec.encode(item[key])) + 1 for key in ("chosen", "rejected")}
            logs = {(name, key): naive_score(generator, codec, item["messages"], item[key])
                    for name, generator in (("policy", policy), ("reference", reference))
                    for key in ("chosen", "rejected")}
            gain = {key: (logs["policy", key] - logs["reference", key]) / (sizes[key] if normalised else 1)
                    for key in ("chosen", "rejected")}
            margin = torch.tensor(0.3 * (gain["chosen"] - gain["rejected"]))
            expected += float(-torch.nn.functional.logsigmoid(margin))
            expected -= 0.5 * logs["policy", "chosen"] / sizes["chosen"]
    assert float(found.weight) == 6
    assert float(found.total) == pytest.approx(expected, rel=1e-4)


def train(objective: Any, steps: int, rate: float) -> None:
    optimiser = Optimiser(objective.generator, objective.generator.players()["model"], kind="muon", learning_rate=rate,
                          learning_rate_rest=rate, weight_decay=0.0, dtype=torch.float32)
    objective.generator.train()
    for step in range(steps):
        seed_step(0, step)
        take(objective.loss, objective.batch(step), "model", optimiser, model=objective.generator, precision="fp32",
             clip=1.0, share=1.0, device=CPU)


def test_sft_then_dpo_learn_what_they_should(codec: TextCodec) -> None:
    """A real training: SFT lowers held-out loss by more than half, DPO then prefers the house tone on new customers."""
    data = support(600, 60)
    tuned = SFT(model(codec), codec, data, context=192, batch_tokens=1536, micro_batch=8, seed=0,
                validation_tokens=4096)
    before = validate(tuned, "fp32", CPU)
    train(tuned, 60, 0.02)
    after = validate(tuned, "fp32", CPU)
    assert after["loss"] < 0.5 * before["loss"]
    assert after["token_accuracy"] > before["token_accuracy"] + 0.3

    reference = model(codec)
    reference.load_state_dict(tuned.generator.state_dict())
    aligned = DPO(tuned.generator, reference.eval().requires_grad_(False), codec, pairs(200, 40), context=192,
                  batch_tokens=1536, micro_batch=8, seed=0, validation_tokens=8192)
    start = validate(aligned, "fp32", CPU)
    assert start["loss"] == pytest.approx(0.6931, abs=1e-3)  # log 2: the model is its own reference
    assert start["likelier"] < 0.1  # it has only seen the curt tone
    train(aligned, 25, 0.002)
    end = validate(aligned, "fp32", CPU)
    assert end["accuracy"] > 0.95
    assert end["loss"] < 0.35


def test_batches_are_a_function_of_the_step(codec: TextCodec) -> None:
    data = support(50, 10)
    one, two = (SFT(model(codec), codec, data, context=192, batch_tokens=768, micro_batch=2, seed=5,
                    validation_tokens=1000) for _ in range(2))
    for step in (7, 0, 33):
        for left, right in zip(one.batch(step), two.batch(step), strict=True):
            assert all(torch.equal(left[key], right[key]) for key in left)
