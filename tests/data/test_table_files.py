"""Tables from files: what is read, what is guessed, what is refused, what is left out and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bottega.codecs.table import TableCodec
from bottega.core.errors import BottegaError, DataError, InputError, RecipeError
from bottega.core.recipe import DataSpec
from bottega.data.tables.dataset import TableDataset
from bottega.data.tables.infer import infer
from bottega.data.tables.prepare import prepare_table
from bottega.data.tables.read import BUILT_IN, read


def _file(folder: Path, content: str | bytes, name: str = "t.csv") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def _rows(count: int = 60) -> str:
    draw = np.random.default_rng(0)
    lines = [f"P{n:03},{draw.integers(18, 90)},{draw.normal():.3f},{'yes' if draw.random() < 0.4 else 'no'},"
             f"2024-01-{n % 28 + 1:02}" for n in range(count)]
    return "patient_id,age,score,smoker,day\n" + "\n".join(lines) + "\n"


def _kinds(source: str, **kinds: Any) -> dict[str, str]:
    _, schema = infer(read(source, []), kinds, source)
    return {column.name: column.kind for column in schema.columns}


def test_types_are_guessed_and_can_be_given(tmp_path: Path) -> None:
    source = _file(tmp_path, _rows())
    assert _kinds(source) == {"patient_id": "id", "age": "integer", "score": "number", "smoker": "category",
                              "day": "datetime"}
    assert _kinds(source, age="category", patient_id="text")["age"] == "category"
    assert read(source, [])["day"].type == pa.date32()
    with pytest.raises(RecipeError, match="did you mean 'age'"):
        _kinds(source, agee="category")
    with pytest.raises(DataError, match="'smoker' cannot be of kind number"):
        _kinds(source, smoker="number")


def test_semicolons_quotes_spaces_missing_words_and_other_encodings(tmp_path: Path) -> None:
    text = "name;size;note\n Zoë ; 1,5 ;\"a;b\"\nÅke;?;NA\n\"two\nlines\";3;x\n"
    for number, encoding in enumerate(("utf-8", "utf-8-sig", "cp1252", "utf-16")):
        table = read(_file(tmp_path, text.encode(encoding), f"{number}.csv"), [])
        assert table["name"].to_pylist() == ["Zoë", "Åke", "two\nlines"], encoding
        assert table["note"].to_pylist() == ["a;b", None, "x"]
        assert table["size"].to_pylist() == [1.5, None, 3.0]
    assert read(_file(tmp_path, "1,a\n2,b\n"), ["n", "c"]).to_pylist() == [{"n": 1, "c": "a"}, {"n": 2, "c": "b"}]
    assert read(_file(tmp_path, "code,n\n007,1\n012,2\n"), [])["code"].to_pylist() == ["007", "012"]


@pytest.mark.parametrize(("content", "match"), [
    ("", "is empty"), ("a,b\n", "holds no rows"), ("a,a\n1,2\n", "two columns are named 'a'"),
    ("a,,b\n1,2,3\n", "has no name"), ("a,b\n1,2\n3\n", "no table of 2 columns"),
    ("a,b\n1,inf\n2,3\n4,-inf\n", "'b' holds 2 infinite values: inf in line 2, -inf in line 4")])
def test_what_is_no_table_is_refused_with_its_place(tmp_path: Path, content: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read(_file(tmp_path, content), [])


def test_formulas_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = read(_file(tmp_path, "n,f\n" + "".join(f"{n},{'=1+1' if n == 3 else 'x'}\n" for n in range(40))), [])
    assert "'f' holds what a spreadsheet would run as a formula, such as '=1+1'" in capsys.readouterr().err
    assert table["f"].to_pylist()[3] == "=1+1"


def test_parquet_keeps_types_and_refuses_lists(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"c": pa.array(["x", "y"]).dictionary_encode(), "d": pa.array([1, 2], pa.int8()),
                             "n": pa.nulls(2)}), path)
    assert [str(field.type) for field in read(str(path), []).schema] == ["string", "int8", "string"]
    pq.write_table(pa.table({"l": [[1], [2]]}), path)
    with pytest.raises(DataError, match="'l' holds list"):
        read(str(path), [])
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="not readable as Parquet"):
        read(str(path), [])


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no table 'breast-cancr'") as error:
        read("breast-cancr", [])
    assert "breast-cancer" in str(error.value)
    with pytest.raises(InputError, match="no CSV and no Parquet"):
        read(_file(tmp_path, "x", "t.xlsx"), [])


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_sets(name: str) -> None:
    table = read(name, [])
    assert table.num_rows > 100
    assert not any(" " in column for column in table.column_names)


def _prepared(folder: Path, source: str, codec: dict[str, Any] | None = None, **data: Any) -> TableDataset[TableCodec]:
    return prepare_table(DataSpec(sources=[source], validation=0.2, **data), TableCodec.of(codec or {}),
                         home=folder / "home")


def test_a_table_is_prepared_once_and_proves_itself(tmp_path: Path) -> None:
    source = _file(tmp_path, _rows(200))
    first = _prepared(tmp_path, source)
    assert first.path == _prepared(tmp_path, source).path
    train, held = first.table("train"), first.table("validation")
    assert len(train) + len(held) == 200
    assert 15 < len(held) < 65
    assert first.codes("train").shape == (len(train), len(first.codec.latents))
    assert first.codec.rows == len(train)
    changed = _prepared(tmp_path, source, {"protect": 3})
    assert changed.path != first.path
    (first.path / "rows-train.parquet").write_bytes(b"x")
    with pytest.raises(BottegaError, match=r"rows-train\.parquet"):
        TableDataset.open(first.path, TableCodec)
    assert _prepared(tmp_path, source).digest == first.digest  # made again


def test_rows_that_break_a_rule_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = _file(tmp_path, "low,high\n" + "".join(f"{n},{n + 5 if n % 10 else n - 1}\n" for n in range(100)))
    data = _prepared(tmp_path, source, {"rules": ["low <= high"]})
    assert data.card["bottega"]["dropped"] == {"low <= high": 10}
    assert "10 of 100 rows break 'low <= high'" in capsys.readouterr().err


@pytest.mark.parametrize(("different", "shared"), [(360, 0.0), (40, 1.0)])
def test_few_equal_rows_are_on_one_side_and_many_on_both(tmp_path: Path, different: int, shared: float) -> None:
    """A row entered twice is held out twice; where few rows are possible, held-out ones equal others as new ones do."""
    source = _file(tmp_path, "a,b\n" + "".join(f"{n % different},{n % different * 2}\n" for n in range(400)))
    data = _prepared(tmp_path, source)
    train, held = ([tuple(row.values()) for row in data.table(split).data.to_pylist()]
                   for split in ("train", "validation"))
    assert np.mean([row in set(train) for row in held]) == shared
    assert 60 <= len(held) <= 100  # a fifth


@pytest.mark.parametrize(("content", "codec", "match"), [
    ("a,b\n1,2\n3,4\n", {}, "too few for anyone to hide"), ("a\n" + "x,y\n" * 0 + "7\n" * 1, {}, "too few"),
    ("id\n" + "".join(f"a{n}\n" for n in range(60)), {}, "no column to learn")])
def test_tables_nobody_can_learn_from(tmp_path: Path, content: str, codec: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        _prepared(tmp_path, _file(tmp_path, content), codec)


def test_odd_tables_are_prepared(tmp_path: Path) -> None:
    constant = _prepared(tmp_path, _file(tmp_path, "a,b\n" + "1,\n" * 50))
    assert constant.codec.sizes == [1, 1]
    many = _prepared(tmp_path, _file(tmp_path, "c,n\n" + "".join(f"k{n % 10000},{n}\n" for n in range(30000)), "m.csv"))
    assert many.codec.sizes[0] < 3000  # most of 10,000 levels have fewer than five rows in training
    small = _prepared(tmp_path, _file(tmp_path, "a,b\n1,x\n2,y\n3,x\n", "s.csv"), {"protect": 1})
    assert len(small.table("train")) + len(small.table("validation")) == 3


def test_texts_settings_are_refused(tmp_path: Path) -> None:
    source = _file(tmp_path, _rows())
    with pytest.raises(RecipeError, match="languages"):
        _prepared(tmp_path, source, languages=["en"])
    with pytest.raises(RecipeError, match="one source"):
        prepare_table(DataSpec(sources=[source, source]), TableCodec.of({}), home=tmp_path)
    with pytest.raises(RecipeError, match="'hig' that is not there"):
        _prepared(tmp_path, source, {"rules": ["age <= hig"]})
