"""Preferences, ratings and teachers through the door of `bottega train`: recipes, bundles, pages, lineage, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bottega import families
from bottega.codecs.text import TextCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import InputError, RecipeError
from bottega.core.recipe import Recipe
from bottega.data.builtin import house_tone
from bottega.families.reward import RewardModel, rewards
from bottega.generation.engine import Engine
from bottega.training import reward_report
from bottega.training.run import make


def recipe(name: str, kind: dict[str, Any], sources: list[str], steps: int, base: str | None = None,
           **changes: Any) -> Recipe:
    training = {"budget": {"steps": steps}, "context": 192, "batch_tokens": 1536, "precision": "fp32", "compile": "off",
                "validation_tokens": 8192, "sample_every": 0, **changes.pop("training", {})}
    return Recipe.model_validate({
        "name": name, **({"base": base} if base else {}), "objective": kind, "codec": {"vocab_size": 600},
        "data": {"sources": sources, "near_duplicates": 0, **changes.pop("data", {})},
        "generator": {"depth": 2, "width": 96, "heads": 3, "head_dim": 32}, "training": training, **changes})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workshop with a model that answers as a curt support desk does."""
    folder = tmp_path_factory.mktemp("workshop")
    words = folder / "words.jsonl"
    rows = [record.payload() for record, _ in zip(house_tone.records(), range(600), strict=False)]
    words.write_text("".join(json.dumps({"text": f"{row['messages'][0]['content']} {row['chosen']} {row['rejected']}"})
                             + "\n" for row in rows))
    make(recipe("desk-lm", {"kind": "pretrain"}, [str(words)], 2), home=folder)
    make(recipe("desk", {"kind": "sft"}, ["support-desk"], 40, "desk-lm",
                training={"learning_rate": 0.02, "learning_rate_rest": 0.02}), home=folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of pairs of the house tone over the curt one."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [record.payload() for record, _ in zip(house_tone.records(), range(240), strict=False)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def judge(home: Path, pairs: str) -> Bundle:
    return make(recipe("judge", {"kind": "reward"}, [pairs], 16, "desk", data={"validation": 0.2},
                       training={"learning_rate": 0.005, "learning_rate_rest": 0.005}), home=home)


def test_a_reward_model_is_a_bundle_with_a_page(home: Path, judge: Bundle) -> None:
    assert (judge.meta["family"], judge.meta["objective"]) == ("reward", "reward")
    assert judge.meta["metrics"]["accuracy"] > 0.9
    assert [parent.kind for parent in judge.lineage.parents] == ["dataset", "model"]
    run = home / "runs" / "judge"
    page = json.loads((run / "report.json").read_text())
    assert page["accuracy"]["value"] > 0.9
    assert page["accuracy"]["n"] > 20
    assert "take the longer answer" in (run / "report.html").read_text()
    again = reward_report.judged(judge, home)
    assert again.accuracy == page["accuracy"]
    other = reward_report.judged(judge, home, ["grounded-answers"])  # another kind of pairs, all of them held out
    assert other.accuracy["n"] > 1000
    model, codec = RewardModel.load(judge.path), TextCodec.load(judge.path)
    row = next(house_tone.records()).payload()
    one, two = rewards(model, codec, [[*row["messages"], {"role": "assistant", "content": row[key]}]
                                      for key in ("chosen", "rejected")])
    assert one > two


def test_a_judge_writes_nothing_and_is_no_base_of_a_writer(home: Path, judge: Bundle, pairs: str) -> None:
    with pytest.raises(InputError, match="scores answers and writes none"):
        Engine.open(judge.path)
    with pytest.raises(RecipeError, match="is a reward model: it cannot learn to write"):
        make(recipe("no", {"kind": "dpo"}, [pairs], 2, "judge"), home=home)
    further = make(recipe("judge-further", {"kind": "reward"}, [pairs], 2, "judge", data={"validation": 0.2}),
                   home=home)  # but of another judge
    assert further.meta["metrics"]["accuracy"] > 0.9


def test_a_transformers_model_gives_the_bundle_s_rewards(judge: Bundle) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    row = next(house_tone.records()).payload()
    talk = [*row["messages"], {"role": "assistant", "content": row["chosen"]}]
    tokenizer = AutoTokenizer.from_pretrained(judge.path)
    theirs = AutoModelForSequenceClassification.from_pretrained(judge.path).eval()
    ids = tokenizer.apply_chat_template(talk, return_tensors="pt", return_dict=True)["input_ids"]
    with torch.no_grad():
        found = float(theirs(ids).logits[0, 0])
    assert found == pytest.approx(rewards(RewardModel.load(judge.path), TextCodec.load(judge.path), [talk])[0],
                                  abs=1e-4)


@pytest.mark.parametrize(("kind", "most"), [
    ({"kind": "dpo", "loss": "ipo"}, 0.93), ({"kind": "dpo", "loss": "simpo"}, 0.8),
    ({"kind": "dpo", "reference": "beside"}, 0.8), ({"kind": "orpo"}, 0.9)])
def test_preferences_train_a_writer(home: Path, pairs: str, kind: dict[str, Any], most: float) -> None:
    name = "-".join(map(str, kind.values()))
    bundle = make(recipe(name, kind, [pairs], 12, "desk", data={"validation": 0.2},
                         training={"learning_rate": 0.004, "learning_rate_rest": 0.004}), home=home)
    first = json.loads((home / "runs" / name / "metrics.jsonl").read_text().splitlines()[0])["validation"]
    assert bundle.meta["metrics"]["loss"] < most * first["loss"]
    assert Engine.open(bundle.path).answers


def test_thumbs_train_a_writer(home: Path, tmp_path: Path) -> None:
    rows = []
    for number, record in zip(range(240), house_tone.records(), strict=False):
        row = record.payload()
        rows.append({"messages": row["messages"], "answer": row["chosen" if number % 3 == 0 else "rejected"],
                     "desirable": number % 3 == 0})
    path = tmp_path / "thumbs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bundle = make(recipe("thumbs", {"kind": "kto", "reference": "ahead"}, [str(path)], 12, "desk",
                         data={"validation": 0.2},
                         training={"learning_rate": 0.004, "learning_rate_rest": 0.004}), home=home)
    assert bundle.meta["metrics"]["accuracy"] > 0.8
    assert bundle.meta["metrics"]["margin"] > 0
    assert list((home / "cache" / "references").iterdir())


