"""The measure of sequences: real ones score as fresh, shuffled ones worse, and so do wrong lengths and lost memory."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from bottega.core.table import Column, Schema, Table
from bottega.core.table_sequences import Layout
from bottega.evaluation.table_scores import Score, plain
from bottega.evaluation.table_sequences import LENGTHS, REACHES, Change, by_column, judge_sequences

_FLAT = Schema(columns=[
    Column(name="who", kind="id", arrow="string"), Column(name="turn", kind="integer", arrow="int64"),
    Column(name="value", kind="number", arrow="double"), Column(name="mood", kind="category", arrow="string")])
_LAYOUT = Layout(entity="who", order="turn", flat=_FLAT, constant=[], varying=["value", "mood"], last=30)


def entities(count: int, seed: int, *, kept: float = 0.9, back: int = 1, mean: float = 10.0) -> Table:
    """Return steps: a value that follows the one `back` rows before, and a mood that mostly stays what it was then."""
    draw, rows = np.random.default_rng(seed), []
    for number in range(count):
        values, moods = [*draw.normal(size=back)], [*draw.integers(0, 3, back)]
        for turn in range(1 + draw.poisson(mean)):
            values.append(kept * values[-back] + np.sqrt(1 - kept**2) * draw.normal())
            moods.append(moods[-back] if draw.random() < kept else draw.integers(0, 3))
            rows.append((f"{number:05}", turn, values[-1], "abc"[moods[-1]]))
    data = pa.table(dict(zip(_FLAT.names, map(list, zip(*rows, strict=True)), strict=True)))
    return _LAYOUT.wide(Table(_FLAT, data)).table


def shuffled(steps: Table, seed: int = 0) -> Table:
    """Return the same entities, what each row holds in any order."""
    first = steps.data[_LAYOUT.place].to_numpy() == 0
    order = np.lexsort((np.random.default_rng(seed).random(len(steps)), np.cumsum(first)))
    data = steps.data
    for name in _LAYOUT.of_row:
        data = data.set_column(data.column_names.index(name), name, data[name].take(pa.array(order)))
    return Table(steps.schema, data)


def judged(made: Table) -> tuple[dict[str, Score], list[Change]]:
    scores, changes = judge_sequences(made, entities(800, 1), entities(400, 2), _LAYOUT, seed=0)
    return {one.name: one for one in scores}, changes


def test_real_entities_score_as_fresh_ones_and_shuffled_ones_as_such() -> None:
    good, bad = judged(entities(500, 3))[0], judged(shuffled(entities(500, 3)))[0]
    assert set(good) == {LENGTHS, *REACHES}
    for name in REACHES:
        assert good[name].verdict == "as fresh real rows"
        assert bad[name].verdict == "as shuffled in entities"
        assert bad[name].value < good[name].value - 0.02
        assert good[name].references["shuffled"] < good[name].references["fresh"] - 0.02
        assert set(good[name].references) == {"fresh", "shuffled"}
    assert good[LENGTHS].value == pytest.approx(bad[LENGTHS].value)  # whose rows are in no order has as many
    assert good[LENGTHS].passed_by == ["shuffled"]


def test_a_wrong_number_of_rows_is_seen() -> None:
    assert judged(entities(500, 3, mean=2.0))[0][LENGTHS].value < 0.6 < judged(entities(500, 3))[0][LENGTHS].value


def test_each_column_is_told_beside_its_references() -> None:
    _, changes = judged(entities(500, 3))
    told = by_column(changes)
    assert list(told) == ["turn after previous", "value", "mood"]
    for name in ("value", "mood"):
        assert [*told[name]] == list(REACHES)
        assert all(one.made > one.shuffled + 0.02 and one.fresh > one.shuffled + 0.02 for one in told[name].values())
    first, second, ends = told["turn after previous"].values()
    assert {one.made for one in (first, second)} == {one.shuffled for one in (first, second)} == {1.0}
    assert np.isnan(ends.made)  # the first row comes after none


def _second(steps: Table) -> tuple[float, float]:
    scores, _ = judge_sequences(steps, entities(600, 1, back=2), entities(200, 2, back=2), _LAYOUT, seed=0)
    found = {one.name: one for one in scores}
    return found["change to the next row"].value, found["change over two rows"].value


def test_lost_memory_of_two_rows_shows_over_two_rows_only() -> None:
    (one, two), (alone, lost) = _second(entities(500, 3, back=2)), _second(entities(500, 3, kept=0.0))
    assert one - alone < 0.05  # row by row both are drawn afresh
    assert two - lost > 0.1


@pytest.mark.parametrize("change", [
    lambda steps: steps.take(steps.values(_LAYOUT.count) == 1),
    lambda steps: Table(steps.schema, steps.data.set_column(
        steps.schema.names.index("value"), "value", pa.nulls(len(steps), pa.float64())))])
def test_what_cannot_be_said_is_left_out(change: Callable[[Table], Table]) -> None:
    made = change(entities(300, 3, mean=1.0))
    scores, changes = judge_sequences(made, entities(300, 1), entities(200, 2), _LAYOUT, seed=0)
    assert scores[0].name == LENGTHS
    json.dumps(plain([*scores, *changes]), allow_nan=False)


def test_the_seed_decides() -> None:
    assert judged(entities(300, 3)) == judged(entities(300, 3))


def test_entities_that_have_no_row_count_as_such() -> None:
    def linked(none: NDArray[np.int64]) -> Table:
        steps = entities(len(none), 5)
        first = steps.data[_LAYOUT.place].to_numpy() == 0
        gone = np.isin(np.cumsum(first) - 1, np.flatnonzero(none))
        count = np.where(gone, 0, steps.values(_LAYOUT.count))
        data = steps.data.set_column(steps.schema.names.index(_LAYOUT.count), _LAYOUT.count,
                                     pa.array(count, pa.int64()))
        return Table(steps.schema, data).take(first | ~gone)

    half, none = linked(np.arange(400) % 2), linked(np.zeros(400, np.int64))
    found = {one.name: one.value for one in judge_sequences(half, half, half, _LAYOUT, seed=0)[0]}
    lost = {one.name: one.value for one in judge_sequences(none, half, half, _LAYOUT, seed=0)[0]}
    assert found[LENGTHS] > 0.9
    assert lost[LENGTHS] == pytest.approx(0.5, abs=0.06)
