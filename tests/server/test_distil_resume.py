"""`bottega distil --resume`: a run that was killed goes on and ends as one that was not; a real server answers."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bottega.core.files import sha256_file
from tests.cli.conftest import bottega
from tests.server.running import Running, wait_for
from tests.workshops import SmallWorkshop

COUNT = 60


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"My kettle {number} arrived broken."}) + "\n"
                            for number in range(COUNT)))
    return path


def answered(unfinished: Path) -> int:
    return unfinished.read_bytes().count(b"\n") - 1 if unfinished.is_file() else 0


def stopped(command: list[str], home: Path, folder: Path, number: int, when: Callable[[], bool]) -> tuple[int, str]:
    """Run a command, send it a signal as soon as something is true, and return its exit code and what it said."""
    environment = {**os.environ, "BOTTEGA_HOME": str(home), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    process = subprocess.Popen([sys.executable, "-m", "bottega", *command], env=environment, cwd=folder, text=True,
                               stderr=subprocess.PIPE)
    wait_for(when, 60)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    return process.returncode, said


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(server: Running, small_workshop: SmallWorkshop, asked: Path,
                                                           tmp_path: Path) -> None:
    home, output, unfinished = tmp_path / "empty", tmp_path / "parts.jsonl", tmp_path / "parts.jsonl.unfinished"
    ours, other = small_workshop.assistant, small_workshop.lm
    common = ["distil", str(asked), "--url", f"{server.url}/v1", "--teacher", ours,
              "--max-tokens", "40", "--seed",
              "5"]
    command = [*common, "-o", "parts.jsonl"]

    def requests() -> float:
        return server.figure("bottega_requests_total", route="/v1/chat/completions")

    code, _ = stopped(command, home, tmp_path, signal.SIGKILL, lambda: answered(unfinished) >= 5)
    assert code == -signal.SIGKILL
    first = answered(unfinished)
    assert 5 <= first < COUNT
    assert not output.exists()
    torn = unfinished.read_bytes()[:-9]
    unfinished.write_bytes(torn)

    again = bottega(*command, home=home, cwd=tmp_path)
    assert again.returncode == 2
    assert f"parts.jsonl.unfinished holds {first - 1} finished parts" in again.stderr
    assert "add --resume" in again.stderr
    changed = bottega(*command, "--seed", "6", "--teacher", other, "--temperature", "0.5", "--resume", home=home,
                      cwd=tmp_path)
    assert changed.returncode == 2
    assert (f"this is not the run that was stopped: seed was 5, is 6; teacher was '{ours}', is '{other}'; temperature "
            "was 0.7, is 0.5") in changed.stderr
    assert unfinished.read_bytes() == torn

    code, said = stopped([*command, "--resume"], home, tmp_path, signal.SIGINT,
                         lambda: answered(unfinished) >= first + 5)
    second = answered(unfinished)
    assert code == 130
    assert first + 5 <= second < COUNT
    assert f"stopped by you: {second} of {COUNT} prompts are answered and kept in parts.jsonl.unfinished" in said
    assert "Traceback" not in said

    wait_for(lambda: server.figure("bottega_outputs_running") == 0, 60)
    before = requests()
    done = bottega(*command, "--resume", home=home, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert requests() - before == COUNT - second
    assert not unfinished.exists()
    whole = bottega(*common, "-o", "whole.jsonl", home=home, cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    lineages = [json.loads((tmp_path / f"{name}.lineage.json").read_text()) for name in ("parts", "whole")]
    assert lineages[0]["content"] == lineages[1]["content"] == sha256_file(output)
    assert lineages[0]["parameters"] == lineages[1]["parameters"]
    assert lineages[0]["cost"]["seconds"] > 0

    before = requests()
    rerun = bottega(*command, home=home, cwd=tmp_path)
    assert rerun.returncode == 0, rerun.stderr
    assert f"parts.jsonl is finished already, with {COUNT} conversations: nothing was asked" in rerun.stdout
    rerun = bottega(*command, "--seed", "6", home=home, cwd=tmp_path)
    assert rerun.returncode == 2
    assert "parts.jsonl exists already, and was made otherwise: seed was 5, is 6" in rerun.stderr
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    output.write_text("a person's own words\n")
    rerun = bottega(*command, "--resume", home=home, cwd=tmp_path)
    assert rerun.returncode == 2
    assert "and was changed since it was made" in rerun.stderr
    assert output.read_text() == "a person's own words\n"
    assert requests() == before
