"""Adapters under every objective that starts from a model: they train, are saved, load, serve, and resume."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.test_adapter_training import _stop_after
from tests.training.test_preference_training import home, pairs  # noqa: F401
from tests.training.test_preference_training import recipe as plain

from bottega import families
from bottega.codecs.text import TextCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import InputError, Interrupted
from bottega.core.files import sha256_file
from bottega.core.recipe import Recipe
from bottega.core.request import Controls, Message, Request
from bottega.data.builtin import house_tone
from bottega.families.adapter_files import CHANGED, WEIGHTS
from bottega.families.bases import load_generator
from bottega.families.reward import RewardModel, rewards
from bottega.generation.engine import Engine
from bottega.training import loop, text_objectives
from bottega.training.adapter_bundles import merge_adapter
from bottega.training.metrics import read_history
from bottega.training.run import make

RATES = {"learning_rate": 0.01, "optimizer": "adamw"}
PRACTICE = {"rewards": {"format": {"pattern": "efund"}}, "check": None, "prompts": 8, "group": 4, "max_tokens": 6,
            "held_out": 8, "epochs": 1, "minibatches": 1}
CASES = {
    "dpo-ahead": ({"kind": "dpo", "reference": "ahead"}, 12),
    "dpo-beside": ({"kind": "dpo", "reference": "beside"}, 12),
    "orpo": ({"kind": "orpo"}, 12), "kto": ({"kind": "kto", "reference": "beside"}, 12),
    "distil": ({"kind": "distil", "teacher": "desk", "weight": 1.0}, 30),
    "grpo": ({"kind": "grpo", "beta": 0.01, **PRACTICE}, 12), "ppo": ({"kind": "ppo", "kl": 0.01, **PRACTICE}, 12),
    "ppo-shared": ({"kind": "ppo", "critic": "shared", "kl": 0.01, **PRACTICE}, 12)}


def recipe(name: str, objective: dict[str, Any], sources: list[str], steps: int, base: str, **adapter: Any) -> Recipe:
    rate = {"learning_rate": 0.003} if objective["kind"] == "distil" else {}
    return plain(name, objective, sources, steps, base, data={"validation": 0.2} if sources[0].startswith("/") else {},
                 training={**RATES, "validate_every": 0.5, **rate}, adapter={"rank": 4, **adapter})


@pytest.fixture(scope="module")
def thumbs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of ratings: thumbs up for the house tone."""
    path = tmp_path_factory.mktemp("thumbs") / "thumbs.jsonl"
    rows = [record.payload() for record, _ in zip(house_tone.records(), range(120), strict=False)]
    path.write_text("".join(json.dumps({"messages": row["messages"], "answer": row["chosen" if number % 2 else
                                        "rejected"], "desirable": bool(number % 2)}) + "\n"
                            for number, row in enumerate(rows)))
    return str(path)


