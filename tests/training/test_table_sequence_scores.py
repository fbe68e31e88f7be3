"""How probable sequences are to a model: all of them together have probability 1, and what does not follow is seen."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.cli.conftest import bottega
from tests.table_visits import joined, visits

from bottega import tables
from bottega.core.errors import ControlError, DataError
from bottega.core.files import write_atomic

_QUICK: dict[str, Any] = {"training": {"budget": {"steps": 8}, "validate_every": 0.5, "sample_every": 0.5},
                          "generator": {"width": 32, "depth": 1}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scores")


@pytest.fixture(scope="module")
def coins(home: Path) -> tables.TableModel:
    """One or two throws of an entity, the second mostly as the first."""
    draw, rows = np.random.default_rng(0), []
    for number in range(400):
        side = "HT"[int(draw.random() < 0.3)]
        rows.append((f"{number:04}", side))
        if draw.random() < 0.6:
            rows.append((f"{number:04}", side if draw.random() < 0.9 else "TH"["HT".index(side)]))
    table = pa.table(dict(zip(("who", "side"), map(list, zip(*rows, strict=True)), strict=True)))
    return tables.fit(table, entity="who", name="coins", home=home, **_QUICK)


@pytest.fixture(scope="module")
def clinic(home: Path) -> tables.TableModel:
    return tables.fit(joined(*visits(400)), entity="patient_id", order="admit", name="clinic", home=home, **_QUICK)


def test_all_sequences_together_have_probability_one(coins: tables.TableModel) -> None:
    every = [*itertools.product("HT", repeat=1), *itertools.product("HT", repeat=2)]
    who = [f"{number:04}" for number, sides in enumerate(every) for _ in sides]
    found = coins.log_prob(pa.table({"who": who, "side": [side for sides in every for side in sides]}))
    total = dict.fromkeys(who, 0.0)
    for key, nats in zip(who, found, strict=True):
        total[key] += float(nats)
    chances = dict(zip(map("".join, every), np.exp(list(total.values())), strict=True))
    assert sum(chances.values()) == pytest.approx(1, abs=1e-4)
    assert chances["H"] + chances["T"] == pytest.approx(0.4, abs=0.08)
    assert chances["HH"] > 2 * chances["HT"]
    assert chances["TT"] > 2 * chances["TH"]


def test_a_prediction_is_the_probability_of_the_row(coins: tables.TableModel) -> None:
    rows = pa.table({"who": ["a", "b", "a", "b"], "side": ["H", "T", "T", "T"]})
    chances, levels = coins.predict(rows, "side")
    assert chances.sum(1) == pytest.approx(1, abs=1e-5)
    nats = coins.log_prob(rows)
    for row in (2, 3):  # second rows hold nothing else
        side = levels.index(rows["side"][row].as_py())
        assert np.log(chances[row, side]) == pytest.approx(nats[row], abs=1e-4)
    assert chances[3, levels.index("T")] > 0.7 > 0.3 > chances[2, levels.index("T")]


def test_rows_may_come_in_any_order_and_shuffled_values_are_less_probable(clinic: tables.TableModel) -> None:
    table = joined(*visits(200, seed=5))
    found = clinic.log_prob(table)
    order = np.random.default_rng(0).permutation(len(table))
    assert clinic.log_prob(table.take(pa.array(order))) == pytest.approx(found[order])
    who = np.array(table["patient_id"].to_pylist())
    by_who = np.argsort(who, kind="stable")
    mixed = np.empty_like(by_who)
    mixed[by_who] = np.lexsort((np.random.default_rng(1).random(len(who)), who))
    place = table.column_names.index("hb")
    shuffled = table.set_column(place, "hb", table["hb"].take(pa.array(mixed)))
    mixed_up, can_be = clinic.log_prob(shuffled), np.isfinite(found)  # a few are beyond all that was seen
    assert can_be.mean() > 0.98
    assert mixed_up[np.isfinite(mixed_up)].mean() < found[can_be].mean() - 0.1
    day = np.array(table["admit"].to_pylist(), "datetime64[D]")
    key = next(key for key in who if (who == key).sum() > 4)
    row = int(np.flatnonzero(who == key)[np.argsort(day[who == key])[2]])  # a jump, and back again
    values = np.array(table["hb"].to_pylist())
    values[row] += 4.0
    jumped = clinic.log_prob(table.set_column(place, "hb", pa.array(values)))
    assert jumped[row] < found[row] - 1
    assert (np.abs(jumped - found) > 1e-6).sum() <= 2 + len(clinic.engine.codec.layout.memory)  # type: ignore[union-attr]


def test_two_tables_are_scored_as_they_are_made(home: Path) -> None:
    draw = np.random.default_rng(0)
    thrown = np.flatnonzero(draw.random(400) < 0.6)
    people = pa.table({"who": [f"{number:04}" for number in range(400)], "kind": [*draw.choice(["x", "y"], 400)]})
    throws = pa.table({"who": people["who"].take(pa.array(thrown)), "side": [*draw.choice(["H", "T"], len(thrown))]})
    model = tables.fit(people, child=throws, entity="who", name="both", home=home, **_QUICK)
    every = list(itertools.product("xy", (None, "H", "T")))
    found = model.log_prob(pa.table({
        "who": [str(number) for number in range(6)], "kind": [kind for kind, _ in every],
        "rows of who": [int(side is not None) for _, side in every], "side": [side for _, side in every]}))
    chances = np.exp(found)
    assert chances[[0, 3]].sum() == pytest.approx(0.4, abs=0.08)
    assert 0.9 < chances.sum() <= 1.0001  # what is left: a row of which nothing is known
    assert np.isfinite(model.log_prob(model.sample(50))).all()


def test_what_cannot_be_judged_is_said(clinic: tables.TableModel) -> None:
    table = joined(*visits(30))
    with pytest.raises(ControlError, match="'severity' is the same in all rows of a 'patient_id'"):
        clinic.predict(table, "severity")
    with pytest.raises(ControlError, match="'hb' is not learned as levels"):
        clinic.predict(table, "hb")
    chances, levels = clinic.predict(table, "drug")
    assert chances.shape == (len(table), 2)
    assert sorted(levels) == ["A", "B"]
    for name in ("patient_id", "admit"):
        place = table.column_names.index(name)
        gone = pa.concat_arrays([pa.nulls(1, table[name].type), table[name].combine_chunks()[1:]])
        with pytest.raises(DataError, match=f"'{name}' is missing in row 1"):
            clinic.log_prob(table.set_column(place, name, gone))


def test_the_command_line_shows_the_least_probable_rows(clinic: tables.TableModel, home: Path) -> None:
    table = joined(*visits(40, seed=6))
    write_atomic(home / "new.parquet", tables.parquet_of(clinic.read(table)))
    done = bottega("table", "score", "new.parquet", "-m", "clinic", "-n", "3", "--json", home=home, cwd=home)
    assert done.returncode == 0, done.stderr
    least = np.argsort(clinic.log_prob(table))[:3]
    assert [row["row"] - 1 for row in json.loads(done.stdout)["rows"]] == least.tolist()


def test_sequences_that_cannot_be_are_told(clinic: tables.TableModel, coins: tables.TableModel) -> None:
    assert not any(clinic.impossible(joined(*visits(400))))
    assert not any(clinic.impossible(clinic.sample(60, seed=3)))
    odd = pa.table({"who": ["a", "a", "b"], "side": ["H", "edge", "T"]})
    assert coins.impossible(odd) == ["", "level 'edge' of 'side' was never seen", ""]
    assert np.isfinite(coins.log_prob(odd)).tolist() == [True, False, True]
