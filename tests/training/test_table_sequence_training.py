"""Visits of patients, in one table and in two: what is made follows the dynamics that the data was made with."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from tests.cli.conftest import bottega
from tests.table_visits import LEVELS, joined, seen, visits

from bottega import tables
from bottega.codecs.table import FILE, TableCodec
from bottega.core.errors import ControlError, InputError
from bottega.data.tables import prepare
from bottega.evaluation.table_report import lines
from bottega.evaluation.table_sequences import by_column
from bottega.generation.tables import TableEngine
from bottega.server.tables import schema_facts

_QUICK: dict[str, Any] = {"training": {"budget": {"steps": 8}, "validate_every": 0.5, "sample_every": 0.5},
                          "generator": {"width": 32, "depth": 1}}
_RULES = ["admit <= discharge", "age >= 18", "5 <= hb <= 20", "unique (patient_id, admit)"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("visits")


@pytest.fixture(scope="module")
def real() -> pa.Table:
    return joined(*visits(500))


@pytest.fixture(scope="module")
def model(home: Path, real: pa.Table) -> tables.TableModel:
    return tables.fit(real, entity="patient_id", order="admit", rules=_RULES, name="visits", home=home, **_QUICK)


@pytest.fixture(scope="module")
def made(model: tables.TableModel) -> pa.Table:
    found: pa.Table = model.sample(1500, seed=1).data
    return found


@pytest.fixture(scope="module")
def linked(home: Path) -> tables.TableModel:
    patients, rows = visits(400, least=0)
    csv.write_csv(patients, home / "patients.csv")
    pq.write_table(rows, home / "rows.parquet")
    return tables.fit(home / "patients.csv", child=home / "rows.parquet", entity="patient_id", order="admit",
                      rules=["admit <= discharge"], name="linked", home=home, **_QUICK)


def test_what_leads_from_row_to_row_is_kept(real: pa.Table, made: pa.Table) -> None:
    truth, found = seen(real), seen(made)
    assert len(found.sizes) == 1500
    assert abs(found.sizes.mean() - truth.sizes.mean()) < 0.25
    assert abs(found.sizes.std() - truth.sizes.std()) < 0.5
    assert abs(found.follow - truth.follow) < 0.1
    assert found.mean["low"] < found.mean["mid"] < found.mean["high"]
    for level in LEVELS:
        assert abs(found.mean[level] - truth.mean[level]) < 0.3 * truth.mean[level]
        assert abs(found.waits[level] - truth.waits[level]) < 0.2 * truth.waits[level]
        assert abs((found.levels == level).mean() - (truth.levels == level).mean()) < 0.06


def test_entities_are_whole_new_and_in_order(real: pa.Table, made: pa.Table) -> None:
    assert made.column_names == real.column_names
    assert made.schema.field("admit").type == pa.date32()
    keys = made["patient_id"].to_pylist()
    assert not set(keys) & set(real["patient_id"].to_pylist())
    assert len(set(keys)) == 1 + sum(left != right for left, right in itertools.pairwise(keys))
    days = np.array(made["admit"].to_pylist(), "datetime64[D]")
    same = np.array(keys[1:]) == np.array(keys[:-1])
    assert (np.diff(days)[same] > np.timedelta64(0)).all()
    for name in ("age", "severity"):
        values = np.array(made[name].to_pylist())
        assert (values[1:] == values[:-1])[same].all()
        assert made[name].null_count == 0


def test_the_rules_hold(made: pa.Table) -> None:
    left, right = (np.array(made[name].to_pylist(), "datetime64[D]") for name in ("admit", "discharge"))
    assert (left <= right).all()
    values = np.array(made["hb"].to_pylist())
    assert values.min() >= 5
    assert values.max() <= 20


def test_a_seed_makes_the_same_rows_again(model: tables.TableModel, made: pa.Table) -> None:
    again = tables.TableModel(model.bundle).sample(1500, seed=1).data
    assert again.equals(made)
    assert not model.sample(20, seed=2).data.equals(model.sample(20, seed=3).data)


def test_conditions_are_about_entities(model: tables.TableModel) -> None:
    found = model.sample(60, conditions=["severity = high", "age > 60", "rows of patient_id >= 4"]).data
    assert set(found["severity"].to_pylist()) == {"high"}
    assert min(found["age"].to_pylist()) > 60
    keys, sizes = np.unique(found["patient_id"].to_pylist(), return_counts=True)
    assert len(keys) == 60
    assert sizes.min() >= 4
    started = model.sample(20, conditions=["first admit >= 2020-06-01"]).data
    assert min(started["admit"].to_pylist()).isoformat() >= "2020-06-01"
    half = model.sample(100, balance={"severity": {"high": 0.5, "low": 0.5}}).data
    firsts = dict(zip(half["patient_id"].to_pylist(), half["severity"].to_pylist(), strict=True))
    assert sorted(firsts.values()) == ["high"] * 50 + ["low"] * 50
    with pytest.raises(ControlError, match="'hb' varies from row to row of a 'patient_id'"):
        model.sample(5, conditions=["hb > 12"])
    with pytest.raises(ControlError, match="no column 'heigth'"):
        model.sample(5, conditions=["heigth > 12"])


def test_what_a_model_of_sequences_cannot_do_is_refused(model: tables.TableModel, real: pa.Table) -> None:
    with pytest.raises(InputError, match="depends on the rows after it"):
        model.impute(real)
    with pytest.raises(InputError, match="is a model of one table"):
        model.sample_linked(5)


def test_steps_are_judged_with_their_rows(model: tables.TableModel, home: Path, monkeypatch: pytest.MonkeyPatch
                                          ) -> None:
    from bottega.training.table_report import judged

    found = judged(model.bundle, home, quick=True)
    assert "previous hb" in found.made.schema.names
    assert sum(score.group == "sequences" for score in found.scores.scores) == 4
    follow = by_column(found.scores.sequences)["hb"]["change to the next row"]
    assert min(follow.made, follow.fresh) > follow.shuffled + 0.03
    assert len(found.real) == len(found.made)
    page = found.save(home / "page.html").read_text()
    assert "Shuffled in entities" in page
    assert "From row to row" in page
    told = json.loads((home / "page.json").read_text())
    assert [one["name"] for one in told["sequences"][:4]] == list(by_column(found.scores.sequences))
    text = "\n".join(lines(found.scores))
    assert text.index("shuffled in entities") < text.index("change from first to last")


def test_two_tables_are_made_that_fit_each_other(linked: tables.TableModel, home: Path) -> None:
    patients, rows = visits(400, least=0)
    people, found = (table.data for table in linked.sample_linked(800, seed=3))
    assert people.column_names == patients.column_names
    assert found.column_names == rows.column_names
    keys = people["patient_id"].to_pylist()
    assert len(set(keys)) == len(keys) == 800
    assert not set(keys) & set(patients["patient_id"].to_pylist())
    assert set(found["patient_id"].to_pylist()) < set(keys)
    assert all(found[name].null_count == 0 for name in found.column_names)
    none, truth = (1 - len(set(part["patient_id"].to_pylist())) / count
                   for part, count in ((found, 800), (rows, 400)))
    assert abs(none - truth) < 0.07
    assert abs(len(found) / 800 - len(rows) / 400) < 0.4
    assert abs(seen(joined(people, found)).follow - seen(joined(patients, rows)).follow) < 0.12
    assert np.all(np.array(found["discharge"].to_pylist()) >= np.array(found["admit"].to_pylist()))


def test_two_tables_are_written_and_made_again(linked: tables.TableModel, home: Path) -> None:
    done = bottega("generate", "linked", "--rows", "40", "--seed", "5", "-o", "made", home=home, cwd=home)
    assert done.returncode == 0, done.stderr
    people, rows = csv.read_csv(home / "made" / "patients.csv"), pq.read_table(home / "made" / "rows.parquet")
    assert len(people) == 40
    assert set(rows["patient_id"].to_pylist()) <= set(people["patient_id"].to_pylist())
    done = bottega("reproduce", "made/rows.parquet", home=home, cwd=home)
    assert "same rows" in done.stdout, done.stderr


@pytest.mark.parametrize("order", ["", "turn"])
def test_entities_with_one_row_each_are_made(home: Path, order: str) -> None:
    table = pa.table({"who": [f"Ж{n:03}" for n in range(60)], "turn": [n % 3 for n in range(60)],
                      "colour": ["rot", "grün"] * 30})
    model = tables.fit(table, entity="who", order=order, name="single", home=home, **_QUICK)
    made = model.sample(300).data
    assert len(set(made["who"].to_pylist())) == len(made) == 300
    assert set(made["who"].to_pylist()).isdisjoint(table["who"].to_pylist())
    assert set(made["colour"].to_pylist()) == {"rot", "grün"}
    assert set(made["turn"].to_pylist()) == {0, 1, 2}


def _of_two(entities: int, seed: int) -> pa.Table:
    """Return rows that follow from the second row before, and a level that all rows of an entity are around."""
    draw, rows = np.random.default_rng(seed), []
    for number in range(entities):
        values, moods, level = [*draw.normal(size=2)], [*draw.integers(0, 3, 2)], draw.normal()
        for turn in range(3 + draw.poisson(4)):
            values.append(0.8 * values[-2] + 0.6 * draw.normal())
            moods.append(moods[-2] if draw.random() < 0.8 else draw.integers(0, 3))
            rows.append((f"{number:05}", turn, round(float(values[-1]), 2), "abc"[moods[-1]],
                         round(float(level + draw.normal()), 2)))
    names = ("who", "turn", "value", "mood", "level")
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def _two_back(table: pa.Table) -> tuple[float, float, float]:
    """Return the correlation of `value` with the second row before, how often `mood` is what it was there, and the
    correlation of `level` with the third row before."""
    who, value, mood, level = (np.array(table[name].to_pylist()) for name in ("who", "value", "mood", "level"))
    same, later = who[2:] == who[:-2], who[3:] == who[:-3]
    return (float(np.corrcoef(value[2:][same], value[:-2][same])[0, 1]), float((mood[2:] == mood[:-2])[same].mean()),
            float(np.corrcoef(level[3:][later], level[:-3][later])[0, 1]))


def test_what_follows_from_more_than_the_row_before_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = _of_two(300, 0)
    model = tables.fit(real, entity="who", order="turn", name="two", home=tmp_path / "two", **_QUICK)
    assert model.engine.codec.layout is not None
    assert model.engine.codec.layout.memory == {
        "value": ["second previous"], "mood": ["second previous"], "level": ["second previous", "mean previous"]}
    made = model.sample(600, seed=1).data
    assert made.equals(tables.TableModel(model.bundle).sample(600, seed=1).data)
    monkeypatch.setattr(prepare, "remembering", lambda layout, train: layout)  # what it was like with one row
    short = tables.fit(real, entity="who", order="turn", name="one", home=tmp_path / "one", **_QUICK)
    for truth, found, before in zip(_two_back(real), _two_back(made), _two_back(short.sample(600, seed=1).data),
                                    strict=True):
        assert abs(found - truth) < 0.12
        assert abs(before - truth) > 0.25


def test_a_model_from_before_there_was_memory_is_read(model: tables.TableModel, tmp_path: Path) -> None:
    codec = model.engine.codec
    codec.save(tmp_path)
    saved = json.loads((tmp_path / FILE).read_text())
    assert saved["layout"].pop("memory") == {}  # a value that follows from the row before asks for none
    (tmp_path / FILE).write_text(json.dumps(saved))
    old = TableCodec.load(tmp_path)
    assert old == codec
    engine = TableEngine(model.engine.model, old, controls=model.engine.controls, model_digest="", lineage={})
    assert engine.sample(50, seed=1).data.equals(model.sample(50, seed=1).data)


def test_a_child_needs_a_key(home: Path) -> None:
    patients, rows = visits(30)
    with pytest.raises(InputError, match="no column links it"):
        tables.fit(patients, child=rows, home=home)


def test_a_rule_across_draws_is_kept_by_drawing_again(home: Path) -> None:
    real = joined(*visits(150))
    last = real.group_by("patient_id").aggregate([("admit", "max")])
    table = real.join(last, "patient_id").rename_columns(
        [{"admit_max": "seen_until"}.get(name, name) for name in [*real.column_names, "admit_max"]])
    model = tables.fit(table, entity="patient_id", order="admit", rules=["admit <= seen_until"], name="until",
                       home=home, **_QUICK)
    made = model.sample(100, conditions=["rows of patient_id >= 3"]).data
    assert len(set(made["patient_id"].to_pylist())) == 100
    assert all(left <= right for left, right in zip(made["admit"].to_pylist(), made["seen_until"].to_pylist(),
                                                    strict=True))


def test_what_can_be_asked_is_told(model: tables.TableModel) -> None:
    told = schema_facts(model.engine.codec)
    assert {column["name"] for column in told["columns"]} == {"age", "severity", "first admit", "rows of patient_id"}
    assert told["rules"] == _RULES