def first_and_last(home: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: F811
    looks = [line["validation"] for line in read_history(home / "runs" / name) if line.get("validation")]
    return looks[0], looks[-1]


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_learns_by_every_objective(case: str, home: Path, pairs: str, thumbs: str) -> None:  # noqa: F811
    kind, steps = CASES[case]
    sources = {"dpo": [pairs], "orpo": [pairs], "kto": [thumbs]}.get(kind["kind"], ["support-desk"])
    base = "desk-lm" if case == "distil" else "desk"
    before = Bundle.open(home / "models" / base).digest
    bundle = make(recipe(f"lora-{case}", kind, sources, steps, base), home=home, report=False)
    first, last = first_and_last(home, bundle.name)
    assert last["loss"] < first["loss"]
    assert Bundle.open(home / "models" / base).digest == before
    assert (bundle.path / WEIGHTS).is_file()
    assert not (bundle.path / CHANGED).exists()
    assert not (bundle.path / "model.safetensors").exists()
    if kind["kind"] in ("dpo", "kto"):  # before the first step model and reference are the same
        assert abs(first["margin"]) < 1e-4
    steps_of = sorted((home / "runs" / bundle.name / "checkpoints").glob("step-*"))
    assert (steps_of[-1] / "model.safetensors").stat().st_size < 0.5 * (
        home / "models" / base / "model.safetensors").stat().st_size
    request = Request(messages=[Message(role="user", content="My kettle is broken.")],
                      controls=Controls(temperature=0, max_tokens=16))
    answer = Engine.open(bundle, "fp32").generate(request).outputs[0].text
    merged = merge_adapter(bundle, f"{bundle.name}-merged", home)
    assert Engine.open(merged, "fp32").generate(request).outputs[0].text == answer


def test_a_reference_beneath_a_rounded_base_is_that_rounded_base(home: Path, pairs: str) -> None:  # noqa: F811
    for name, how in (("packed-beside", "beside"), ("packed-ahead", "ahead")):
        kind = {"kind": "dpo", "reference": how}
        make(recipe(name, kind, [pairs], 4, "desk", quantise="nf4", kind="dora"), home=home, report=False)
        first, _ = first_and_last(home, name)
        assert first["loss"] == pytest.approx(0.693147, abs=1e-4)


def test_no_second_copy_of_the_weights(home: Path) -> None:  # noqa: F811
    made: dict[str, Any] = {}
    real = text_objectives.rewarded

    def spied(*arguments: Any) -> Any:
        made["objective"] = real(*arguments)
        return made["objective"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_objectives, "rewarded", spied)
        make(recipe("shared", {"kind": "ppo", "kl": 0.01, **PRACTICE}, ["support-desk"], 2, "desk"), home=home,
             report=False)
    objective = made["objective"]
    own = {tensor.data_ptr() for tensor in objective.generator.state_dict().values()}
    assert {tensor.data_ptr() for tensor in objective.reference.state_dict().values()} <= own
    new = sum(tensor.numel() for tensor in objective.critic.state_dict().values() if tensor.data_ptr() not in own)
    assert new < 0.3 * sum(part.numel() for part in objective.reference.parameters())
    assert all(name.startswith("critic.head") or "lora_" in name for name in objective.tensors()
               if name.startswith("critic."))


@pytest.fixture(scope="module")
def judge(home: Path, pairs: str) -> Bundle:  # noqa: F811
    return make(recipe("lora-judge", {"kind": "reward"}, [pairs], 20, "desk"), home=home)


def test_a_judge_that_is_an_adapter(home: Path, judge: Bundle) -> None:  # noqa: F811
    assert judge.meta["metrics"]["accuracy"] > 0.9
    assert (judge.path / CHANGED).stat().st_size < 4096  # the new head alone
    assert json.loads((home / "runs" / judge.name / "report.json").read_text())["accuracy"]["value"] > 0.9
    row = next(house_tone.records()).payload()
    talks = [[*row["messages"], {"role": "assistant", "content": row[key]}] for key in ("chosen", "rejected")]
    codec = TextCodec.load(judge.path)
    found = rewards(RewardModel.load(judge.path), codec, talks)
    assert found[0] > found[1]
    merged = merge_adapter(judge, "lora-judge-merged", home)
    assert rewards(RewardModel.load(merged.path), codec, talks) == pytest.approx(found, abs=1e-5)
    for opened in (Engine.open, load_writer):
        with pytest.raises(InputError, match="scores answers and writes none"):
            opened(judge.path)
    with pytest.raises(InputError, match="is not a reward model"):
        RewardModel.load(home / "models" / "desk")


def load_writer(path: Path) -> Any:
    return families.load(path)


def test_a_judge_learns_on_as_an_adapter_of_a_judge(home: Path, judge: Bundle, pairs: str) -> None:  # noqa: F811
    whole = merge_adapter(judge, "judge-base", home)
    further = make(recipe("judge-on-judge", {"kind": "reward"}, [pairs], 4, whole.name), home=home, report=False)
    first, last = first_and_last(home, further.name)
    assert first["accuracy"] > 0.9  # it began where the other had come to
    assert last["log_loss"] < first["log_loss"]
    assert isinstance(load_generator(further), RewardModel)


def test_practice_is_rewarded_by_a_judge_that_is_an_adapter(home: Path, judge: Bundle) -> None:  # noqa: F811
    kind = {"kind": "grpo", **PRACTICE, "rewards": {"model": {"name": judge.name}}}
    bundle = make(recipe("practised-lora", kind, ["support-desk"], 12, "desk"), home=home, report=False)
    earned = [line["metrics"]["reward"] for line in read_history(home / "runs" / bundle.name)
              if "reward" in line.get("metrics", {})]
    assert sum(earned[-3:]) > sum(earned[:3])
    assert judge.lineage.digest in [parent.digest for parent in bundle.lineage.parents]


@pytest.mark.parametrize("kind", ["reward", "ppo"])
def test_a_stopped_run_ends_with_the_same_adapter(kind: str, home: Path, pairs: str,  # noqa: F811
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"kind": kind, **({**PRACTICE, "minibatches": 2} if kind == "ppo" else {})}
    sources = [pairs] if kind == "reward" else ["support-desk"]
    whole = make(recipe(f"whole-{kind}", options, sources, 6, "desk"), home=home, report=False)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "take", _stop_after(5, loop.take))
        with pytest.raises(Interrupted):
            make(recipe(f"parts-{kind}", options, sources, 6, "desk"), home=home, report=False)
    parts = make(recipe(f"parts-{kind}", options, sources, 6, "desk"), home=home, report=False, resume=True)
    for file in (WEIGHTS, *((CHANGED,) if kind == "reward" else ())):
        assert sha256_file(whole.path / file) == sha256_file(parts.path / file)
    assert torch.isfinite(torch.tensor(list(parts.meta["metrics"].values()))).all()
