"""Flat rows become steps, and steps flat rows again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from bottega.core.table import Column, Schema, Table
from bottega.core.table_sequences import Layout

_FLAT = Schema(columns=[
    Column(name="who", kind="id", arrow="string"), Column(name="sex", kind="category", arrow="string"),
    Column(name="day", kind="datetime", arrow="date32[day]"), Column(name="value", kind="number", arrow="double"),
    Column(name="note", kind="text", arrow="string")])
_LAYOUT = Layout(entity="who", order="day", flat=_FLAT, constant=["sex"], varying=["value"], units={"day": 86400.0},
                 last=1)


def _table() -> Table:
    days = np.array(["2024-03-05", "2024-01-01", "2024-03-01", "2024-03-02"], "datetime64[D]")
    return Table(_FLAT, pa.table({"who": ["b", "ä", "b", "b"], "sex": ["f", None, "f", "f"], "day": pa.array(days),
                                  "value": [3.0, 9.0, 1.0, None], "note": ["x", "y", "z", "w"]}))


def test_steps_say_what_went_before() -> None:
    wide = _LAYOUT.wide(_table())
    rows = {tuple(row.values()) for row in wide.table.data.select(
        ["sex", "rows of who", "place in who", "previous value", "value", "day after previous",
         "previous day after previous"]).to_pylist()}
    assert rows == {("f", 3, 0, None, 1.0, None, None), ("f", 3, 1, 1.0, None, 1, None), ("f", 3, 1, None, 3.0, 3, 1),
                    (None, 1, 0, None, 9.0, None, None)}
    assert sorted(np.bincount(wide.owner)) == [1, 3]
    assert _LAYOUT.of_entity == ["sex", "first day", "rows of who"]


def test_memory_says_what_the_second_row_before_and_the_first_held() -> None:
    layout = _LAYOUT.model_copy(update={"memory": {"value": ["second previous", "mean previous", "first"],
                                                   "day after previous": ["second previous"]}})
    days = np.arange("2024-01-01", "2024-01-05", dtype="datetime64[D]")
    flat = pa.table({"who": ["a"] * 4 + ["b"], "sex": ["f"] * 5, "day": pa.array(np.append(days, days[0])),
                     "value": [1.0, 2.0, 3.0, 4.0, 9.0], "note": [None] * 5})
    rows = layout.wide(Table(_FLAT, flat)).table.data.select(
        ["value", "second previous value", "mean previous value", "first value", "second previous day after previous"])
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        (1.0, None, None, None, None), (2.0, None, None, None, None), (3.0, 1.0, 1.5, 1.0, None),
        (4.0, 2.0, 2.0, 1.0, 1), (9.0, None, None, None, None)]
    assert {"second previous value", "first value"} < set(layout.given) < set(layout.wide_schema.names)
    assert Layout.model_validate(_LAYOUT.model_dump(exclude={"memory"})) == _LAYOUT


def test_steps_lead_back_to_the_rows() -> None:
    wide, before, made = _LAYOUT.wide(_table()).table, None, []
    rows = np.flatnonzero(wide.values("rows of who") == 3)
    for row in rows:
        step = wide.take(np.array([row]))
        before = _LAYOUT.advance(step, step, before)
        made += _LAYOUT.flat_rows(step, step, before).data.to_pylist()
    assert [(row["day"].isoformat(), row["value"]) for row in made] == [
        ("2024-03-01", 1.0), ("2024-03-02", None), ("2024-03-05", 3.0)]
    assert {row["note"] for row in made} == {None}


def test_what_comes_after_decides_nothing_before() -> None:
    assert _LAYOUT.may_decide("sex", "value")
    assert _LAYOUT.may_decide("place in who", "value")
    assert not _LAYOUT.may_decide("value", "sex")
    assert not _LAYOUT.may_decide("value", "previous value")
