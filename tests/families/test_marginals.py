from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bottega.core.errors import CorruptError, InputError
from bottega.core.table import Column, Schema, Table
from bottega.families.accounting import gaussian_sigma
from bottega.families.marginals import Marginals
from bottega.families.private_columns import Range, histogram, measure, noisy, places, project
from bottega.families.private_pairs import choose, crossed, dependence

KINDS = {"age": ("integer", "int64"), "gain": ("number", "double"), "sex": ("category", "string"),
         "rich": ("boolean", "bool"), "seen": ("datetime", "timestamp[us]"), "one": ("integer", "int32")}
DOMAIN: dict[str, Any] = {"age": (0, 99, 1), "gain": (0, 10, 0.25), "sex": ["f", "m", "x"], "rich": ["false", "true"],
                          "seen": (0, 86_400 * 1000, 86_400), "one": (7, 7, 1)}


def small(rows: int = 2000, names: tuple[str, ...] = tuple(KINDS), seed: int = 0) -> Table:
    """Rich follows age; gain is zero in half of all rows and missing in a tenth."""
    random = np.random.default_rng(seed)
    age = random.integers(20, 60, rows)
    gain = np.where(random.random(rows) < 0.5, 0, random.integers(0, 41, rows) / 4)
    data = {"age": pa.array(age), "gain": pa.array(gain, mask=random.random(rows) < 0.1),
            "sex": pa.array(random.choice(["f", "m"], rows).tolist()), "rich": pa.array(age >= 40),
            "seen": pa.array(random.integers(0, 1000, rows) * 86_400_000_000, pa.timestamp("us")),
            "one": pa.array(np.full(rows, 7), pa.int32())}
    columns = [Column(name=name, kind=KINDS[name][0], arrow=KINDS[name][1]) for name in names]  # type: ignore[arg-type]
    return Table(Schema(columns=columns), pa.table({name: data[name] for name in names}))


def fitted(table: Table, epsilon: float = 1e5, seed: int = 0) -> Marginals:
    return Marginals.fit(table, DOMAIN, epsilon=epsilon, delta=1e-5, seed=seed)


@pytest.fixture(scope="module")
def exact() -> Marginals:
    return fitted(small())


def test_large_epsilon_reproduces_columns_and_links(exact: Marginals) -> None:
    real, made = small(), exact.sample(2000, seed=1)
    assert made.data.schema.types == [pa.type_for_alias(arrow) for _, arrow in KINDS.values()]
    assert made.values("age").mean() == pytest.approx(real.values("age").mean(), abs=0.5)
    assert np.nanmean(made.values("gain") == 0) == pytest.approx(np.nanmean(real.values("gain") == 0), abs=0.04)
    assert np.isnan(made.values("gain")).mean() == pytest.approx(np.isnan(real.values("gain")).mean(), abs=0.01)
    rich = np.array(made.data["rich"].to_pylist())
    assert ((made.values("age") >= 40) == rich).mean() > 0.93  # half would be chance
    assert set(made.data["one"].to_pylist()) == {7}


@pytest.mark.parametrize("epsilon", [0.001, 1.0])
def test_any_epsilon_gives_rows_of_the_domain_and_keeps_the_budget(epsilon: float) -> None:
    model = fitted(small(100), epsilon)
    made = model.sample(300, seed=0)
    assert len(made) == 300
    for name in ("age", "gain", "seen", "one"):
        values = made.values(name)
        values = values[~np.isnan(values)]
        low, high, step = DOMAIN[name]
        assert ((values >= low) & (values <= high)).all()
        assert np.allclose(np.round((values - low) / step), (values - low) / step)
    assert set(made.data["sex"].to_pylist()) <= {"f", "m", "x", None}
    assert model.budget.spent <= model.budget.total * (1 + 1e-9)
    assert model.budget.epsilon_spent <= epsilon * (1 + 1e-6)
    assert model.budget.left < model.budget.total * 1e-6  # what columns did not need went to pairs


def test_a_row_changes_each_statistic_by_at_most_what_is_charged() -> None:
    table = small(300)
    domains = {c.name: (Range(*DOMAIN[c.name]) if c.ordered else tuple(DOMAIN[c.name])) for c in table.schema.columns}
    for drop in (0, 17, 299):
        fewer = table.take(np.delete(np.arange(300), drop))
        both = [{n: places(t, t.schema.column(n), d) for n, d in domains.items()} for t in (table, fewer)]
        for name in domains:
            first = np.arange(0, 100, 10)
            one, other = (histogram(found[name], first, np.full(10, 10)) for found in both)
            assert np.linalg.norm(one - other) <= 1
        pairs = [crossed(found["sex"] + 1, found["rich"] + 1, 4, 3) for found in both]
        assert np.linalg.norm(pairs[0] - pairs[1]) == 1
        public = np.random.default_rng(0).random((4, 3)) * 50
        assert abs(dependence(pairs[0], public) - dependence(pairs[1], public)) <= 1 + 1e-9


