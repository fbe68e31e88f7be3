"""The verbs around feedback and decisions, as a person types them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bottega import cli
from bottega.workshop import improvements, registry
from bottega.workshop.store import Store
from tests.workshop.rated import choices

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `bottega …` in this process: each of these verbs takes less time than Python takes to start."""
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr("sys.argv", ["bottega", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return subprocess.CompletedProcess(arguments, int(end.value.code or 0), *capsys.readouterr())

    return command


def test_feedback_is_counted_and_exported(run: Run, own_workshop: Path, tmp_path: Path) -> None:
    store = Store.open(own_workshop)
    choices(store, 9, model="small-assistant", digest="d" * 64)
    store.close()
    counted = json.loads(run("feedback", "stats", "--json").stdout)
    assert (counted["all"]["choice"], counted["all"]["pairs"], counted["needed"]) == (9, 9, 8)
    assert "9 preference pairs" in run("feedback", "stats").stdout
    folder = tmp_path / "out"
    done = run("feedback", "export", "-o", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    lines = [(folder / name).read_text().splitlines() for name in ("preferences.jsonl", "held-out.jsonl")]
    assert [len(each) for each in lines] == [found["pairs"], found["held_out"]]
    again = run("feedback", "export", "-o", str(folder))
    assert again.returncode == 2
    assert "exists already" in again.stderr
    unknown = run("feedback", "export", "nobody", "--json")
    assert json.loads(unknown.stdout)["error"]["problem"] == "the model 'nobody' is not registered"


def test_too_little_feedback_is_told_in_one_message(run: Run) -> None:
    done = run("feedback", "export")
    assert done.returncode == 2
    assert "there are 0 preference pairs" in done.stderr
    assert "Traceback" not in done.stderr


def test_aliases_are_listed_and_moved(run: Run, studio: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTTEGA_HOME", str(studio[1]))
    assert run("alias", "mine").returncode == 2
    assert run("alias", "no/slashes", "tiny").returncode == 2
    done = run("alias", "mine", "tiny", "--reason", "a trial")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mine ")
    assert [row["model"] for row in json.loads(run("alias", "--json").stdout) if row["name"] == "mine"] == ["tiny"]
    store = Store.open(studio[1])
    assert registry.history(store, "mine")[0].detail["reason"] == "a trial"
    store.close()
    refused = run("improve", "mine")
    assert refused.returncode == 2
    assert "continues text" in refused.stderr


def test_decisions_find_the_one_that_waits(run: Run, own_workshop: Path) -> None:
    store = Store.open(own_workshop)
    made = improvements.create(store, alias="assistant", champion="a", champion_digest="a" * 64, challenger="b",
                               actor="ada")
    nothing = run("reject")
    assert nothing.returncode == 2
    assert "no improvement waits" in nothing.stderr
    improvements.update(store, made.id, actor="ada", status="waiting", challenger_digest="b" * 64)
    assert made.id in run("improve", "--list").stdout
    done = run("reject", "--reason", "too long", "--json")
    assert (json.loads(done.stdout)["status"], json.loads(done.stdout)["reason"]) == ("rejected", "too long")
    assert "is rejected" in run("approve", made.id).stderr
    assert run("improve").returncode == 2
    store.close()
