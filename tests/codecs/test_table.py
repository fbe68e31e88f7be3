"""Tables to codes and back: what is kept exactly, what is protected, what rules guarantee."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bottega.codecs.table import TableCodec
from bottega.codecs.table_coding import Fitted, fit_values
from bottega.codecs.table_decimals import decimals_of
from bottega.core.errors import RecipeError
from bottega.core.table import Column, Table
from bottega.data.tables.infer import infer

NUMBER = Column(name="x", kind="number", arrow="double")


def table_of(columns: dict[str, Any]) -> Table:
    data, schema = infer(pa.table(columns), {}, "test")
    return Table(schema, data)


def learned(table: Table, **spec: Any) -> tuple[TableCodec, Table]:
    codec = TableCodec.of(spec).learn(table)
    return codec, codec.decode(*codec.encode(table), rng=np.random.default_rng(0))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=200), st.integers(1, 8))
def test_any_numbers_are_coded_and_stay_in_their_range(values: list[float | None], protect: int) -> None:
    array = np.array([np.nan if value is None else value for value in values])
    fitted = Fitted(fit_values(NUMBER, array, codes=16, protect=protect))
    codes, places = fitted.encode_values(array)
    back = fitted.decode_values(codes, places)
    assert np.array_equal(np.isnan(back), np.isnan(array))
    if (~np.isnan(array)).any():
        assert np.nanmin(back) >= np.nanmin(array) - 1e-6
        assert np.nanmax(back) <= np.nanmax(array) + 1e-6
    assert 0 <= codes.min() <= codes.max() < fitted.coding.size
    assert sum(fitted.coding.share) == pytest.approx(1)


def test_values_on_both_sides_of_a_spike_are_not_taken_for_it() -> None:
    draw = np.random.default_rng(0)
    values = np.concatenate([np.repeat([0.0, 50.0, 70.0], [800, 100, 60]), draw.uniform(40, 90, 120).round(1)])
    fitted = Fitted(fit_values(NUMBER, values, codes=8, protect=1))
    codes, places = fitted.encode_values(values)
    shares = np.bincount(codes, minlength=fitted.coding.size) / len(values)
    assert shares == pytest.approx(np.array(fitted.coding.share), abs=1e-9)
    assert np.abs(fitted.decode_values(codes, places) - values).max() < 3
    assert codes[800] != codes[900]
    assert (codes[:800] == codes[0]).all()
    between = fitted.encode_values(np.array([-5.0, 50.0, 57.77, 62.22, 200.0]))[0]
    assert between[0] == codes[0]
    assert between[1] == codes[800]
    assert not {between[2], between[3]} & {codes[800], codes[900]}


def test_values_that_repeat_lie_in_the_middle_of_what_becomes_them() -> None:
    values = np.random.default_rng(0).integers(0, 300, 3000).astype(float)
    values[:40] = 299.0
    fitted = Fitted(fit_values(NUMBER.model_copy(update={"decimals": 0}), values, codes=16, protect=5))
    codes, places = fitted.encode_values(values)
    assert np.array_equal(fitted.decode_values(codes, places)[values < 298], values[values < 298])
    inside = np.array([len(grid) > 1 for grid in fitted.coding.grids])[codes]
    assert inside.mean() > 0.7
    assert places[inside].mean() == pytest.approx(0.5, abs=0.02)
    assert np.mean(places[inside] > 0.95) < 0.08  # the last of equal points would be 0.999


def test_the_reach_of_a_group_that_spans_the_outermost_spike_is_its_own() -> None:
    values = np.concatenate([np.repeat([10.0, 20.0], 100), [8.0] * 3, [30.0] * 3, [9.0] * 2])
    coding = fit_values(NUMBER, values, codes=8, protect=1)
    fitted = Fitted(coding)
    made = fitted.decode_values(*(part.astype(kind) for part, kind in
                                  zip(fitted.encode_values(values), (np.int32, float), strict=True)))
    assert (made.min(), made.max()) == coding.reach
    assert coding.reach == (8.0, 30.0)


@pytest.mark.parametrize(("most", "own"), [(150, 150), (700, 8)])
def test_a_list_of_values_has_a_code_for_each_and_any_number_for_few(most: int, own: int) -> None:
    draw = np.random.default_rng(0)
    values = np.concatenate([draw.permutation(5000)[:most] / 4] * 20)
    values = np.concatenate([values, np.repeat(2000.0, 200), draw.uniform(0, 1000, 0 if most == 150 else 300)])
    coding = fit_values(NUMBER, values, codes=64, protect=5)
    assert sum(coding.spikes) == pytest.approx(own + 1, abs=8 if most > 150 else 4)


def test_spikes_are_exact_and_single_values_are_not_kept() -> None:
    draw = np.random.default_rng(0)
    values = np.where(draw.random(5000) < 0.9, 0.0, draw.lognormal(8, 1, 5000))
    values[:40], values[40] = 15024.0, 1e9
    coding = fit_values(NUMBER, values, codes=64, protect=5)
    assert [0.0] in coding.grids
    assert [15024.0] in coding.grids
    assert max(grid[-1] for grid in coding.grids) < 1e6  # the one largest value belongs to one row
    fitted = Fitted(coding)
    back = fitted.decode_values(*fitted.encode_values(values))
    assert np.abs(back[values == 15024.0] - 15024.0).max() == 0
    codes, _ = fitted.encode_values(values)
    drawn = fitted.decode_values(codes, draw.random(len(codes)))
    exact = np.isin(drawn[(values > 0) & (values != 15024.0)], values)
    assert exact.mean() < 0.2  # groups are drawn between their values


def test_rare_levels_are_pooled_and_never_named() -> None:
    table = table_of({"city": ["Rome"] * 40 + ["Bari"] * 10 + [f"village {n}" for n in range(4)], "n": list(range(54))})
    codec, _ = learned(table)
    coding = codec.latents[0].coding
    assert coding.column.levels == ["Rome", "Bari"]
    assert coding.rare
    assert coding.forbidden == [2]
    assert "village" not in str(codec._saved()["latents"])


def test_names_of_rare_levels_are_not_in_the_file(tmp_path: Path) -> None:
    table = table_of({"ward": ["a", "b"] * 50 + ["zebra fever"], "age": list(range(101))})
    codec, _ = learned(table, protect=5)
    codec.save(tmp_path)
    assert "zebra" not in (tmp_path / "table_codec.json").read_text()
    assert TableCodec.load(tmp_path).made_levels("ward") == ["a", "b"]
    assert learned(table, protect=1)[0].schema.column("ward").levels == ["a", "b", "zebra fever"]


@pytest.mark.parametrize(("values", "kind", "decimals"), [
    ([0.25, 1.5], "number", 2), ([1.0, 7.0], "number", 0), ([1000.0, 3000.0], "number", -3),
    ([1 / 3, 2.0], "number", None),
    ([86400.0, 172800.0], "datetime", -3), ([3600.0, 7200.0], "datetime", -2), ([1.5, 2.0], "datetime", 1)])
def test_the_rounding_of_a_column_is_found(values: list[float], kind: str, decimals: int | None) -> None:
    assert decimals_of(np.array(values), kind) == decimals


def test_a_round_trip_keeps_types_levels_and_gaps() -> None:
    draw = np.random.default_rng(1)
    count = 400
    table = table_of({
        "age": pa.array(draw.integers(18, 80, count), pa.int32()),
        "when": pa.array(draw.integers(0, 10**6, count) * 86400, pa.timestamp("s")),
        "name": pa.array([None if n % 7 == 0 else "ab"[n % 2] for n in range(count)]),
        "yes": pa.array(draw.random(count) < 0.3), "id": pa.array([f"P-{n:05}" for n in range(count)]),
        "price": pa.array(np.round(draw.lognormal(3, 1, count), 2)), "void": pa.array([None] * count, pa.string())})
    _, back = learned(table)
    assert back.data.schema.equals(table.data.schema)
    assert back.data["name"].to_pylist() == table.data["name"].to_pylist()
    assert back.data["yes"].equals(table.data["yes"])
    assert back.data["void"].null_count == count
    assert len(set(back.data["id"].to_pylist())) == count
    assert not set(back.data["id"].to_pylist()) & set(table.data["id"].to_pylist())
    assert np.abs(back.values("price") * 100 - np.rint(back.values("price") * 100)).max() < 1e-6
    assert np.median(np.abs(back.values("age") - table.values("age"))) == 0
    assert (back.values("when") % 86400 == 0).all()


def test_links_are_found_and_computed() -> None:
    draw = np.random.default_rng(2)
    grade = draw.integers(0, 5, 300)
    table = table_of({"school": [f"level {n}" for n in grade], "years": [int(3 * n + 2) for n in grade],
                      "other": draw.integers(0, 4, 300).tolist()})
    codec, _ = learned(table)
    assert [(one.key, one.column) for one in codec.mappings] == [("school", "years")]
    codes, places = codec.encode(table)
    mixed = codec.decode(draw.permutation(codes), places, rng=draw)
    pairs = set(zip(mixed.data["school"].to_pylist(), mixed.data["years"].to_pylist(), strict=True))
    assert pairs == set(zip(table.data["school"].to_pylist(), table.data["years"].to_pylist(), strict=True))
    assert not learned(table, links=False)[0].mappings


RULES = ["low <= high", "low < top", "total == low + 2 * high", "city -> land", "(make, model)", "low >= 0"]


def ruled(count: int = 500) -> Table:
    draw = np.random.default_rng(3)
    low = draw.integers(0, 50, count).astype(float)
    high = low + draw.integers(0, 30, count)
    city = draw.integers(0, 6, count)
    make = draw.integers(0, 3, count)
    return table_of({"low": low, "high": high, "top": low + 1 + draw.integers(0, 9, count), "total": low + 2 * high,
                     "city": [f"c{n}" for n in city], "land": [f"l{n // 2}" for n in city],
                     "make": [f"m{n}" for n in make],
                     "model": [f"{n}-{k}" for n, k in zip(make, draw.integers(0, 3, count), strict=True)]})


def test_rules_hold_for_any_codes_at_all() -> None:
    table = ruled()
    codec = TableCodec.of({"rules": RULES}).learn(table)
    draw = np.random.default_rng(4)
    codes = np.stack([draw.integers(0, latent.coding.shown, 20_000) for latent in codec.latents], 1).astype(np.int32)
    made = codec.decode(codes, draw.random(codes.shape).astype(np.float32), rng=draw)
    for rule in codec.rules:
        assert not rule.broken(made).any(), rule.text
    seen = set(zip(table.data["make"].to_pylist(), table.data["model"].to_pylist(), strict=True))
    assert set(zip(made.data["make"].to_pylist(), made.data["model"].to_pylist(), strict=True)) <= seen
    lands = dict(zip(table.data["city"].to_pylist(), table.data["land"].to_pylist(), strict=True))
    assert all(lands[city] == land for city, land in zip(made.data["city"].to_pylist(), made.data["land"].to_pylist(),
                                                         strict=True))
    _, back = learned(table, rules=RULES)
    assert np.abs(back.values("high") - table.values("high")).max() <= 2


def test_an_order_with_gaps_on_either_side() -> None:
    draw = np.random.default_rng(5)
    low = draw.integers(0, 50, 300).astype(float)
    high = low + draw.integers(0, 30, 300)
    low[::5], high[::7] = np.nan, np.nan
    table = table_of({"low": pa.array(low, from_pandas=True), "high": pa.array(high, from_pandas=True)})
    codec, back = learned(table, rules=["low <= high"])
    assert not codec.rules[0].broken(back).any()
    assert np.array_equal(np.isnan(back.values("high")), np.isnan(high))


@pytest.mark.parametrize(("rules", "match"), [
    (["low <="], "not a rule"), (["lo <= high"], "'lo' that is not there"), (["city <= high"], "needs numbers"),
    (["low <= high", "top <= low", "high <= top"], "circle"), (["total == low + high", "low <= total"], "both decide"),
    (["total == low ** 2"], "more than"), (["low == low"], "must give one column"),
    (["low <= high <= top <= 3"], "at once"),
    (["__import__('os')"], "not a rule"), (["low <= 'soon'"], "no number and no date")])
def test_rules_that_cannot_be_are_refused(rules: list[str], match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        TableCodec.of({"rules": rules}).learn(ruled())


def test_a_codec_is_saved_and_read(tmp_path: Path) -> None:
    codec, _ = learned(ruled(), rules=RULES)
    codec.save(tmp_path)
    assert TableCodec.load(tmp_path).digest == codec.digest
    (tmp_path / "table_codec.json").write_text("{}")
    with pytest.raises(Exception, match="table_codec"):
        TableCodec.load(tmp_path)
