"""Rows of a rare class: so many, of the class, and those that trees of the real rows believe."""

from pathlib import Path

import numpy as np
import pytest

from bottega import tables
from bottega.core.errors import InputError
from bottega.evaluation.statistics import auc
from bottega.evaluation.table_augmentation import class_chances, convincing, f1, rare
from tests.evaluation.test_tables import people, table
from tests.table_models import make_table_model


def test_the_rarest_class_is_found_and_filled_halfway_to_a_half() -> None:
    of = rare(table(a=[1.0] * 100, kind=["x"] * 90 + ["y"] * 10), "kind")
    assert (of.level, of.support, of.labelled) == ("y", 10, 100)
    assert of.missing() == 29  # 39 of 129 are 30 %, halfway from 10 % to a half
    assert of.missing(0.5) == 80
    with pytest.raises(InputError, match="rare class"):
        of.missing(0.05)
    with pytest.raises(InputError, match="no 'z'"):
        rare(table(a=[1.0, 2.0], kind=["x", "y"]), "kind", "z")
    with pytest.raises(InputError, match="number"):
        rare(table(a=[1.0, 2.0], kind=["x", "y"]), "a")
    with pytest.raises(InputError, match="two classes"):
        rare(table(a=[1.0, 2.0], kind=["x", "x"]), "kind")


def test_convincing_rows_are_those_that_look_like_the_class() -> None:
    train = people(300, 0)
    of = rare(train, "ill", "yes")
    drawn = table(age=[20.0, 70.0, 25.0, 65.0], pay=[1000.0, 3500.0, 1250.0, 3250.0], height=[170.0] * 4,
                  ill=["yes"] * 4, town=["north"] * 4)
    assert sorted(convincing(train, drawn, of, 2).values("age")) == [65, 70]


def test_a_class_that_is_not_there_is_never_told() -> None:
    train, test = people(200, 0), people(100, 1)
    codes, levels = train.codes("ill")
    well = train.take(np.flatnonzero(codes == levels.index("no")))
    truth, chances = class_chances(rare(train, "ill", "yes"), test, {"real": train, "none": well}, 0)
    assert not chances["none"].any()
    assert auc(chances["real"][truth], chances["real"][~truth])["low"] > 0.6
    assert f1(truth, truth) == 1
    assert f1(~truth, truth) == 0


def test_augment_makes_rows_of_the_class(tmp_path: Path) -> None:
    model = tables.load(make_table_model(tmp_path))
    real = model.sample(300, seed=1)
    of = rare(real, "active")
    more = tables.augment(real, "active", model=model, seed=2)
    assert len(more) == of.missing()
    codes, levels = more.codes("active")
    assert {levels[code] for code in codes} == {of.level}
    assert more.data.equals(tables.augment(real, "active", model=model, seed=2).data)
    assert len(tables.augment(real, "city", level="Bari, old town", share=0.5, model=model)) > 0
