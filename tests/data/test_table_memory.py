"""Memory is found where a column needs it, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.table_visits import joined, visits

from bottega.core.table import Column, Schema, Table
from bottega.core.table_sequences import Layout
from bottega.data.tables.infer import infer
from bottega.data.tables.memory import remembering

_NUMBER = Column(name="x", kind="number", arrow="double")
_LEVEL = Column(name="x", kind="category", arrow="string")


def _found(column: Column, follow: Callable[[np.random.Generator, list[Any]], Any], entities: int = 300,
           rows: int = 8) -> list[str]:
    """Return the memory of a column whose next value follows from the ones before."""
    draw, data = np.random.default_rng(0), []
    for number in range(entities):
        values: list[Any] = []
        for _ in range(rows):
            values.append(follow(draw, values))
        data += [(f"{number:04}", value) for value in values]
    flat = Schema(columns=[Column(name="who", kind="id", arrow="string"), column])
    layout = Layout(entity="who", flat=flat, constant=[], varying=["x"], last=7)
    table = Table(flat, pa.table({"who": [who for who, _ in data], "x": [value for _, value in data]}))
    return list(remembering(layout, table).memory.get("x", []))


def _alone(draw: np.random.Generator, past: list[Any]) -> float:
    return float(draw.normal())


def _one_back(draw: np.random.Generator, past: list[Any]) -> float:
    return 0.9 * past[-1] + 0.44 * float(draw.normal()) if past else float(draw.normal())


def _two_back(draw: np.random.Generator, past: list[Any]) -> float:
    return 0.7 * past[-2] + 0.7 * float(draw.normal()) if len(past) > 1 else float(draw.normal())


def _like_the_others(draw: np.random.Generator, past: list[Any]) -> float:
    return 0.9 * float(np.mean(past)) + 0.5 * float(draw.normal()) if past else float(draw.normal())


def _like_the_first(draw: np.random.Generator, past: list[Any]) -> str:
    return str(past[0]) if past and draw.random() < 0.7 else "abc"[draw.integers(3)]


def _stays(draw: np.random.Generator, past: list[Any]) -> str:
    return str(past[-1]) if past and draw.random() < 0.8 else "abc"[draw.integers(3)]


def _neither_of_the_two(draw: np.random.Generator, past: list[Any]) -> str:
    if len(past) > 1 and past[-1] != past[-2] and draw.random() < 0.9:
        return (set("abc") - {past[-1], past[-2]}).pop()
    return "abc"[draw.integers(3)]


@pytest.mark.parametrize(("column", "follow", "expected"), [
    (_NUMBER, _alone, []), (_NUMBER, _one_back, []), (_NUMBER, _two_back, ["second previous"]),
    (_LEVEL, lambda draw, past: "abc"[draw.integers(3)], []), (_LEVEL, _stays, []),
    (_LEVEL, _neither_of_the_two, ["second previous"])])
def test_memory_is_found_where_it_helps(column: Column, follow: Callable[[np.random.Generator, list[Any]], Any],
                                        expected: list[str]) -> None:
    assert _found(column, follow) == expected


def test_what_an_entity_is_like_is_found() -> None:
    assert "mean previous" in _found(_NUMBER, _like_the_others)
    assert "first" in _found(_LEVEL, _like_the_first)


def test_a_name_that_is_taken_is_left_alone() -> None:
    draw = np.random.default_rng(0)
    flat = Schema(columns=[Column(name="who", kind="id", arrow="int64"), _NUMBER, _NUMBER.model_copy(
        update={"name": "second previous x"})])
    layout = Layout(entity="who", flat=flat, constant=[], varying=["x", "second previous x"], last=7)
    rows = pa.table({"who": np.repeat(np.arange(300), 8), "x": np.concatenate([
        np.repeat([draw.normal(size=2)], 4, 0).ravel() + 0.1 * draw.normal(size=8) for _ in range(300)]),
        "second previous x": draw.normal(size=2400)})
    found = remembering(layout, Table(flat, rows))
    assert "second previous" not in found.memory.get("x", [])
    assert len(set(found.wide_schema.names)) == len(found.wide_schema.names)


def test_few_rows_show_nothing() -> None:
    assert _found(_NUMBER, _two_back, entities=20) == []
    assert _found(_NUMBER, _two_back, rows=2) == []


def test_visits_that_follow_from_the_one_before_ask_for_none() -> None:
    data, schema = infer(joined(*visits(500)), {"patient_id": "id"}, "visits")
    layout = Layout(entity="patient_id", order="admit", flat=schema, constant=["age", "severity"],
                    varying=["hb", "drug", "discharge"], units={"admit": 86400.0, "discharge": 86400.0}, last=9)
    assert remembering(layout, Table(schema, data)).memory == {}
