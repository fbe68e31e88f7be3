"""The judges of tables: formulas equal hand-computed values; each fault is told by the score meant for it."""

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bottega.core.errors import DataError, InputError
from bottega.core.table import Column, Schema, Table
from bottega.evaluation.statistics import auc
from bottega.evaluation.table_attacks import attacks
from bottega.evaluation.table_augmentation import augmentation
from bottega.evaluation.table_detection import detection
from bottega.evaluation.table_distances import closest, distances, points
from bottega.evaluation.table_privacy import privacy
from bottega.evaluation.table_references import copied, independent
from bottega.evaluation.table_shapes import compare, ks_complement, range_coverage
from bottega.evaluation.table_utility import utility
from bottega.evaluation.table_views import row_keys, views
from bottega.evaluation.tables import gate, judge_table


def table(**columns: list[Any]) -> Table:
    arrays = {name: pa.array(values) for name, values in columns.items()}
    kinds = {name: "category" if pa.types.is_string(array.type) or pa.types.is_null(array.type) else
             "boolean" if pa.types.is_boolean(array.type) else "number" for name, array in arrays.items()}
    return Table(Schema(columns=[Column(name=name, kind=kinds[name], arrow=str(array.type))  # type: ignore[arg-type]
                                 for name, array in arrays.items()]), pa.table(arrays))


def people(count: int, seed: int) -> Table:
    rng = np.random.default_rng(seed)
    age, height = rng.normal(40, 12, count), rng.normal(170, 10, count)
    ill = rng.random(count) < 1 / (1 + np.exp(-(age - 45) / 4))
    return table(age=age.tolist(), pay=(age * 50 + rng.normal(0, 150, count)).tolist(), height=height.tolist(),
                 ill=["yes" if each else "no" for each in ill],
                 town=[["north", "south", "east", None][place] for place in rng.integers(0, 4, count)])


def test_formulas_by_hand() -> None:
    assert ks_complement(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 5, 6])) == pytest.approx(0.5)
    assert range_coverage(np.array([0.0, 10]), np.array([2.0, 9])) == pytest.approx(0.7)
    assert auc([1, 2, 3], [2, 0])["value"] == pytest.approx(4.5 / 6)
    found = compare(table(a=["x", "x", "y", None], b=["p", "q", "p", "p"]),
                    table(a=["x", "y", "y", "y"], b=["p", "q", "p", "p"]))
    assert found.columns[0].score == pytest.approx(1 - (2 / 3 - 1 / 4))  # missing values are left out of shapes
    assert found.columns[0].missing_real == 0.25
    # joint cells, missing as one: xp 1, xq 1, yp 1, -p 1 against xp 1, yq 1, yp 2
    assert found.pairs[0].score == pytest.approx(1 - (0 + 1 + 1 + 1 + 1) / 4 / 2)
    linear = compare(table(a=[1.0, 2, 3], b=[2.0, 4, 6]), table(a=[1.0, 2, 3], b=[6.0, 4, 2]))
    assert linear.pairs[0].score == pytest.approx(0)


def test_distances_equal_the_formula() -> None:
    real = table(a=[0.0, 10, None], c=["x", "y", None])
    one, other = views(real, table(a=[5.0, None], c=["x", None]))
    here, there = points([one, other], [one])
    found = distances(here, there) / (2 * here.unit)
    assert found == pytest.approx(np.array([[0.25, 1], [0.75, 1], [1, 0]]), abs=1e-6)
    near = closest(here, there)
    assert near.first == pytest.approx([0.25, 0.75, 0], abs=1e-6)
    assert near.back == pytest.approx([0.25, 0], abs=1e-6)


def test_equal_rows_have_equal_keys() -> None:
    one, other = row_keys(*views(table(a=[1.0, None], c=["x", None]), table(a=[None, 1.0], c=[None, "y"])))
    assert one[1] == other[0]
    assert len({*one, *other}) == 3


def test_same_tables_are_perfect_and_shuffled_columns_lose_trends() -> None:
    real = people(400, 0)
    same, shuffled = compare(real, real), compare(real, independent(real, 400, 1))
    assert (same.shapes, same.trends, same.coverage, same.missing) == pytest.approx((1, 1, 1, 0))
    assert shuffled.shapes == pytest.approx(1)
    assert shuffled.linked < 0.8


