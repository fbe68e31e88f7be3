"""Tables with an entity column, and two tables that a key links, from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from tests.table_visits import joined, visits

from bottega.codecs.table import TableCodec
from bottega.core.errors import BottegaError, DataError, RecipeError
from bottega.core.recipe import DataSpec
from bottega.data.tables.dataset import TableDataset
from bottega.data.tables.prepare import prepare_table


def _prepare(folder: Path, *parts: pa.Table, limit: int | None = None, **codec: Any) -> TableDataset[TableCodec]:
    sources = []
    for number, part in enumerate(parts):
        sources.append(str(folder / f"part-{number}.parquet"))
        pq.write_table(part, sources[-1])
    return prepare_table(DataSpec(sources=sources, validation=0.2, limit=limit), TableCodec.of(codec), home=folder)


def test_what_is_constant_is_found_and_no_entity_is_on_both_sides(tmp_path: Path) -> None:
    data = _prepare(tmp_path, joined(*visits(60)), entity="patient_id", order="admit")
    layout = data.codec.layout
    assert layout is not None
    assert (set(layout.constant), set(layout.varying)) == ({"age", "severity"}, {"hb", "drug", "discharge"})
    assert layout.units == {"admit": 86400.0, "discharge": 86400.0}
    entities = data.card["bottega"]["entities"]
    assert entities["train"] + entities["validation"] == 60
    firsts = [len(data.codec.first_rows(np.asarray(data.codes(split)))) for split in ("train", "validation")]
    assert firsts == [entities["train"], entities["validation"]]
    again = TableCodec.load(data.path)
    assert (again.layout, again.entities, again.digest) == (layout, entities["train"], data.codec.digest)


def test_entities_without_rows_are_kept_of_two_tables(tmp_path: Path) -> None:
    patients, rows = visits(80, least=0)
    data = _prepare(tmp_path, patients, rows, entity="patient_id", order="admit")
    layout = data.codec.layout
    assert layout is not None
    assert layout.parent == ["patient_id", "age", "severity"]
    assert layout.child == ["patient_id", "admit", "hb", "drug", "discharge"]
    empty = sum(int((data.table(split).values("rows of patient_id") == 0).sum()) for split in ("train", "validation"))
    assert empty == 80 - len(set(rows["patient_id"].to_pylist()))
    assert empty > 0


@pytest.mark.parametrize("order", ["", "turn"])
def test_entities_with_one_row_each(tmp_path: Path, order: str) -> None:
    table = pa.table({"who": [f"Ж{n}" for n in range(40)], "turn": [n % 3 for n in range(40)],
                      "colour": ["rot", "grün"] * 20})
    data = _prepare(tmp_path, table, entity="who", order=order)
    assert data.codec.layout is not None
    assert data.codec.layout.varying == []
    assert len(data.table("train")) + len(data.table("validation")) == 40


def test_a_limit_counts_entities(tmp_path: Path) -> None:
    data = _prepare(tmp_path, joined(*visits(60)), entity="patient_id", limit=30)
    assert sum(data.card["bottega"]["entities"].values()) == 30


def test_an_entity_with_a_broken_row_is_left_out(tmp_path: Path) -> None:
    table = joined(*visits(60)).sort_by("patient_id")
    hb = table["hb"].to_numpy().copy()
    hb[0] = -5.0
    data = _prepare(tmp_path, table.set_column(table.column_names.index("hb"), "hb", pa.array(hb)),
                    entity="patient_id", order="admit", rules=["hb > 0"])
    assert sum(data.card["bottega"]["entities"].values()) == 59
    assert data.card["bottega"]["dropped"] == {"hb > 0": 1}


def test_keys_that_are_floats_are_whole_numbers(tmp_path: Path) -> None:
    data = _prepare(tmp_path, pa.table({"who": [float(n // 2) for n in range(80)], "x": [n % 7 for n in range(80)]}),
                    entity="who")
    assert data.codec.given.column("who").arrow == "int64"


_MANY = pa.table({"who": [n // 2 for n in range(80)], "x": [n % 7 for n in range(80)]})


@pytest.mark.parametrize(("table", "codec", "told"), [
    (_MANY, {"entity": "whom"}, "codec.entity names 'whom'"),
    (_MANY, {"entity": "who", "order": "when"}, "codec.order names 'when'"),
    (_MANY, {"entity": "who", "order": "who"}, "both the entity and the order"),
    (_MANY, {"order": "x"}, "no column says which rows belong together"),
    (_MANY, {"entity": "who", "columns": {"y": "number"}}, "codec.columns names 'y'"),
    (pa.table({"who": ["a"] * 40, "x": list(range(40))}), {"entity": "who"}, "has 1 usable 'who'"),
    (pa.table({"who": ["a", None, "b"] * 20, "x": list(range(60))}), {"entity": "who"},
     "'who' is missing in 20 rows: 2, 5"),
    (pa.table({"who": ["a", "b"] * 20, "x": [1, None] * 20}), {"entity": "who", "order": "x"},
     "'x' is missing in 20 rows"),
    (pa.table({"who": [n // 2 for n in range(60)], "x": ["a", "b", "c"] * 20}), {"entity": "who", "order": "x"},
     "has no order"),
    (pa.table({"who": [n / 2 for n in range(60)], "x": [1, 2] * 30}), {"entity": "who"}, "names no entity"),
    (_MANY.append_column("rows of who", pa.array([1, 2] * 40)), {"entity": "who"}, "a column is named 'rows of who'"),
])
def test_what_cannot_be_read_is_said(tmp_path: Path, table: pa.Table, codec: dict[str, Any], told: str) -> None:
    with pytest.raises(BottegaError, match=told):
        _prepare(tmp_path, table, **codec)


@pytest.mark.parametrize(("change", "told"), [
    ({"who": ["a", "b", "zz"]}, "1 rows of .* point at no row of .*: 'who' = 'zz'"),
    ({"who": ["a", None, "b"]}, "'who' is missing in 1 rows: 2"),
    ({"size": [1, 2, 3]}, "both tables have a column 'size'"),
])
def test_keys_that_do_not_fit_are_said(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    parent = pa.table({"who": ["a", "b", "c"], "size": [1, 2, 3]})
    with pytest.raises(DataError, match=told):
        _prepare(tmp_path, parent, pa.table({"who": ["a", "a", "b"], "x": [1, 2, 3], **change}), entity="who")
    with pytest.raises(DataError, match="'who' = 'a' is in 2 rows"):
        _prepare(tmp_path, pa.table({"who": ["a", "a"], "y": [1, 2]}), pa.table({"who": ["a"], "x": [1]}), entity="who")
    with pytest.raises(RecipeError, match="a table has one source"):
        _prepare(tmp_path, parent, parent)


def test_keys_of_two_types_meet(tmp_path: Path) -> None:
    csv.write_csv(pa.table({"who": list(range(40)), "size": [n % 5 for n in range(40)]}), tmp_path / "a.csv")
    pq.write_table(pa.table({"who": [str(n % 40) for n in range(90)], "x": [n % 3 for n in range(90)]}),
                   tmp_path / "b.parquet")
    data = prepare_table(DataSpec(sources=[str(tmp_path / "a.csv"), str(tmp_path / "b.parquet")]),
                         TableCodec.of({"entity": "who"}), home=tmp_path)
    assert data.codec.entities + data.card["bottega"]["entities"]["validation"] == 40
