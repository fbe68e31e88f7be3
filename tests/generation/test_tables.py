"""Rows from a fitted model: their number, their seed, what is asked of them, and what cannot be."""

from __future__ import annotations

from itertools import product

import numpy as np
import pyarrow as pa
import pytest

from bottega.codecs.table import TableCodec
from bottega.core.errors import ControlError, InputError
from bottega.core.request import Controls, Request
from bottega.core.table import Table
from bottega.data.tables.infer import infer
from bottega.families.tabular import Tabular
from bottega.generation.table_conditions import parse
from bottega.generation.tables import TableEngine
from bottega.objectives.tables import TableTraining
from tests.families.test_tabular import Split, build

RULES = ["admitted <= left", "(ward, floor)", "stay >= 0", "unique (room, night)"]


def hospital(count: int = 1200, seed: int = 0) -> Table:
    draw = np.random.default_rng(seed)
    age = draw.integers(0, 95, count)
    ill = draw.random(count) < 0.05 + 0.6 * (age > 70)
    admitted = draw.integers(0, 300, count) * 86400 + 1_600_000_000 // 86400 * 86400
    stay = draw.poisson(3 + 6 * ill)
    ward = draw.integers(0, 3, count)
    gap = pa.array(np.where(draw.random(count) < 0.2, np.nan, draw.normal(5 + 3 * ill, 1, count)), from_pandas=True)
    data = pa.table({
        "age": age, "ill": ill, "admitted": pa.array(admitted, pa.timestamp("s")),
        "left": pa.array(admitted + stay * 86400, pa.timestamp("s")), "stay": stay,
        "ward": [f"ward {n}" for n in ward], "floor": [f"floor {n // 2 + (n == 0) * k}" for n, k in
                                                       zip(ward, draw.integers(0, 2, count), strict=True)],
        "marker": gap, "room": draw.integers(0, 90, count), "night": draw.integers(0, 90, count),
        "rare": [["often", "sometimes"][int(n % 30 == 0)] if n > 2 else "once" for n in range(count)]})
    data, schema = infer(data, {"ill": "boolean"}, "test")
    return Table(schema, data)


def engine_of(table: Table, rules: list[str], **spec: object) -> TableEngine:
    codec = TableCodec.of({"rules": rules, **spec}).learn(table)
    model: Tabular = build(codec)
    TableTraining(model, Split(codec, table, table), batch=64, micro_batch=64, seed=0)  # fits the base
    return TableEngine(model.eval(), codec, controls=Controls(), model_digest="m", lineage={})


@pytest.fixture(scope="module")
def engine() -> TableEngine:
    return engine_of(hospital(), RULES)


def test_rows_are_as_many_as_asked_and_follow_their_seed(engine: TableEngine) -> None:
    rows = engine.sample(700, seed=3)
    assert len(rows) == 700
    assert rows.data.schema.equals(hospital(30).data.schema)
    assert engine.sample(700, seed=3).data.equals(rows.data)
    assert engine.sample(40, seed=3).data.equals(rows.data.slice(0, 40))
    assert not engine.sample(700, seed=4).data.equals(rows.data)
    assert len(engine.sample(1)) == 1


def test_every_rule_holds_in_every_row(engine: TableEngine) -> None:
    rows = engine.sample(3000, seed=1)
    for rule in engine.codec.rules:
        assert not rule.broken(rows).any(), rule.text
    real = hospital()
    seen = set(zip(real.data["ward"].to_pylist(), real.data["floor"].to_pylist(), strict=True))
    assert set(zip(rows.data["ward"].to_pylist(), rows.data["floor"].to_pylist(), strict=True)) <= seen
    assert "once" not in rows.data["rare"].to_pylist()  # two rows only: protected
    assert 0.12 < rows.data["marker"].null_count / 3000 < 0.28


