"""From a file to a model of its rows and back to a file, by the commands that people use."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from tests.cli.conftest import bottega

from bottega import tables
from bottega.core.bundle import Bundle
from bottega.core.errors import InputError, Interrupted
from bottega.core.recipe import Recipe
from bottega.evaluation.table_verdict import last_verdict
from bottega.training import loop
from bottega.training.run import make


def _csv(path: Path, count: int = 400) -> Path:
    draw = np.random.default_rng(0)
    age = draw.integers(18, 90, count)
    ill = draw.random(count) < age / 120
    days = draw.poisson(2 + 5 * ill)
    path.write_text("patient,age,ill,in_day,out_day,marker\n" + "".join(
        f"P{n:04},{age[n]},{'yes' if ill[n] else 'no'},{n % 50},{n % 50 + days[n]},"
        f"{'' if n % 9 == 0 else round(float(draw.normal(4 + ill[n], 1)), 1)}\n" for n in range(count)))
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def model(home: Path) -> tables.TableModel:
    return tables.fit(_csv(home / "patients.csv"), rules=["in_day <= out_day"], home=home, report=True, training={
        "budget": {"steps": 40}, "validate_every": 0.25, "sample_every": 0.5}, generator={"width": 32})


def _bottega(home: Path, *said: str) -> subprocess.CompletedProcess[str]:
    return bottega(*said, home=home, cwd=home)


def test_a_file_becomes_a_model_with_a_page(model: tables.TableModel, home: Path) -> None:
    meta = model.bundle.meta
    assert (meta["family"], meta["codec"], meta["objective"]) == ("tabular", "table", "tables")
    assert meta["metrics"]["best"] <= meta["metrics"]["nats"]
    page = (home / "runs" / "patients" / "report.html").read_text()
    for part in ("in_day &lt;= out_day", "told apart", "closer to training", "<h2>Attacks", "<h2>Columns"):
        assert part in page, part
    found = json.loads((home / "runs" / "patients" / "report.json").read_text())
    assert found["broken"][0]["made"] == 0
    assert "row" in (model.bundle.path / "README.md").read_text()
    verdict = last_verdict(home, model.bundle.digest)
    assert verdict is not None
    assert (verdict.model, verdict.quick, verdict.reasons) == ("patients", True, found["refused"])
    assert (verdict.rows, verdict.held_out) == (found["counts"]["synthetic"], found["counts"]["holdout"])


def test_another_description_leaves_the_verdict(home: Path) -> None:
    def made(description: str) -> Bundle:
        return make(Recipe.model_validate({
            "name": "described", "description": description, "codec": {"kind": "table"},
            "data": {"sources": [str(_csv(home / "patients.csv"))], "validation": 0.1},
            "generator": {"family": "tabular", "depth": 1, "width": 32}, "objective": {"kind": "tables"},
            "training": {"budget": {"steps": 4}, "batch": 64, "precision": "fp32", "compile": "off",
                         "sample_every": 0}}), home=home)

    one, other = made("one"), made("other")
    before, after = last_verdict(home, one.digest), last_verdict(home, other.digest)
    assert one.digest != other.digest
    assert before is not None
    assert after == before.about("described", other.digest)


def test_rows_come_out_by_command_and_again(model: tables.TableModel, home: Path) -> None:
    out = home / "out.parquet"
    made = _bottega(home, "generate", "patients", "--rows", "300", "--where", "age > 60", "--where", "ill = yes",
                    "--seed", "5", "-o", str(out))
    assert made.returncode == 0, made.stderr
    table = pq.read_table(out)
    assert table.num_rows == 300
    assert min(table["age"].to_pylist()) > 60
    assert set(table["ill"].to_pylist()) == {"yes"}
    assert all(low <= high for low, high in zip(table["in_day"].to_pylist(), table["out_day"].to_pylist(), strict=True))
    again = _bottega(home, "reproduce", str(out))
    assert again.stdout.strip() == "same rows", again.stderr
    same = model.sample(300, seed=5, conditions=["age > 60", "ill = yes"])
    assert same.data.equals(table.replace_schema_metadata(None))
    text = _bottega(home, "generate", "patients", "--rows", "20", "-o", str(home / "o.csv"), "--json")
    assert json.loads(text.stdout)["rows"] == 20
    assert csv.read_csv(home / "o.csv").num_rows == 20


@pytest.mark.parametrize(("said", "match"), [
    (("--where", "age > 900"), "no such record can exist"), (("--where", "agee > 9"), "did you mean 'age'"),
    (("--rows", "0"), "rows"), (("-o", "x.xlsx"), "no ending of a table"), (("--steps", "3"), "does not understand")])
def test_what_cannot_be_made_is_refused_by_command(model: tables.TableModel, home: Path, said: tuple[str, ...],
                                                   match: str) -> None:
    found = _bottega(home, "generate", "patients", *said)
    assert found.returncode == 2
    assert match in found.stderr
    assert "Traceback" not in found.stderr


def test_gaps_are_filled_and_odd_rows_found_by_command(model: tables.TableModel, home: Path) -> None:
    filled = _bottega(home, "table", "impute", "patients.csv", "-m", "patients", "-o", "filled.csv")
    assert filled.returncode == 0, filled.stderr
    assert csv.read_csv(home / "filled.csv")["marker"].null_count == 0
    (home / "odd.csv").write_text((home / "patients.csv").read_text().splitlines()[0] + "\nP1,20,no,3,5,4.0\n"
                                  "P2,88,no,3,45,9.9\nP3,30,no,3,4,4.1\n")
    scored = json.loads(_bottega(home, "table", "score", "odd.csv", "-m", "patients", "--json").stdout)
    assert scored["rows"][0]["row"] == 2
    (home / "wrong.csv").write_text((home / "odd.csv").read_text().replace("P1,20,", "P1,3000,"))
    text = _bottega(home, "table", "score", "wrong.csv", "-m", "patients", "--json").stdout
    first = json.loads(text, parse_constant=pytest.fail)["rows"][0]  # no Infinity
    assert (first["row"], first["log_prob"]) == (1, None)
    assert first["reason"].startswith("age = 3000 is above ")
    assert "row      1  age = 3000 is above" in _bottega(home, "table", "score", "wrong.csv", "-m", "patients").stdout


def test_a_stopped_training_goes_on_with_the_same_bits(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def recipe(name: str) -> Recipe:
        plain = {"name": name, "data": {"sources": [str(_csv(home / "patients.csv"))], "validation": 0.2},
                 "codec": {"kind": "table"}, "generator": {"family": "tabular", "depth": 1, "width": 32},
                 "objective": {"kind": "tables"},
                 "training": {"budget": {"steps": 24}, "batch": 64, "optimizer": "adamw", "learning_rate": 0.002,
                              "precision": "fp32", "compile": "off", "checkpoint_every": 6, "validate_every": 0.25,
                              "sample_every": 0}}
        return Recipe.model_validate(plain)

    whole = make(recipe("whole"), home=home)
    save, count = loop.checkpoint.save, [0]

    def stopping(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        count[0] += 1
        if count[0] == 2:
            raise Interrupted("stopped")

    monkeypatch.setattr(loop.checkpoint, "save", stopping)
    with pytest.raises(Interrupted):
        make(recipe("parts"), home=home)
    monkeypatch.setattr(loop.checkpoint, "save", save)
    parts = make(recipe("parts"), home=home, resume=True)
    assert (parts.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()


def test_frames_and_wrong_columns(model: tables.TableModel, home: Path) -> None:
    import pyarrow as pa

    rows = model.sample(10)
    assert model.log_prob(rows.data).shape == (10,)
    chances, levels = model.predict(rows, "ill")
    assert chances.shape == (10, len(levels))
    with pytest.raises(InputError, match="a list is no table"):
        tables.fit([1, 2], home=home)
    with pytest.raises(Exception, match="no column 'patient'"):
        model.read(pa.table({"age": [1]}))
    assert Bundle.open(model.bundle.path).digest == model.bundle.digest


def test_rows_under_differential_privacy_by_command(home: Path) -> None:
    _csv(home / "patients.csv")
    domain = {"age": [0, 120, 1], "ill": ["yes", "no"], "in_day": [0, 60, 1], "out_day": [0, 100, 1],
              "marker": [0, 10, 0.1]}
    (home / "domain.json").write_text(json.dumps(domain))
    asked = ("table", "private", "patients.csv", "--domain", "domain.json", "--epsilon", "5", "-o", "safe.parquet")
    made = _bottega(home, *asked, "--json")
    assert made.returncode == 0, made.stderr
    said, rows = json.loads(made.stdout), pq.read_table(home / "safe.parquet")
    assert said["epsilon_spent"] <= 5 * (1 + 1e-6)
    assert 300 < rows.num_rows == said["rows"] < 500
    assert "patient" not in rows.column_names
    assert set(rows["ill"].to_pylist()) <= {"yes", "no", None}
    assert 0 <= min(rows["age"].drop_null().to_pylist()) <= max(rows["age"].drop_null().to_pylist()) <= 120
    del domain["marker"]
    (home / "domain.json").write_text(json.dumps(domain))
    refused = _bottega(home, *asked)
    assert refused.returncode == 2
    assert "marker" in refused.stderr
