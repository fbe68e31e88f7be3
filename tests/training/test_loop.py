import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny
import torch

from bottega.core.errors import DivergedError, Interrupted, RecipeError
from bottega.core.recipe import Budget
from bottega.families.base import Batch, Loss
from bottega.training.loop import train
from bottega.training.metrics import read_history


def run_once(folder: Path, *, micro: int = 8, model: tiny.Tiny | None = None, resume: bool = False, **changes):
    generator = model or tiny.Tiny()
    result = train(tiny.Chain(generator, micro=micro), tiny.spec(**changes), run=folder, seed=3, resume=resume)
    return generator, result


def test_training_learns_and_logs_every_step(tmp_path: Path):
    _, result = run_once(tmp_path / "run", steps=200)
    history = read_history(tmp_path / "run")
    assert [line["step"] for line in history] == list(range(201))
    first, last = history[0]["validation"], history[-1]["validation"]
    assert last == result.metrics
    assert last["loss"] < 0.7 < 3 < first["loss"]
    assert last["accuracy"] > 0.85
    assert {"tokens", "seconds", "loss", "lr", "grad_norm", "tokens_per_s", "peak_share"} <= history[-1].keys()
    assert sum("validation" in line for line in history) == 5
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
    assert result.cost.cpu_seconds > 0


def test_same_seed_same_bytes(tmp_path: Path):
    one, _ = run_once(tmp_path / "a", steps=20)
    two, _ = run_once(tmp_path / "b", steps=20)
    assert tiny.digest(one) == tiny.digest(two)


def test_eight_micro_batches_of_one_equal_one_of_eight(tmp_path: Path):
    whole, _ = run_once(tmp_path / "whole", micro=8, model=tiny.Tiny(dropout=0.0), steps=10, optimizer="adamw")
    parts, _ = run_once(tmp_path / "parts", micro=1, model=tiny.Tiny(dropout=0.0), steps=10, optimizer="adamw")
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    losses = [[line["loss"] for line in read_history(tmp_path / name)[1:]] for name in ("whole", "parts")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_unequal_micro_batches_weigh_by_their_items(tmp_path: Path):
    """Rows 5 + 3 must give the gradient of 8 rows, which averaging the two means would not."""
    whole, _ = run_once(tmp_path / "whole", micro=8, model=tiny.Tiny(dropout=0.0), steps=5)
    parts, _ = run_once(tmp_path / "parts", micro=5, model=tiny.Tiny(dropout=0.0), steps=5)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_a_stopped_run_resumed_twice_has_the_trace_and_bits_of_a_whole_one(tmp_path: Path):
    whole, _ = run_once(tmp_path / "whole", steps=30)

    class Stops(tiny.Chain):
        at = 0

        def batch(self, step: int) -> list[Batch]:
            if step == self.at:
                os.kill(os.getpid(), signal.SIGINT)
            return super().batch(step)

    for at in (7, 19):
        stops = Stops(tiny.Tiny())
        stops.at = at
        with pytest.raises(Interrupted, match="--resume") as caught:
            train(stops, tiny.spec(30), run=tmp_path / "run", seed=3, resume=True)
        assert caught.value.exit_code == 130
        assert read_history(tmp_path / "run")[-1]["step"] == at + 1  # the step under way was finished
    resumed, result = run_once(tmp_path / "run", resume=True, steps=30)
    assert tiny.digest(resumed) == tiny.digest(whole)
    traces = [[line["loss"] for line in read_history(tmp_path / name) if "loss" in line] for name in ("whole", "run")]
    assert traces[0] == traces[1]
    again, second = run_once(tmp_path / "run", resume=True, steps=30)  # finished: returns at once
    assert tiny.digest(again) == tiny.digest(whole)
    assert (second.seconds, second.metrics) == (result.seconds, result.metrics)


def test_log_lines_after_the_resumed_step_are_cut(tmp_path: Path):
    run = tmp_path / "run"
    run_once(run, steps=10, checkpoint_every=4)
    for path in (run / "checkpoints").iterdir():
        if path.name == "step-00000010":
            (path / "model.safetensors").unlink()
    run_once(run, resume=True, steps=10, checkpoint_every=4)
    assert [line["step"] for line in read_history(run)] == list(range(11))


def test_resume_under_other_facts_says_what_changed(tmp_path: Path):
    run = tmp_path / "run"
    train(tiny.Chain(tiny.Tiny()), tiny.spec(3), run=run, seed=3, facts={"data": "aaa", "training.clip": 1.0})
    with pytest.raises(RecipeError, match=r"data was 'aaa', is 'bbb'"):
        train(tiny.Chain(tiny.Tiny()), tiny.spec(3), run=run, seed=3, resume=True,
              facts={"data": "bbb", "training.clip": 1.0})


def test_a_fresh_run_sets_the_earlier_one_aside(tmp_path: Path):
    run_once(tmp_path / "run", steps=3)
    run_once(tmp_path / "run", steps=3)
    assert (tmp_path / "run.previous" / "checkpoints").is_dir()


class Poisoned(tiny.Chain):
    """Its loss is not a number from step 6 on."""

    now = 0

    def batch(self, step: int) -> list[Batch]:
        self.now = step
        return super().batch(step)

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        loss = super().loss(batch, player)
        loss.total = loss.total * (math.nan if self.now >= 6 and self.generator.training else 1.0)
        return loss


def test_a_loss_that_is_not_a_number_stops_at_the_last_good_checkpoint(tmp_path: Path):
    generator = tiny.Tiny()
    with pytest.raises(DivergedError, match=r"step 7.*step-00000006[\s\S]*learning_rate") as caught:
        train(Poisoned(generator), tiny.spec(20, checkpoint_every=2, keep_checkpoints=2), run=tmp_path / "run", seed=3)
    assert caught.value.exit_code == 6
    assert all(torch.isfinite(p).all() for p in generator.parameters())


def test_a_loss_that_explodes_is_noticed(tmp_path: Path):
    with pytest.raises(DivergedError, match="diverged"):
        run_once(tmp_path / "run", steps=400, optimizer="adamw", learning_rate=50.0, clip=0.0, warmup=0.0)


def test_sigterm_from_outside_saves_and_exits_with_130(tmp_path: Path):
    code = ("import sys, tiny; from pathlib import Path\n"
            "from bottega.core.errors import Interrupted\n"
            "try: tiny.once(Path(sys.argv[1]), 100000, 50000, resume=False)\n"
            "except Interrupted as stop: print(stop); sys.exit(stop.exit_code)\n")
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], cwd=Path(tiny.__file__).parent,
                             stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
    log = tmp_path / "run" / "metrics.jsonl"
    while child.poll() is None and not (log.is_file() and log.read_bytes().count(b"\n") > 3):
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "--resume" in out
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_minutes_are_kept_and_carried_over(tmp_path: Path):
    budget = Budget(minutes=0.05)
    _, result = run_once(tmp_path / "run", budget=budget)
    assert result.steps > 3
    lines = read_history(tmp_path / "run")
    assert lines[-1]["lr"] < 0.2 * max(line.get("lr", 0) for line in lines)  # the schedule followed the clock down
    _, again = run_once(tmp_path / "run", resume=True, budget=budget)
    assert again.steps == result.steps


