"""Rows that cannot be have probability 0, with the reason; rows that were learned from or made can always be."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bottega.core.table import Table
from bottega.data.tables.infer import infer
from bottega.generation.tables import TableEngine
from tests.generation.test_tables import RULES, engine_of, hospital


def shop(count: int = 800) -> Table:
    draw = np.random.default_rng(0)
    low, town = draw.integers(0, 50, count), draw.integers(0, 4, count)
    a, b = np.round(draw.gamma(2, 10, count), 2), draw.integers(1, 9, count)
    data, schema = infer(pa.table({
        "low": low, "high": low + draw.integers(0, 30, count), "town": [f"town {n}" for n in town],
        "land": [f"land {n // 2}" for n in town], "a": a, "b": b, "total": np.round(a + 2 * b, 2),
        "made": pa.array(18_000 + draw.integers(0, 900, count), pa.int32()).cast(pa.date32()),
        "rare": ["often" if n % 3 else "also" for n in range(count - 2)] + ["once", "twice"],
        "colour": [["red", "blue"][n] for n in draw.integers(0, 2, count)]}), {}, "test")
    return Table(schema, data)


@pytest.fixture(scope="module")
def engine() -> TableEngine:
    return engine_of(shop(), ["low <= high", "town -> land", "total == a + 2 * b", "0 <= b < 12"])


def changed(**values: Any) -> Table:
    """Return the first row of the shop with some values replaced."""
    table = shop().take(np.array([0]))
    data = table.data
    for name, value in values.items():
        data = data.set_column(data.schema.get_field_index(name), name,
                               pa.array([value], pa.string()).cast(data.schema.field(name).type)
                               if isinstance(value, str) else pa.array([value], data.schema.field(name).type))
    return Table(table.schema, data)


@pytest.mark.parametrize(("values", "reason"), [
    ({"low": 30, "high": 29}, "low <= high is broken"),
    ({"low": 3, "high": 400}, "high - low = 397 is above 29, the largest that is made"),
    ({"low": -1, "high": 5}, "low = -1 is below 0, the smallest that is made"),
    ({"colour": "zzz"}, "level 'zzz' of 'colour' was never seen"),
    ({"town": "town 0", "land": "land 1"}, "town -> land is broken: 'town 0' never had 'land 1'"),
    ({"a": 5.0, "b": 3, "total": 12.0}, r"total == a \+ 2 \* b is broken"),
    ({"a": 5.0, "b": 12, "total": 29.0}, "0 <= b < 12 is broken"),
    ({"made": "2031-01-01"}, r"made = 2031-01-01.* is above 20\d\d-.*, the largest that is made"),
    ({"colour": None}, "'colour' is missing and never was")])
def test_a_row_that_cannot_be_is_told(engine: TableEngine, values: dict[str, Any], reason: str) -> None:
    rows = changed(**values)
    (why,) = engine.impossible(rows)
    assert re.search(reason, why), why
    assert engine.log_prob(rows)[0] == -np.inf


def test_a_level_that_may_be_a_rare_one_keeps_the_probability_of_the_pool(engine: TableEngine) -> None:
    found = engine.log_prob(changed(rare="once")), engine.log_prob(changed(rare="never"))
    assert np.isfinite(found).all()
    assert found[0] == found[1] < engine.log_prob(changed(rare="often"))


def test_what_was_learned_from_and_what_is_made_can_be(engine: TableEngine) -> None:
    assert not any(engine.impossible(shop()))  # the outermost values too, though they are not made
    assert np.isfinite(engine.log_prob(shop())).all()
    assert not any(engine.impossible(engine.sample(2000, seed=1)))
    other = engine_of(hospital(), [rule for rule in RULES if "unique" not in rule])
    assert not any(other.impossible(hospital()))
    assert not any(other.impossible(other.sample(2000, seed=1)))
