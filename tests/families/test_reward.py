"""Reward models: one number a conversation, the same in batches, in packed rows, from disk and in transformers."""

from pathlib import Path

import pytest
import torch

from bottega import families
from bottega.core.errors import ContextError, CorruptError, InputError
from bottega.core.files import read_json
from bottega.core.recipe import GeneratorSpec
from bottega.families.base import TokenGenerator
from bottega.families.reward import RewardModel, rewards

VOCAB, CONTEXT = 120, 48
SPECIAL = {"bos": 110, "eos": 111, "pad": 112, "end": 113}
KINDS = [{"family": "transformer"}, {"family": "transformer", "tied": False, "qk_norm": False},
         {"family": "recurrent", "cell": "mingru"}, {"family": "recurrent", "cell": "gru"}]


def layers(options: dict) -> TokenGenerator:
    torch.manual_seed(3)
    spec = GeneratorSpec.model_validate({"depth": 2, "width": 64, **options})
    model = families.build(spec, vocab_size=VOCAB, context=CONTEXT, special=SPECIAL)
    with torch.no_grad():  # at the start many output matrices are zero, which would hide a leak
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def judge(options: dict) -> RewardModel:
    model = RewardModel(layers(options)).eval()
    torch.nn.init.normal_(model.value.weight)
    return model


def rows(count: int = 9) -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [[*torch.randint(110, (3 + 4 * number,), generator=generator).tolist(), SPECIAL["end"]]
            for number in range(count)]


def alone(model: RewardModel, row: list[int]) -> float:
    """The head times the last hidden state, one conversation at a time."""
    with torch.no_grad():
        return float(model.backbone.hidden(torch.tensor([row]))[0, -1] @ model.value.weight[0])


@pytest.mark.parametrize("options", KINDS)
def test_batches_and_packed_rows_give_each_conversation_its_own_reward(options: dict) -> None:
    model, given = judge(options), rows()
    wanted = [alone(model, row) for row in given]
    assert len({round(value, 3) for value in wanted}) == len(given)
    assert model.score(given).tolist() == pytest.approx(wanted, abs=1e-4)
    shuffled = [given[number] for number in (4, 0, 8, 2)]
    assert model.score(shuffled).tolist() == pytest.approx([wanted[n] for n in (4, 0, 8, 2)], abs=1e-4)
    both = given[3] + given[5]
    batch = {"tokens": torch.tensor([both]), "ends": torch.tensor([len(given[3]) - 1, len(both) - 1]),
             "segments": torch.tensor([[1] * len(given[3]) + [2] * len(given[5])]),
             "positions": torch.tensor([[*range(len(given[3])), *range(len(given[5]))]])}
    with torch.no_grad():
        assert model(batch).tolist() == pytest.approx([wanted[3], wanted[5]], abs=1e-4)


def test_a_fresh_head_gives_no_answer_an_advantage() -> None:
    assert RewardModel(layers({})).score(rows()).tolist() == [0.0] * 9


@pytest.mark.parametrize("options", KINDS)
def test_the_folder_gives_the_same_rewards(options: dict, tmp_path: Path) -> None:
    model = judge(options)
    model.save(tmp_path)
    again = RewardModel.load(tmp_path)
    assert torch.equal(again.score(rows()), model.score(rows()))
    assert not again.training
    with pytest.raises(InputError, match="scores answers and writes none"):
        families.load(tmp_path)


@pytest.mark.parametrize("options", KINDS[:2])
def test_transformers_gives_the_same_rewards(options: dict, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model, given = judge(options), rows()
    model.save(tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert theirs.config.num_labels == 1
    longest = max(map(len, given))
    padded = torch.tensor([row + [SPECIAL["pad"]] * (longest - len(row)) for row in given])
    with torch.no_grad():
        found = theirs(padded, attention_mask=(padded != SPECIAL["pad"]).long()).logits
    assert found.shape == (9, 1)
    assert found[:, 0].tolist() == pytest.approx(model.score(given).tolist(), abs=1e-4)


def test_what_cannot_be_scored_is_refused(tmp_path: Path) -> None:
    model = judge({})
    with pytest.raises(ContextError, match="49 tokens does not fit the reward model's context of 48"):
        model.score([[1] * 49])
    with pytest.raises(InputError, match="without tokens"):
        model.score([[1], []])
    assert model.score([]).tolist() == []
    layers({}).save(tmp_path)
    with pytest.raises(InputError, match="is not a reward model"):
        RewardModel.load(tmp_path)
    model.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CorruptError):
        RewardModel.load(tmp_path)


def test_conversations_are_scored_through_the_codec() -> None:
    class Letters:
        def encode_chat(self, messages: list, add_generation_prompt: bool = False) -> list[int]:
            assert not add_generation_prompt
            return [ord(letter) % 100 for turn in messages for letter in turn["content"]] + [SPECIAL["end"]]

    model = judge({})
    talks = [[{"role": "user", "content": "hello"}, {"role": "assistant", "content": answer}] for answer in ("a", "b")]
    found = rewards(model, Letters(), talks)
    assert found == pytest.approx([alone(model, Letters().encode_chat(talk)) for talk in talks], abs=1e-4)


def test_config_names_the_head(tmp_path: Path) -> None:
    judge({}).save(tmp_path)
    config = read_json(tmp_path / "config.json")
    assert config["architectures"] == ["Qwen3ForSequenceClassification"]
    assert config["id2label"] == {"0": "reward"}
    assert not (tmp_path / "generation_config.json").exists()