def test_training_off_the_main_thread_works(tmp_path: Path):
    worker = threading.Thread(target=run_once, args=(tmp_path / "run",), kwargs={"steps": 3})
    worker.start()
    worker.join()
    assert len(read_history(tmp_path / "run")) == 4


def test_timed_choices_leave_no_trace_and_are_remembered(tmp_path: Path):
    cache = tmp_path / "cache"

    def once(name: str):
        generator = tiny.Tiny()
        train(tiny.Chain(generator), tiny.spec(8, precision="auto", compile="auto"), run=tmp_path / name, seed=3,
              cache=cache)
        return generator, json.loads((tmp_path / name / "resolved.json").read_text())["choices"]

    timed, choices = once("timed")
    again, second = once("again")
    fixed, _ = run_once(tmp_path / "fixed", steps=8, precision=choices["precision"])
    assert "ms" in choices["reasons"]["precision"]
    assert choices["compiled"] is False  # eight steps never pay for a compiler
    assert second["precision"] == choices["precision"]
    assert tiny.digest(timed) == tiny.digest(again) == tiny.digest(fixed)


def test_samples_are_shown_and_change_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def sample(step: int) -> str:
        return f"drawn {torch.rand(1).item():.3f}"

    generator = tiny.Tiny()
    train(tiny.Chain(generator), tiny.spec(8), run=tmp_path / "a", seed=3, sample=sample)
    assert capsys.readouterr().err.count("drawn") == 3
    assert tiny.digest(generator) == tiny.digest(run_once(tmp_path / "b", steps=8)[0])


def test_without_a_compiler_training_goes_on_and_says_why(tmp_path: Path):
    """In a process of its own, because PyTorch remembers which compiler it found."""
    code = ("import sys, tiny; from pathlib import Path; from bottega.training.loop import train\n"
            "result = train(tiny.Chain(tiny.Tiny()), tiny.spec(3, compile='on'), run=Path(sys.argv[1]), seed=3)\n"
            "print(result.steps, result.choices['compiled'], result.choices['reasons']['compile'])\n")
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], cwd=Path(tiny.__file__).parent,
                           env={**os.environ, "CXX": "/nonexistent/c++", "PATH": ""}, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert child.stdout.startswith("3 False eager: the compiler failed")
