"""What is known of earlier rows while rows are made is what the steps of finished rows say."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from bottega.core.table import Column, Schema, Table
from bottega.core.table_sequences import Layout
from bottega.generation.table_memory import Memory

_FLAT = Schema(columns=[Column(name="who", kind="id", arrow="int64"), Column(name="x", kind="number", arrow="double"),
                        Column(name="mood", kind="category", arrow="string")])
_LAYOUT = Layout(entity="who", flat=_FLAT, constant=[], varying=["x", "mood"], last=5, memory={
    "x": ["second previous", "mean previous", "first"], "mood": ["first"]})


def test_rows_that_are_made_know_what_rows_that_are_there_know() -> None:
    draw, rows = np.random.default_rng(0), 6
    who, values = np.repeat(np.arange(40), rows), draw.normal(scale=1e3, size=40 * rows)
    values[draw.random(len(values)) < 0.2] = np.nan
    values[:3 * rows] *= 1e15  # the mean of an entity does not depend on those of others
    wide = _LAYOUT.wide(Table(_FLAT, pa.table({
        "who": who, "x": pa.array(values, from_pandas=True), "mood": draw.choice(["a", "b"], len(who))}))).table
    memory, left = Memory.none(_LAYOUT, 40), np.arange(40)
    for place in range(rows):
        now = wide.take(left * rows + place)
        told = memory.told(place)
        for name in _LAYOUT.given:
            expected = now.data[name].to_pylist()
            if name == _LAYOUT.place:
                continue
            assert name not in told or told[name].to_pylist() == expected
            assert name in told or expected == [None] * len(left)
        going = np.flatnonzero(draw.random(len(left)) < 0.9)
        memory, left = memory.take(going).later(now.take(going)), left[going]