def test_trees_tell_independent_columns_and_pass_real_rows() -> None:
    train, held = people(400, 0), people(400, 1)
    assert detection(independent(train, 400, 1), held)["value"] > 0.8
    fresh = detection(people(400, 2), held)
    assert fresh["low"] < 0.5 + 0.05
    assert fresh["value"] < 0.6
    pay = next(t for t in utility({"real": train, "loose": independent(train, 400, 1)}, held) if t.name == "pay")
    assert pay.scores["real"] > 0.8 > 0.2 > pay.scores["loose"]


def test_copies_are_caught_and_fresh_rows_are_not() -> None:
    train, held = people(300, 0), people(300, 1)
    bad = judge_table(copied(train, 300, 3), train, held, seed=0, quick=True)
    assert bad.privacy.closer["value"] > 0.95
    assert bad.privacy.membership["value"] > 0.7
    assert bad.privacy.excess["low"] > 0.9
    assert any("exact copies" in reason for reason in gate(bad))
    good = judge_table(people(300, 2), train, held, seed=0, quick=True)
    assert gate(good) == []
    assert "independent" in good.score("column shapes").passed_by  # independent columns have perfect shapes
    assert good.score("column shapes").verdict == ""
    assert good.score("linked pair trends").verdict == "as fresh real rows"
    text = json.dumps(good.plain(), allow_nan=False)
    assert text == json.dumps(judge_table(people(300, 2), train, held, seed=0, quick=True).plain(), allow_nan=False)


def test_planted_outliers_are_singled_out() -> None:
    train, held = people(300, 0), people(300, 1)
    rng = np.random.default_rng(5)
    order = np.argsort(-np.abs(train.values("age") - 40) - 3 * np.abs(train.values("height") - 170))[:60]
    fresh = people(300, 2).take(rng.permutation(240))
    planted = Table(train.schema, pa.concat_tables([fresh.data, train.take(order).data]))
    risks = [next(attack.risk for attack in attacks(rows, train, held, tries=1500)
                  if attack.name == "singling out, one column") for rows in (planted, fresh)]
    assert risks[0]["low"] > 0.05 > risks[1]["low"]


@pytest.mark.parametrize("columns", [
    {"a": [1.0] * 40, "b": [2.0, 3.0] * 20}, {"a": [None] * 40, "b": ["x", "y"] * 20},
    {"a": [f"u{place}" for place in range(40)], "b": [float(place) for place in range(40)]},
    {"a": ["x", "y"] * 20, "b": ["p", "p", "q", "q"] * 10}, {"a": [float(place) for place in range(40)]}])
def test_odd_tables_have_defined_scores(columns: dict[str, list[Any]]) -> None:
    odd = table(**columns)
    json.dumps(judge_table(odd, odd, odd, seed=0, quick=True).plain(), allow_nan=False)


def test_one_row_many_levels_and_what_cannot_be_judged() -> None:
    assert math.isnan(compare(table(a=[1.0], b=[2.0]), table(a=[1.0], b=[2.0])).trends)
    many = table(a=[f"u{place}" for place in range(10_000)], b=["x", "y"] * 5000)
    assert compare(many, many).overall == pytest.approx(1)
    assert privacy(many, many, many, most=500).closer["n"] == 500
    assert detection(many.take(np.arange(600)), many.take(np.arange(600, 1200)))["n"] == 600
    one = table(a=[1.0])
    with pytest.raises(InputError, match="too few"):
        judge_table(one, one, one, seed=0)
    with pytest.raises(DataError, match="infinite"):
        compare(table(a=[math.inf]), one)


def test_more_of_a_rare_class_is_measured() -> None:
    train, held = people(200, 0), people(300, 1)
    pool = people(3000, 9)
    codes, levels = pool.codes("ill")

    def make(level: str, count: int, seed: int) -> Table:
        there = np.flatnonzero(codes == levels.index(level))
        return pool.take(np.random.default_rng(seed).choice(there, count))

    found = augmentation(train, held, "ill", make, repeats=2, share=0.7)
    assert found.added > 0
    assert found.gain["value"] == pytest.approx(found.both - found.real)
    assert found.gain["low"] <= found.gain["value"] <= found.gain["high"]


def test_few_real_rows_decide_nothing_by_chance() -> None:
    real, covered = people(540, 0), 0
    for seed in range(40):
        order = np.random.default_rng(seed).permutation(540)
        made, known, fresh = real.take(order[80:]), real.take(order[:40]), real.take(order[40:80])
        found = privacy(made, known, fresh, seed=seed).closer
        covered += found["low"] <= 0.5 <= found["high"]
        assert found["high"] - found["low"] > 0.12  # 460 rows, but only 80 to be near to
    assert covered >= 35
