"""Rules and protection of sequences: what is built into the codes, what is refused, and who counts as one."""

from __future__ import annotations

import numpy as np
import pytest

from bottega.codecs.table_coding import fit_levels, fit_values
from bottega.codecs.table_links import by_frequency
from bottega.codecs.table_rules import parse
from bottega.codecs.table_steps import of_steps
from bottega.core.errors import RecipeError
from bottega.core.table import Column, Schema
from bottega.core.table_sequences import Layout

_FLAT = Schema(columns=[
    Column(name="who", kind="id", arrow="string"),
    *(Column(name=name, kind="integer", arrow="int64") for name in ("born", "year", "low", "high", "total")),
    *(Column(name=name, kind="category", arrow="string") for name in ("city", "ward", "room"))])
_LAYOUT = Layout(entity="who", order="year", flat=_FLAT, constant=["born", "city"],
                 varying=["low", "high", "total", "ward", "room"])


@pytest.mark.parametrize(("text", "built_in"), [
    ("low <= high", True), ("total == low + high", True), ("total == low + born", True), ("(ward, room)", True),
    ("ward -> room", True), ("low >= 0", True), ("born <= low", True), ("low <= born", False), ("born <= year", False),
    ("year >= 0", False), ("unique (who, year)", False)])
def test_rules_are_built_in_where_they_can_be(text: str, built_in: bool) -> None:
    assert of_steps(parse(text, _FLAT), _LAYOUT) == built_in


@pytest.mark.parametrize("text", ["(city, ward)", "ward -> city", "born == low + high", "total == year + low"])
def test_rules_that_nothing_keeps_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="ties what is the same in all rows of a 'who'"):
        of_steps(parse(text, _FLAT), _LAYOUT)


def test_protection_counts_entities() -> None:
    owner = np.repeat(np.arange(20), 10)
    levels = np.zeros(200, np.int32)
    levels[:30] = 1  # 30 rows of three entities
    coding = fit_levels(Column(name="x", kind="category", arrow="string", levels=["a", "b"]), levels, protect=5,
                        owner=owner)
    assert (coding.column.levels, coding.rare) == (["a"], True)
    assert by_frequency(["b"] * 30 + list("acdefghijk") * 17, owner)[0][-1] == "b"


def test_no_value_of_one_entity_has_a_code() -> None:
    owner = np.repeat(np.arange(40), 25)
    values = np.round(np.random.default_rng(0).normal(0, 1, 1000), 2)
    values[:25], values[25:50] = 77.0, 0.123  # all rows of one entity, far out and inside
    column = Column(name="x", kind="number", arrow="double", decimals=3)
    alone = fit_values(column, values, codes=16, protect=5)
    assert [77.0] in alone.grids
    assert [0.123] in alone.grids
    kept = fit_values(column, values, codes=16, protect=5, owner=owner)
    assert max(grid[-1] for grid in kept.grids) < 20
    assert [0.123] not in kept.grids
    assert sum(kept.share) == pytest.approx(1)
