"""Lineage: a document named by its digest, licences that propagate, the environment a reproduction must match."""

from pathlib import Path

import pytest

import bottega
from bottega.core.energy import Cost, CostMeter
from bottega.core.errors import CorruptError, InputError
from bottega.core.lineage import LINEAGE, Licence, Lineage, Parent, ancestry, code_digest, environment, merge_licences


def _lineage(**changes: object) -> Lineage:
    return Lineage.model_validate({"kind": "model", "name": "m", "content": "0" * 64, "step": "train", **changes})


def test_round_trip_keeps_the_digest(tmp_path: Path) -> None:
    lineage = _lineage(parents=[Parent(kind="dataset", name="d", digest="1" * 64)], parameters={"depth": 4},
                       licences=[Licence(spdx="PSF-2.0", evidence="LICENSE")], cost=Cost(seconds=1.5))
    lineage.save(tmp_path)
    assert Lineage.load(tmp_path) == lineage
    assert Lineage.load(tmp_path).digest == lineage.digest


def test_any_change_changes_the_digest() -> None:
    fixed = {"made": "2026-01-01T00:00:00+00:00"}
    base = _lineage(**fixed).digest
    changes = ({"seed": 1}, {"name": "n"}, {"content": "1" * 64}, {"parameters": {"a": 1}})
    assert len({base, *(_lineage(**fixed, **change).digest for change in changes)}) == 1 + len(changes)
    assert _lineage(**fixed).digest == base


def test_load_of_bad_documents(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        Lineage.load(tmp_path)
    for text in ("{", "[]", '{"kind": "model"}', '{"kind": "sausage"}'):
        (tmp_path / LINEAGE).write_text(text)
        with pytest.raises(CorruptError, match=r"lineage\.json"):
            Lineage.load(tmp_path)


def test_merge_keeps_unknown_and_drops_repeats() -> None:
    psf, unknown = Licence(spdx="PSF-2.0"), Licence()
    assert merge_licences([unknown, psf, psf, unknown]) == merge_licences([psf, unknown])
    assert {licence.spdx for licence in merge_licences([psf, unknown])} == {"PSF-2.0", "unknown"}


def test_ancestry_follows_parents_and_leaves_out_the_lost(tmp_path: Path) -> None:
    data = _lineage(kind="dataset", name="d")
    base = _lineage(name="base", parents=[Parent(kind="dataset", name="d", digest=data.digest)])
    lost = Parent(kind="dataset", name="lost", digest="9" * 64)
    tuned = _lineage(name="tuned", parents=[lost, Parent(kind="model", name="base", digest=base.digest),
                                            Parent(kind="dataset", name="d", digest=data.digest)])
    for place, lineage in (("data/d", data), ("models/base", base), ("models/tuned", tuned)):
        (tmp_path / place).mkdir(parents=True)
        lineage.save(tmp_path / place)
    assert [record.name for record in ancestry(tmp_path / "models/tuned", tmp_path)] == ["tuned", "base", "d"]


def test_environment_names_code_and_parts() -> None:
    found = environment()
    assert found["bottega"] == bottega.__version__
    assert found["code"] == code_digest()
    assert len(found["code"]) == 64
    assert found["torch"].startswith("2.")


def test_costs_add_up_and_a_meter_counts_work() -> None:
    one = Cost(seconds=1, cpu_seconds=2, energy_wh_low=3, energy_wh_high=4, method="m")
    total = Cost() + one + one
    assert (total.seconds, total.cpu_seconds, total.energy_wh_low, total.energy_wh_high) == (2, 4, 6, 8)
    assert total.method == "m"
    meter = CostMeter()
    sum(i * i for i in range(300_000))
    cost = meter.read()
    assert cost.seconds > 0
    assert 0 <= cost.energy_wh_low <= cost.energy_wh_high
    assert cost.method != "none"