@pytest.mark.parametrize("asked", [
    ["age > 70"], ["age >= 18", "age < 30", "ill = true"], ["ward in ward 0, ward 2"], ["marker is missing"],
    ["marker is not missing", "marker > 8"], ["floor = floor 1"], ["left >= 2021-01-01", "admitted < 2021-03-01"],
    ["rare != often"], ["stay in 2, 3"], ["age not in 40, 41"]])
def test_conditions_hold_in_every_row(engine: TableEngine, asked: list[str]) -> None:
    rows = engine.sample(300, seed=2, conditions=asked)
    assert len(rows) == 300
    for text in asked:
        assert parse(text, engine.codec).met(rows).all(), text
    assert engine.sample(300, seed=2, conditions=asked).data.equals(rows.data)


def test_conditions_as_an_object(engine: TableEngine) -> None:
    rows = engine.sample(100, conditions={"age": {"min": 20, "max": 25}, "ward": ["ward 1"], "marker": None,
                                          "ill": False})
    assert set(rows.data["ward"].to_pylist()) == {"ward 1"}
    assert rows.data["marker"].null_count == 100
    assert not any(rows.data["ill"].to_pylist())
    assert rows.values("age").min() >= 20
    assert rows.values("age").max() <= 25


def test_what_is_asked_together_has_the_models_own_shares() -> None:
    """Ranges on two dependent columns: importance resampling must give what rejection from free rows gives."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=4000)
    y, z = 0.9 * x + 0.4 * draw.normal(size=4000), x + draw.normal(size=4000)
    data, schema = infer(pa.table({"x": x, "y": y, "z": z}), {}, "test")
    engine = engine_of(Table(schema, data), [])
    asked = ["x > 0.5", "y < 0.8"]
    free = engine.sample(60_000, seed=5)
    kept = np.all([parse(text, engine.codec).met(free) for text in asked], axis=0)
    made = engine.sample(6000, seed=6, conditions=asked)
    for name in ("x", "y", "z"):
        want, have = free.values(name)[kept], made.values(name)
        assert have.mean() == pytest.approx(want.mean(), abs=0.05), name
        assert have.std() == pytest.approx(want.std(), rel=0.1), name


def test_a_number_that_decides_others_is_made_as_it_was_seen() -> None:
    draw = np.random.default_rng(0)
    stores = np.sort(draw.choice(np.arange(1000, 9999), 100, replace=False))
    region, chosen = draw.choice(["north", "south", "mid"], 100), np.r_[np.repeat(np.arange(100), 12),
                                                                       draw.integers(0, 100, 1800)]
    data, schema = infer(pa.table({"store": stores[chosen], "region": region[chosen],
                                   "sales": np.round(draw.lognormal(5, 0.6, 3000), 2)}), {}, "test")
    table = Table(schema, data)
    engine = engine_of(table, [])
    assert [(one.key, one.column) for one in engine.codec.mappings] == [("store", "region")]
    rows = engine.sample(2000)
    assert set(rows.data["store"].to_pylist()) <= set(stores.tolist())
    assert rows.data["region"].null_count == 0
    mid = engine.sample(1000, conditions=["region = mid"])
    assert len(set(mid.data["store"].to_pylist())) > 0.9 * (region == "mid").sum()


def test_several_values_of_one_group_are_all_made() -> None:
    draw = np.random.default_rng(0)
    data, schema = infer(pa.table({"marks": draw.integers(0, 500, 2000), "x": draw.normal(size=2000)}), {}, "test")
    engine = engine_of(Table(schema, data), [])
    asked = engine.sample(400, conditions=["marks in 103, 105"])
    counts = np.bincount(asked.values("marks").astype(int), minlength=106)
    assert counts[103] + counts[105] == 400
    assert min(counts[103], counts[105]) > 100


def test_balance_sets_the_shares(engine: TableEngine) -> None:
    rows = engine.sample(400, balance={"ward": {"ward 0": 0.5, "ward 1": 0.25, "ward 2": 0.25}})
    values = rows.data["ward"].to_pylist()
    assert [values.count(f"ward {n}") for n in range(3)] == [200, 100, 100]
    for balance, match in (({"ward": {"ward 0": 0.5}}, "add up to 0.5"), ({"ward": {"ward 9": 1.0}}, "never seen"),
                           ({"ward": {"ward 0": 1.0}, "ill": {"true": 1.0}}, "2 columns")):
        with pytest.raises(ControlError, match=match):
            engine.sample(10, balance=balance)


@pytest.mark.parametrize(("asked", "match"), [
    (["age > 200"], "goes from 0 to 9"), (["ward = ward 7"], "was never seen"),
    (["rare = once"], "too rare to be made"),
    (["wrad = ward 1"], "did you mean 'ward'"), (["age"], "is no condition"), (["ward > 3"], "holds names"),
    (["age is missing"], "never missing"), (["age > 30", "age < 20"], "nothing meets"), (["age > soon"], "no number"),
    (["left < 2020-10-01", "admitted > 2021-04-01"], "none of")])
def test_what_cannot_be_is_refused(engine: TableEngine, asked: list[str], match: str) -> None:
    with pytest.raises(ControlError, match=match):
        engine.sample(5, conditions=asked)


def test_controls_and_prompts_of_other_media_are_refused(engine: TableEngine) -> None:
    with pytest.raises(ControlError, match="does not understand the control 'steps'"):
        engine.plan(Request(prompt="", controls=Controls(steps=3)))
    with pytest.raises(InputError, match="takes no text"):
        engine.plan(Request(prompt="rows please"))


def test_a_rare_scenario_is_told_as_one(engine: TableEngine) -> None:
    steps = [step for made in engine.steps(engine.plan(Request(prompt="", controls=Controls.parse(
        {"rows": 20, "seed": 1, "conditions": ["age < 5", "ill = true", "stay > 8"]})))) for step in made]
    assert steps[-1].finish == "end"
    assert "scenario" in steps[-1].changes[0]


def test_gaps_are_filled_and_the_rest_is_kept(engine: TableEngine) -> None:
    table = hospital(300, seed=9)
    filled = engine.impute(table, seed=0).table
    assert filled.data["marker"].null_count == 0
    known = ~np.isnan(table.values("marker"))
    assert np.array_equal(filled.values("marker")[known], table.values("marker")[known])
    assert filled.data.drop_columns(["marker"]).equals(table.data.drop_columns(["marker"]))
    ill = np.array(table.data["ill"].to_pylist())
    made = filled.values("marker")
    assert made[~known & ill].mean() > made[~known & ~ill].mean() + 0.5  # drawn given the rest of the row


def test_probabilities_add_up_and_outliers_have_little() -> None:
    draw = np.random.default_rng(1)
    a = draw.integers(0, 3, 600)
    data, schema = infer(pa.table({"a": [f"a{n}" for n in a], "b": [f"b{(n + int(k)) % 3}" for n, k in
                                                                   zip(a, draw.random(600) < 0.2, strict=True)],
                                   "c": [f"c{n}" for n in draw.integers(0, 2, 600)]}), {}, "test")
    engine = engine_of(Table(schema, data), [], links=False)
    every = list(product(("a0", "a1", "a2"), ("b0", "b1", "b2"), ("c0", "c1")))
    whole = Table(engine.codec.schema, pa.table({name: [row[place] for row in every]
                                                 for place, name in enumerate("abc")}))
    found = np.exp(engine.log_prob(whole))
    assert found.sum() == pytest.approx(1, abs=1e-4)
    assert found[every.index(("a0", "b0", "c0"))] > 10 * found[every.index(("a0", "b2", "c0"))]
    chances, levels = engine.predict(whole, "b")
    assert np.allclose(chances.sum(1), 1, atol=1e-5)
    assert levels[int(chances[every.index(("a1", "b2", "c1"))].argmax())] == "b1"
