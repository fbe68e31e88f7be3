"""Gaps are filled so that every rule is kept that what is given can keep; what cannot be is told."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest

from bottega.core.table import Table
from bottega.data.tables.infer import infer
from bottega.generation.tables import TableEngine
from tests.generation.test_table_possible import changed, shop
from tests.generation.test_tables import engine_of, hospital

_RULES = ["low <= high", "town -> land", "total == a + 2 * b", "0 <= b < 12"]


@pytest.fixture(scope="module")
def engine() -> TableEngine:
    return engine_of(shop(), _RULES)


def without(table: Table, *names: str, share: float = 1.0) -> Table:
    """Return rows with gaps in some columns."""
    data, draw = table.data, np.random.default_rng(0)
    for name in names:
        cells = [None if draw.random() < share else cell for cell in data[name].to_pylist()]
        data = data.set_column(data.schema.get_field_index(name), name, pa.array(cells, data.schema.field(name).type))
    return Table(table.schema, data)


def kept(given: Table, filled: Table) -> bool:
    """Return whether what was given is as it was."""
    return all(one is None or one == other for name in given.schema.names
               for one, other in zip(given.data[name].to_pylist(), filled.data[name].to_pylist(), strict=True))


@pytest.mark.parametrize("gone", [("low",), ("high",), ("low", "high"), ("a",), ("b",), ("total",), ("a", "b"),
                                  ("b", "total"), ("town",), ("land",), ("town", "land"),
                                  ("low", "town", "a", "colour")])
def test_every_rule_holds_whatever_is_missing(engine: TableEngine, gone: tuple[str, ...]) -> None:
    given = without(shop(), *gone)
    found = engine.impute(given, seed=1)
    assert found.notes == []
    assert not any(engine.impossible(found.table))
    assert all(found.table.data[name].null_count == 0 for name in found.table.schema.names)
    assert kept(given, found.table)
    assert engine.impute(given, seed=1).table.data.equals(found.table.data)


def test_gaps_of_all_kinds_together(engine: TableEngine) -> None:
    given = without(shop(), "low", "high", "town", "land", "a", "b", "total", "made", "colour", share=0.3)
    found = engine.impute(given)
    assert found.notes == []
    assert not any(engine.impossible(found.table))
    assert kept(given, found.table)


def test_the_smaller_side_follows_from_the_larger_one(engine: TableEngine) -> None:
    """`low` is even from 0 to 49 and `high` at most 29 above: of what is below `high` only the nearest can be."""
    real, found = shop(), engine.impute(without(shop(), "low"), seed=2).table
    gap, true = (table.values("high") - table.values("low") for table in (found, real))
    assert gap.mean() == pytest.approx(true.mean(), abs=1.5)
    assert np.corrcoef(found.values("low"), real.values("high"))[0, 1] == pytest.approx(
        np.corrcoef(real.values("low"), real.values("high"))[0, 1], abs=0.05)


def test_a_combination_goes_with_the_member_that_is_given_and_keys_stay_unique() -> None:
    engine = engine_of(hospital(), ["admitted <= left", "(ward, floor)", "unique (room, night)"])
    table = hospital(300, seed=5)
    free = Table(table.schema, table.data.set_column(
        table.data.schema.get_field_index("room"), "room", pa.array(np.arange(300) % 90)).set_column(
        table.data.schema.get_field_index("night"), "night", pa.array(np.arange(300) // 90)))
    given = without(free, "floor", "ward", "night", "admitted", share=0.5)
    found = engine.impute(given)
    assert not any(engine.impossible(found.table)), found.notes
    assert kept(given, found.table)


def test_below_all_that_is_made_both_sides_of_an_order_are_equal() -> None:
    draw = np.random.default_rng(0)
    low = np.round(draw.normal(50, 10, 800), 3)
    high = np.round(low + np.maximum(draw.normal(2, 3, 800), 0), 3)
    data, schema = infer(pa.table({"low": low, "high": high}), {}, "test")
    engine = engine_of(Table(schema, data), ["low <= high"])
    given = Table(schema, pa.table({"low": pa.array([None], pa.float64()), "high": [float(np.sort(low)[1])]}))
    found = engine.impute(given)
    assert engine.codec.reach("low")[0] > given.values("high")[0]
    assert found.table.values("low")[0] == given.values("high")[0]
    assert found.notes == []


def test_a_few_keys_are_shared_out_and_what_is_left_is_told() -> None:
    draw = np.random.default_rng(0)
    data, schema = infer(pa.table({"seat": draw.permutation(40), "x": np.linspace(-2, 2, 40)}), {"seat": "integer"},
                         "test")
    table = Table(schema, data)
    engine = engine_of(table, ["unique (seat)"])
    given = Table(schema, pa.table({"seat": pa.array([None] * 60 + [3, 4], pa.int64()), "x": draw.uniform(-1, 1, 62)}))
    found = engine.impute(given)
    seats = [seat for seat in found.table.data["seat"].to_pylist() if seat is not None]
    assert len(set(seats)) == len(seats) > 20
    assert found.table.data["seat"].null_count
    assert "nothing that was drawn keeps the rules" in found.notes[0]


@pytest.mark.parametrize(("values", "gone", "note"), [
    ({"low": 30, "high": 29}, "colour", "row 1: low <= high is broken; what was given is not changed"),
    ({"high": -5}, "low", "row 1: nothing that was drawn keeps the rules, so its gaps are left"),
    ({"low": 3, "high": 1_000_000}, "low", "row 1: high - low = 99.* is above 29, the largest that is made"),
    ({"colour": "zzz"}, "low", "row 1: level 'zzz' of 'colour' was never seen")])
def test_what_is_given_and_cannot_be_is_told(engine: TableEngine, values: dict[str, object], gone: str, note: str
                                             ) -> None:
    given = without(changed(**values), gone)
    found = engine.impute(given)
    assert len(found.notes) == 1
    assert re.search(note, found.notes[0]), found.notes
    assert kept(given, found.table)
