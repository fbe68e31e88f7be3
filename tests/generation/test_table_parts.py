"""Rows in which one column says nothing about another."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from bottega.commands.controls import parse_controls
from bottega.core.errors import ControlError
from bottega.core.table import Table
from bottega.data.tables.infer import infer
from bottega.generation.tables import TableEngine
from tests.generation.test_tables import engine_of


@pytest.fixture(scope="module")
def unfair() -> TableEngine:
    rng = np.random.default_rng(0)
    group = rng.choice(["a", "b", "c"], 3000, p=[0.6, 0.3, 0.1])
    score = rng.normal(size=3000) + 1.5 * (group == "a")
    hired = np.where(score + rng.normal(size=3000) > 1.2, "yes", "no")
    gone = np.where(rng.random(3000) < 0.1, None, group)
    data, schema = infer(pa.table({"group": group, "score": score, "hired": hired, "gone": gone}), {}, "test")
    return engine_of(Table(schema, data), [])


def rates(table: Table, column: str = "group") -> dict[str, float]:
    groups, hired = (np.array(table.data[name].to_pylist(), object) for name in (column, "hired"))
    return {str(group): float((hired[groups == group] == "yes").mean()) for group in {*groups}}


def test_one_column_says_nothing_about_another(unfair: TableEngine) -> None:
    plain, fair = unfair.sample(3000, seed=1), unfair.sample(3000, seed=1, fair={"hired": "group"})
    assert len(fair) == 3000
    assert max(rates(plain).values()) - min(rates(plain).values()) > 0.15
    assert max(rates(fair).values()) - min(rates(fair).values()) < 0.01
    for name in ("group", "hired"):  # each by itself is as it was
        before, after = (np.unique(table.data[name].to_pylist(), return_counts=True)[1] / 3000
                         for table in (plain, fair))
        assert np.abs(before - after).max() < 0.03
    score, hired = (np.array(fair.data[name].to_pylist()) for name in ("score", "hired"))
    assert score[hired == "yes"].mean() > score[hired == "no"].mean() + 0.5  # what else follows from it still does


def test_missing_groups_are_a_group_and_conditions_hold(unfair: TableEngine) -> None:
    rows = unfair.sample(2000, seed=2, fair={"hired": "gone"}, conditions=["score > 0"])
    found = rates(rows, "gone")
    assert "None" in found
    assert max(found.values()) - min(found.values()) < 0.03
    assert min(rows.data["score"].to_pylist()) > 0


@pytest.mark.parametrize(("asked", "match"), [
    ({"fair": {"hired": "grup"}}, "did you mean 'group'"), ({"fair": {"score": "group"}}, "'score' is none"),
    ({"fair": {"hired": "hired"}}, "names 'hired' twice"),
    ({"fair": {"hired": "group", "group": "hired"}}, "names 2 columns"),
    ({"fair": {"hired": "group"}, "balance": {"hired": {"yes": 0.5, "no": 0.5}}}, "decides the shares"),
    ({"fair": {"hired": "group"}, "conditions": ["group = a"]}, "decides the shares")])
def test_what_cannot_be_is_refused(unfair: TableEngine, asked: dict[str, dict[str, str]], match: str) -> None:
    with pytest.raises(ControlError, match=match):
        unfair.sample(10, **asked)  # type: ignore[arg-type]


def test_the_command_line_reads_a_pair() -> None:
    assert parse_controls({"fair": "income:sex"}).fair == {"income": "sex"}
    with pytest.raises(ControlError, match="not TARGET:GROUP"):
        parse_controls({"fair": "income"})


def test_many_rows_are_the_same_on_any_number_of_threads(unfair: TableEngine) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = unfair.sample(20_000, seed=4)
        torch.set_num_threads(3)
        other = unfair.sample(20_000, seed=4)
    finally:
        torch.set_num_threads(before)
    assert len(one) == 20_000
    assert one.data.equals(other.data)
