"""`bottega distil --best-of`: the best of a model's own answers, by a judge or by a check, become what it learns."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bottega.codecs.text import TextCodec
from bottega.core.bundle import Bundle
from bottega.core.request import Controls, Message, Request
from bottega.data.builtin import support_desk
from bottega.families.reward import RewardModel, rewards
from bottega.generation.engine import Engine
from bottega.training.run import make
from tests.cli.conftest import bottega
from tests.server.running import serving, wait_for
from tests.training.test_preference_training import home, judge, pairs, recipe  # noqa: F401

COUNT, DRAWS = 24, 6
REFUND = "format={pattern: efund}"


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    asked = [message for _, message in support_desk.cases("train", COUNT)]
    path.write_text("".join(json.dumps({"prompt": message}) + "\n" for message in asked))
    return path


def distil(home: Path, questions: Path, name: str, *options: str) -> dict[str, Any]:  # noqa: F811
    done = bottega("distil", str(questions), "--teacher", "desk", "--max-tokens", "24", "--temperature", "1", "-o",
                   f"{name}.jsonl", "--json", *options, home=home, cwd=questions.parent)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows(questions: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (questions.parent / f"{name}.jsonl").read_text().splitlines()]


def drawn(model: Path, questions: Path) -> list[list[str]]:
    engine = Engine.open(model)
    made = engine.generate_many([Request(
        messages=[Message(role="user", content=json.loads(line)["prompt"])],
        controls=Controls(seed=number, n=DRAWS, temperature=1, max_tokens=24))
        for number, line in enumerate(questions.read_text().splitlines())])
    return [[output.text for output in result.outputs] for result in made]


def test_a_judge_chooses(home: Path, judge: Bundle, questions: Path) -> None:  # noqa: F811
    found = distil(home, questions, "judged", "--best-of", str(DRAWS), "--reward", "model=judge")
    assert found["conversations"] + found["empty"] == COUNT
    assert found["reward_kept"] > found["reward_drawn"]
    kept = rows(questions, "judged")
    model, codec = RewardModel.load(judge.path), TextCodec.load(judge.path)
    for row, answers in zip(kept, drawn(home / "models" / "desk", questions), strict=True):
        earned = rewards(model, codec, [[row["messages"][0], {"role": "assistant", "content": answer}]
                                        for answer in answers])
        assert row["messages"][-1]["content"] == answers[earned.index(max(earned))]
        assert row["meta"]["reward"] == pytest.approx(max(earned), abs=1e-4)
    lineage = json.loads((questions.parent / "judged.lineage.json").read_text())
    assert [parent["name"] for parent in lineage["parents"]] == ["desk", "judge"]
    assert lineage["parameters"]["rewards"] == {"model": {"name": "judge"}}


def test_a_model_learns_from_the_best_of_its_own_answers(home: Path, questions: Path) -> None:  # noqa: F811
    found = distil(home, questions, "checked", "--best-of", str(DRAWS), "--reward", REFUND, "--at-least", "1")
    kept = rows(questions, "checked")
    assert len(kept) == found["conversations"] == COUNT - found["below"] - found["empty"]
    assert found["below"] > 0
    assert all("efund" in row["messages"][-1]["content"] for row in kept)
    assert found["drawn"] <= COUNT * DRAWS
    again = distil(home, questions, "again", "--best-of", str(DRAWS), "--reward", REFUND, "--at-least", "1")
    assert rows(questions, "again") == kept
    assert again["reward_drawn"] == found["reward_drawn"]
    make(recipe("learnt", {"kind": "sft"}, [str(questions.parent / "checked.jsonl")], 12, "desk",
                data={"validation": 0.1}, training={"learning_rate": 0.005, "learning_rate_rest": 0.005}),
         home=home, report=False)
    shares = [sum("efund" in answer for group in drawn(home / "models" / name, questions) for answer in group)
              / (COUNT * DRAWS) for name in ("desk", "learnt")]
    assert shares[0] == pytest.approx(found["reward_drawn"], abs=0.05)
    assert shares[1] > shares[0] + 0.3


def test_a_reward_compares_with_the_answer_that_stood_there(home: Path, tmp_path: Path) -> None:  # noqa: F811
    engine = Engine.open(home / "models" / "desk")
    path, asked = tmp_path / "known.jsonl", [message for _, message in support_desk.cases("train", 3)]
    outputs = engine.generate(Request(messages=[Message(role="user", content=asked[0])], controls=Controls(
        seed=0, n=8, temperature=1, max_tokens=80))).outputs
    said = [output.text for output in outputs if output.finish == "end"][-1]
    lines = [{"messages": [{"role": "user", "content": asked[0]}, {"role": "assistant", "content": said}]},
             {"prompt": asked[1], "reference": "nothing it says"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = bottega("distil", str(path), "--teacher", "desk", "--max-tokens", "80", "--temperature", "1", "-o",
                   "same.jsonl", "--best-of", "8", "--reward", "exact", "--at-least", "1", home=home, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 prompts without an answer that is good enough" in done.stdout
    row, = map(json.loads, (tmp_path / "same.jsonl").read_text().splitlines())
    assert row["messages"][-1]["content"] == said


def test_a_model_behind_an_address_is_judged_too(home: Path, questions: Path) -> None:  # noqa: F811
    with serving(home, "desk") as running:
        found = distil(home, questions, "served", "--best-of", "3", "--reward", REFUND, "--at-least", "1", "--url",
                       f"{running.url}/v1")
    assert found["conversations"] > 0
    assert found["drawn"] > 2 * COUNT
    assert all("efund" in row["messages"][-1]["content"] for row in rows(questions, "served"))


@pytest.mark.parametrize(("options", "said"), [
    (["--best-of", "4"], "nothing says which answer is best"),
    (["--at-least", "1"], "nothing says which answer is best"),
    (["--best-of", "4", "--reward", "anser"], "did you mean 'answer'"),
    (["--best-of", "4", "--reward", "model=desk"], "'desk' is no reward model"),
    (["--best-of", "4", "--reward", "model=nobody"], "unknown model 'nobody'"),
    (["--best-of", "4", "--reward", "model"], "name"),
    (["--best-of", "4", "--reward", "length={targt: 3}"], "did you mean 'target'"),
    (["--best-of", "4", "--reward", "length={"], "cannot be read"),
    (["--best-of", "4", "--reward", "format", "--temperature", "0"], "all 4 answers are the same"),
    (["--best-of", "4", "--reward", "length", "--url", "http://127.0.0.1:9/v1"], "does not tell the tokens"),
    (["--best-of", "99", "--reward", "format"], "--best-of"),
    (["--best-of", "2", "--reward", "format={pattern: zzz}", "--at-least", "1"], "no answer to 24 prompts earns 1"),
])
def test_what_cannot_be_done_is_named(home: Path, questions: Path, options: list[str], said: str) -> None:  # noqa: F811
    done = bottega("distil", str(questions), "--teacher", "desk", "--max-tokens", "8", "-o", "none.jsonl", *options,
                   home=home, cwd=questions.parent)
    assert done.returncode in (2, 3)  # the command line, or the data
    assert said in " ".join(done.stderr.split())
    assert not (questions.parent / "none.jsonl").exists()


def test_ctrl_c_keeps_what_was_answered(home: Path, questions: Path, tmp_path: Path) -> None:  # noqa: F811
    output, unfinished = tmp_path / "out.jsonl", tmp_path / "out.jsonl.unfinished"
    command = ["distil", str(questions), "--teacher", "desk", "-o", str(output), "--best-of", str(DRAWS), "--reward",
               REFUND, "--max-tokens", "80", "--temperature", "1"]
    process = subprocess.Popen([sys.executable, "-m", "bottega", *command], stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "BOTTEGA_HOME": str(home), "OMP_NUM_THREADS": "1"})
    wait_for(lambda: unfinished.is_file() and len(unfinished.read_bytes().splitlines()) > 1, 60)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    answered = len(unfinished.read_bytes().splitlines()) - 1
    assert 0 < answered < COUNT
    assert f"error: stopped by you: {answered} of {COUNT} prompts are answered and kept in {unfinished}" in told
    assert "with --resume to go on" in told
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.jsonl.unfinished"]
    # what is answered does not depend on the rewards: they may change
    done = bottega(*command, "--at-least", "9", "--resume", home=home, cwd=tmp_path)
    assert done.returncode == 3
    assert f"{answered} of {COUNT} prompts are answered already" in done.stderr
    assert "lower --at-least with --resume" in done.stderr
    done = bottega(*command, "--at-least", "1", "--resume", "--json", home=home, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not unfinished.exists()
    whole = tmp_path / "whole.jsonl"
    again = bottega(*command, "--at-least", "1", "-o", str(whole), "--json", home=home, cwd=tmp_path)
    assert whole.read_bytes() == output.read_bytes()
    elsewhere = {"output": str(output), "lineage": str(output.with_suffix(".lineage.json"))}
    assert json.loads(again.stdout) | elsewhere == json.loads(done.stdout)
