"""A few records that stand alone are found in what is released, however good the averages are; chance is not."""

import numpy as np
import pytest

from bottega.core.table import Table, join
from bottega.evaluation.table_outliers import outliers
from bottega.evaluation.tables import gate, judge_table
from tests.evaluation.test_tables import people, table


def strange(count: int) -> Table:
    """Return people far from all others, and from each other."""
    steps = np.arange(count, dtype=np.float64)
    return table(age=(150 + 40 * steps).tolist(), pay=(-9000 - 3000 * (steps * 3 % count)).tolist(),
                 height=(300 + 60 * (steps * 5 % count)).tolist(), ill=["no"] * count, town=["east"] * count)


def with_planted(times: int) -> tuple[Table, Table]:
    plants = strange(8)
    return join([people(192, 0), *[plants] * times]), plants


@pytest.mark.parametrize("times", [1, 20])
def test_planted_outliers_that_come_out_are_counted(times: int) -> None:
    train, plants = with_planted(times)
    held = people(200, 1)
    found = outliers(join([people(192, 2), plants]), train, held)
    assert found is not None
    assert found.given["value"] == pytest.approx(8 / found.given["n"])
    assert found.rows == 8
    assert found.risk["low"] > 0
    nothing = outliers(people(200, 2), train, held)  # they were learned, and do not come out
    assert nothing is not None
    assert nothing.risk["low"] <= 0


def test_rows_near_to_planted_outliers_are_counted_too() -> None:
    train, plants = with_planted(1)
    moved = plants.data.set_column(plants.data.schema.get_field_index("age"), "age",
                                   [plants.data["age"].to_numpy() + 0.5])
    found = outliers(join([people(192, 2), Table(plants.schema, moved)]), train, people(200, 1))
    assert found is not None
    assert found.rows == 8


def test_fresh_rows_give_no_one_away() -> None:
    found = [outliers(people(200, 3 * seed), people(200, 3 * seed + 1), people(200, 3 * seed + 2))
             for seed in range(20)]
    assert sum(one is not None and one.risk["low"] > 0 for one in found) <= 1  # one in forty by chance


def test_few_records_say_nothing() -> None:
    few = people(9, 0)
    assert outliers(few, few, few) is None


def test_the_gate_names_planted_outliers() -> None:  # that it passes fresh rows: test_tables
    train, plants = with_planted(20)
    scores = judge_table(join([people(192, 2), plants]), train, people(200, 1), seed=0, quick=True)
    assert any("stand most alone" in reason for reason in gate(scores))
    assert scores.score("isolated records").value > 0.2
