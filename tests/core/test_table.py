"""Tables seen as numbers and codes."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from bottega.core.errors import DataError, InputError
from bottega.core.table import Column, Schema, Table, join

SCHEMA = Schema(columns=[
    Column(name="n", kind="integer", arrow="int64"), Column(name="c", kind="category", arrow="string", levels=["y"]),
    Column(name="b", kind="boolean", arrow="bool", levels=["true", "false"]),
    Column(name="t", kind="datetime", arrow="timestamp[us]")])


def _table() -> Table:
    return Table(SCHEMA, pa.table({
        "t": pa.array([dt.datetime(1970, 1, 2), None, dt.datetime(2020, 1, 1)], pa.timestamp("us")),
        "n": [1, None, 3], "c": ["x", None, "y"], "b": [True, False, None], "more": [0, 0, 0]}))


def test_columns_are_seen_as_numbers_and_codes() -> None:
    table = _table()
    assert table.data.column_names == ["n", "c", "b", "t"]
    assert np.array_equal(table.values("n"), [1, np.nan, 3], equal_nan=True)
    assert np.array_equal(table.values("t"), [86400, np.nan, 1577836800], equal_nan=True)
    codes, levels = table.codes("c")
    assert levels == ["y", "x"]  # what the schema does not know comes after
    assert codes.tolist() == [1, -1, 0]
    assert table.codes("b")[0].tolist() == [0, 1, -1]
    assert table.codes("n")[1] == ["1", "3"]


def test_rows_are_taken_and_joined() -> None:
    table = _table()
    assert table.take(np.array([2, 0])).values("n").tolist() == [3, 1]
    assert len(table.take(np.array([True, False, True]))) == 2
    assert len(join([table, table.take(np.array([0]))])) == 4


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="no column 'N'"):
        _table().values("N")
    with pytest.raises(InputError, match="no number"):
        _table().values("c")
    with pytest.raises(DataError, match="'n'"):
        Table(SCHEMA, pa.table({"c": ["x"], "b": [True], "t": pa.array([None], pa.timestamp("us"))}))
