"""The verbs around feedback, decisions, settings and the audit, as a person types them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

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


def test_settings_are_listed_and_changed_together(run: Run, own_workshop: Path) -> None:
    assert json.loads(run("settings", "--json").stdout) == {"retention_days": -1, "guard": {}}
    done = run("settings", "retention_days=30", 'guard={"actions": {"email": "redact"}}')
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["retention_days   30", 'guard            {"actions": {"email": "redact"}}']
    assert "next start" in done.stderr
    for wrong, said in (("retention_days", "names no value"), ("retention_days=soon", "retention_days"),
                        ("retention_day=1", "did you mean 'retention_days'"), ('guard={"max_message": 1}', "guard")):
        refused = run("settings", "retention_days=7", wrong)
        assert refused.returncode == 2
        assert said in refused.stderr
    assert json.loads(run("settings", "--json").stdout)["retention_days"] == 30
    other = f"sqlite:///{own_workshop / 'other.db'}"
    assert json.loads(run("settings", "--database", other, "--json").stdout)["retention_days"] == -1


def test_the_audit_is_listed_and_verified(run: Run, own_workshop: Path) -> None:
    for days in (3, 2, 1):
        run("settings", f"retention_days={days}")
    run("settings", 'guard={"max_messages": 5}')
    rows = json.loads(run("audit", "--subject", "retention_days", "--limit", "2", "--json").stdout)
    assert [(row["sequence"], row["detail"]) for row in rows] == [(3, {"before": 2, "after": 1}),
                                                                 (2, {"before": 3, "after": 2})]
    assert json.loads(run("audit", "--action", "alias", "--json").stdout) == []
    listed = run("audit", "--action", "setting").stdout.splitlines()
    assert len(listed) == 4
    assert '"max_messages": 5' in listed[0]
    assert json.loads(run("audit", "--verify", "--json").stdout) == {"events": 4}
    assert "4 events" in run("audit", "--verify").stdout
    store = Store.open(own_workshop)
    with store.write() as session:
        session.execute(text("UPDATE audit SET actor = 'nobody' WHERE sequence = 2"))
    store.close()
    broken = run("audit", "--verify")
    assert broken.returncode != 0
    assert "event 2 of the audit does not match" in broken.stderr


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


def test_judgements_made_elsewhere_are_imported_and_counted(run: Run, tmp_path: Path) -> None:
    rows = [{"instruction": f"Task {number}?", "input": "", "response1": f"one answer {number}",
             "response2": f"two {number}", "annotator1": 1, "annotator2": 1 + number % 2} for number in range(24)]
    file = tmp_path / "panda.json"
    file.write_text(json.dumps(rows))
    done = run("feedback", "import", str(file), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["training"] + found["held_out"], found["disagreements"], found["form"]) == (48, 12, "pandalm")
    assert len((Path(found["path"]) / "preferences.jsonl").read_text().splitlines()) == found["training"]
    for source in (str(file), found["path"]):
        counted = json.loads(run("feedback", "stats", source, "--json").stdout)
        assert counted["agreement"]["alpha"]["n"] == 24
    shown = run("feedback", "stats", found["path"])
    assert "annotator1 and annotator2: Cohen's kappa 0.000" in shown.stdout
    assert "data.sources=[" in run("feedback", "import", str(file), "--votes", "majority").stdout
    wrong = run("feedback", "import", str(file), "--votes", "ech")
    assert wrong.returncode == 2
    assert "did you mean 'each'" in wrong.stderr


def test_thumbs_and_each_choice_are_exported(run: Run, own_workshop: Path, tmp_path: Path) -> None:
    from bottega.workshop import feedback, works
    from bottega.workshop.feedback import Feedback
    from tests.workshop.conftest import make_work

    store = Store.open(own_workshop)
    for number in range(12):
        works.record(store, make_work(f"bt-{number}", prompt=f"Question {number}?"))
        for rater in ("ada", "bob", "cyd"):
            feedback.add(store, Feedback(kind="choice", output=f"bt-{number}.{number % 2}",
                                         rejected=f"bt-{number}.{1 - number % 2}"), rater)
            feedback.add(store, Feedback(kind="thumb", output=f"bt-{number}.0", value=1, consent=rater != "cyd"), rater)
        feedback.add(store, Feedback(kind="score", output=f"bt-{number}.1", score=2, scale=(1, 5)), "ada")
    store.close()
    thumbs = json.loads(run("feedback", "export", "--what", "thumbs", "--json").stdout)
    lines = [json.loads(line) for name in ("ratings.jsonl", "held-out.jsonl")
             for line in (Path(thumbs["path"]) / name).read_text().splitlines()]
    assert len(lines) == 36  # ada's and bob's thumbs, ada's scores below the middle; cyd did not consent
    assert sum(line["desirable"] for line in lines) == 24
    assert {"ada", "bob"}.isdisjoint(line["rater"] for line in lines)
    choices = json.loads(run("feedback", "export", "--what", "choices", "--split", "raters", "--json").stdout)
    sides = [{json.loads(line)["rater"] for line in (Path(choices["path"]) / name).read_text().splitlines()}
             for name in ("preferences.jsonl", "held-out.jsonl")]
    assert (len(sides[0] | sides[1]), len(sides[0] & sides[1])) == (3, 0)
    counted = json.loads(run("feedback", "stats", "--json").stdout)
    assert counted["raters"]["agreement"]["same"]["value"] == 1.0
    refused = run("feedback", "export", "--split", "raters")
    assert refused.returncode == 2
    assert "--what choices" in refused.stderr