def test_a_new_student_takes_its_teachers_words_and_names_it(home: Path) -> None:
    bundle = make(recipe("student", {"kind": "distil", "teacher": "desk", "weight": 0.8}, ["support-desk"], 20,
                         generator={"depth": 1, "width": 64, "heads": 2, "head_dim": 32},
                         training={"learning_rate": 0.02, "learning_rate_rest": 0.02}), home=home)
    assert TextCodec.load(bundle.path).digest == TextCodec.load(home / "models" / "desk").digest
    assert [parent.name for parent in bundle.lineage.parents if parent.kind == "model"] == ["desk"]
    small, large = (sum(p.numel() for p in families.load(path).parameters())
                    for path in (bundle.path, home / "models" / "desk"))
    assert small < 0.6 * large
    first = json.loads((home / "runs" / "student" / "metrics.jsonl").read_text().splitlines()[0])["validation"]
    assert bundle.meta["metrics"]["divergence"] < 0.6 * first["divergence"]


def test_a_teacher_that_cannot_teach_is_refused(home: Path, judge: Bundle) -> None:
    with pytest.raises(RecipeError, match="teacher"):
        make(recipe("no", {"kind": "distil"}, ["support-desk"], 2), home=home)
    with pytest.raises(InputError, match="unknown model 'nobody'"):
        make(recipe("no", {"kind": "distil", "teacher": "nobody"}, ["support-desk"], 2), home=home)
    with pytest.raises(InputError, match="writes no text"):
        make(recipe("no", {"kind": "distil", "teacher": "judge"}, ["support-desk"], 2), home=home)
    other = recipe("other-lm", {"kind": "pretrain"}, ["python-docs"], 1, data={"limit": 80}, codec={"vocab_size": 500})
    make(other, home=home)
    with pytest.raises(RecipeError, match="another vocabulary than the student"):
        make(recipe("no", {"kind": "distil", "teacher": "desk"}, ["support-desk"], 2, "other-lm"), home=home)


@pytest.mark.parametrize(("kind", "more"), [("grpo", {}), ("ppo", {"epochs": 1, "minibatches": 1, "kl": 0.0})])
def test_practice_is_rewarded_by_a_judge(home: Path, judge: Bundle, kind: str, more: dict[str, Any]) -> None:
    """A real training: drawn answers earn at least one more of the judge's points in the last five rounds."""
    objective = {"kind": kind, "rewards": {"model": {"name": "judge"}}, "check": None, "prompts": 16, "group": 4,
                 "max_tokens": 40, "held_out": 8, **more}
    bundle = make(recipe(f"practised-{kind}", objective, ["support-desk"], 30, "desk", training={
        "optimizer": "adamw", "learning_rate": 0.001, "validate_every": 1.0}), home=home)
    lines = (home / "runs" / bundle.name / "metrics.jsonl").read_text().splitlines()
    earned = [line["metrics"]["reward"] for line in map(json.loads, lines) if "reward" in line.get("metrics", {})]
    assert len(earned) == 30
    assert sum(earned[-5:]) / 5 > sum(earned[:5]) / 5 + 1
    assert judge.lineage.digest in [parent.digest for parent in bundle.lineage.parents]


@pytest.mark.parametrize(("name", "said"), [("desk", "'desk' is no reward model"),
                                            ("nobody", "unknown model 'nobody'")])
def test_a_judge_that_is_none_is_refused(home: Path, name: str, said: str) -> None:
    objective = {"kind": "grpo", "rewards": {"model": {"name": name}}, "check": None}
    with pytest.raises(InputError, match=said):
        make(recipe("refused", objective, ["support-desk"], 2, "desk"), home=home)
