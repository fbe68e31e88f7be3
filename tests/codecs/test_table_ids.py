"""Ids that are made in several chunks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bottega.codecs.table_ids import FreshIds
from bottega.core.table import Column


@pytest.mark.parametrize("column", [Column(name="a", kind="id", arrow="int64", high=9.0),
                                    Column(name="a", kind="id", arrow="string", pattern="A0"),
                                    Column(name="a", kind="id", arrow="large_string", pattern="é-0000")])
def test_no_id_is_given_out_twice(column: Column) -> None:
    ids, found = FreshIds(), list[object]()
    for chunk in range(5):
        made = ids.take(column, 300, np.random.default_rng(chunk))
        assert len(made) == 300
        found += made.to_pylist()
    assert len(set(found)) == 1500
    if column.arrow == "int64":
        assert min(found) == 10  # type: ignore[type-var]
    else:
        assert pa.types.is_large_string(made.type) == (column.arrow == "large_string")