def test_every_histogram_is_charged_before_it_is_taken() -> None:
    charged: list[int] = []
    found = np.array([0] * 500 + [54_321] * 300)
    one = measure(found, Range(0, 99_999, 1), 5.0, np.random.default_rng(0), lambda: charged.append(1))
    assert len(charged) == 5  # levels of ten parts each
    spike = np.flatnonzero((one.first == 54_321) & (one.length == 1))
    assert len(spike) == 1
    assert one.counts[spike[0]] == pytest.approx(300, abs=20)


def test_planted_row_cannot_be_told_from_noisy_counts() -> None:
    """The likelihood ratio of any event of one noisy count stays within e^epsilon, up to delta and chance."""
    random, sigma, epsilon = np.random.default_rng(0), gaussian_sigma(0.05), 1.5
    without, with_row = noisy(np.full(200_000, 10), sigma, random), noisy(np.full(200_000, 11), sigma, random)
    for edge in range(0, 22, 2):
        for one, other in ((without >= edge, with_row >= edge), (without < edge, with_row < edge)):
            assert one.mean() <= np.exp(epsilon) * other.mean() + 2e-3
            assert other.mean() <= np.exp(epsilon) * one.mean() + 2e-3
    assert without.std() == pytest.approx(sigma, rel=0.02)


def test_same_seed_same_bytes_and_folder(exact: Marginals, tmp_path: Path) -> None:
    again = fitted(small())
    exact.save(tmp_path / "one")
    again.save(tmp_path / "two")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    loaded = Marginals.load(tmp_path / "one")
    assert loaded.sample(50, seed=3).data.equals(exact.sample(50, seed=3).data)
    assert not exact.sample(50, seed=4).data.equals(exact.sample(50, seed=3).data)
    assert loaded.privacy_card() == exact.privacy_card()
    (tmp_path / "one" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CorruptError):
        Marginals.load(tmp_path / "one")


def test_conditions_are_met_and_move_what_is_linked(exact: Marginals) -> None:
    made = exact.sample(400, seed=0, conditions={"age": (45, 50), "sex": ["f"], "gain": None})
    assert ((made.values("age") >= 45) & (made.values("age") <= 50)).all()
    assert set(made.data["sex"].to_pylist()) == {"f"}
    assert np.isnan(made.values("gain")).all()
    assert np.mean(made.data["rich"].to_pylist()) > 0.9
    young = exact.sample(400, seed=0, conditions={"rich": False})
    assert (young.values("age") < 40).mean() > 0.9
    assert set(exact.sample(5, seed=0, conditions={"sex": "x"}).data["sex"].to_pylist()) == {"x"}  # never seen


@pytest.mark.parametrize("conditions", [{"age": 100}, {"age": (50, 40)}, {"age": "old"}, {"sex": "q"}, {"sex": []},
                                        {"nobody": 1}, {"age": (100, 120)}])
def test_impossible_conditions(exact: Marginals, conditions: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        exact.sample(5, seed=0, conditions=conditions)


def test_domains_are_asked_for_and_checked() -> None:
    for name, wrong in [("age", None), ("age", (5, 1, 1)), ("age", "young"), ("sex", "fm"), ("sex", ["f", "f"])]:
        domain = {key: value for key, value in DOMAIN.items() if key != name} | ({name: wrong} if wrong else {})
        with pytest.raises(InputError, match=name):
            Marginals.fit(small(50), domain, epsilon=1, delta=1e-5, seed=0)
    with pytest.raises(InputError, match="target"):
        Marginals.fit(small(50), DOMAIN, epsilon=1, delta=1e-5, seed=0, targets=["nobody"])


def test_what_is_outside_the_domain_is_clipped_or_missing() -> None:
    table = small(50, ("age", "sex"))
    assert places(table, table.schema.column("age"), Range(30, 40, 1)).max() == 10
    assert places(table, table.schema.column("sex"), ("f",)).min() == -1


@pytest.mark.parametrize("name", ["age", "sex", "one"])
def test_one_column_and_no_rows(name: str) -> None:
    assert len(fitted(small(500, (name,)), 1.0).sample(20, seed=0)) == 20
    assert len(fitted(small(0, (name,)), 1.0).sample(20, seed=0)) == 20


def test_projection_and_choice() -> None:
    assert project(np.array([5.0, -3.0, 1.0]), 4.0).tolist() == [4.0, 0.0, 0.0]
    taken, sigma = choose(np.array([900.0, 5.0, 800.0]), np.array([4, 400, 4]), np.zeros(3, np.bool_), 0.01)
    assert taken.tolist() == [0, 2]
    assert sigma == pytest.approx(gaussian_sigma(0.005))


def test_card_says_what_is_public(exact: Marginals) -> None:
    card = exact.privacy_card()
    assert card["unit"] == "one row"
    assert card["public"]["domain"]["sex"] == ["f", "m", "x"]
    assert sum(entry["rho"] for entry in card["ledger"]) == pytest.approx(card["rho"]["spent"])
