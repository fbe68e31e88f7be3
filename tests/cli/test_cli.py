"""The command line as a person uses it, on a real tiny model, in a second process."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.cli.conftest import Run


def test_help_teaches(run: Run) -> None:
    top = run("--help")
    assert top.returncode == 0
    for verb in ("demo", "data", "train", "estimate", "generate", "chat", "explain", "evaluate", "models", "lineage"):
        assert verb in top.stdout
        assert run(verb, "--help").returncode == 0


def test_import_and_help_load_nothing_heavy() -> None:
    code = ("import sys; import bottega, bottega.cli; "
            "print([m for m in ('torch', 'numpy', 'pydantic', 'pyarrow', 'transformers') if m in sys.modules])")
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_generate_streams_and_repeats(run: Run) -> None:
    options = ("generate", "The cat", "--model", "tiny", "--max-tokens", "12", "--seed", "5")
    first, second = run(*options), run(*options)
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    record = json.loads(run(*options, "--json").stdout)
    assert record["result"]["outputs"][0]["text"] + "\n" == first.stdout
    assert record["result"]["seed"] == 5


def test_kept_result_is_reproduced(run: Run, studio: tuple[Path, Path]) -> None:
    options = ("--model", "tiny", "--n", "2", "--max-tokens", "8", "--save", "kept.json")
    assert run("generate", "Line", *options).returncode == 0
    done = run("reproduce", "kept.json")
    assert done.returncode == 0
    assert "same bytes" in done.stdout
    record = json.loads((studio[0] / "kept.json").read_text())
    record["result"]["outputs"][0]["text"] += "!"
    (studio[0] / "kept.json").write_text(json.dumps(record))
    assert run("reproduce", "kept.json").returncode == 1


def test_explain_shows_probabilities(run: Run) -> None:
    options = ("explain", "The cat", "--model", "tiny", "--max-tokens", "4", "--temperature", "0.7", "--seed", "1")
    assert run(*options).returncode == 0
    data = json.loads(run(*options, "--json").stdout)
    step = data["outputs"][0]["steps"][0]
    assert 0 < step["probability"] <= 1
    assert len(step["alternatives"]) == 5


def test_models_lineage_and_data(run: Run) -> None:
    rows = json.loads(run("models", "--json").stdout)
    assert {row["name"]: row["sound"] for row in rows}["tiny"] is True
    chain = json.loads(run("lineage", "tiny", "--json").stdout)
    assert [record["kind"] for record in chain] == ["model", "dataset"]
    assert {licence["spdx"] for licence in chain[0]["licences"]} == {"unknown"}
    assert run("data", "inspect", "tiny.yaml", "-n", "2").returncode == 0


def test_unchanged_recipe_is_reused(run: Run) -> None:
    # By its name: other files of tests leave models of theirs in the same workshop.
    before = {row["name"]: row["digest"] for row in json.loads(run("models", "--json").stdout)}["tiny"]
    again = run("train", "tiny.yaml", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["digest"] == before


def test_estimate_before_anything_runs(run: Run) -> None:
    guess = json.loads(run("estimate", "tiny.yaml", "--json").stdout)
    assert guess["parameters"] > 1000
    assert run("estimate", "tiny.yaml", "depth=3").returncode == 0


def test_a_model_that_continues_is_not_a_chat(run: Run) -> None:
    done = run("chat", "--model", "tiny")
    assert done.returncode == 2
    assert "not tuned to answer" in done.stderr


def test_ctrl_c_saves_and_resume_goes_on(studio: tuple[Path, Path], tmp_path: Path) -> None:
    import os

    environment = {**os.environ, "BOTTEGA_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "bottega", "train", "tiny.yaml", "training.budget.steps=100000", "name=long"]
    process = subprocess.Popen(command, cwd=studio[0], env=environment, text=True, stderr=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    runs = tmp_path / "home" / "runs"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(runs.rglob("metrics.jsonl")):
        time.sleep(0.2)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "--resume" in errors
    assert list(runs.rglob("step-*"))


def test_new_controls_are_taken_without_training_again(run: Run, studio: tuple[Path, Path]) -> None:
    weights = studio[1] / "models" / "tiny" / "model.safetensors"
    before = weights.read_bytes()
    done = run("train", "tiny.yaml", "controls.temperature=0.5", "controls.n=2")
    assert done.returncode == 0, done.stderr
    assert "its weights are kept" in done.stderr
    assert weights.read_bytes() == before
    shown = run("generate", "The cat", "--model", "tiny", "--max-tokens", "3").stdout
    assert shown.count("mean log-probability") == 2  # two outputs, one after the other
    assert run("train", "tiny.yaml").returncode == 0
    assert {row["name"]: row["sound"] for row in json.loads(run("models", "--json").stdout)}["tiny"] is True
