"""What is told of how a table was read: columns that a few cells spoil, columns that come out empty, number marks."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from bottega.codecs.table import TableCodec
from bottega.core.errors import DataError
from bottega.core.recipe import DataSpec
from bottega.data.tables.dataset import TableDataset
from bottega.data.tables.prepare import prepare_table
from bottega.data.tables.read import read

DAYS = [str(date(2020, 1, 1) + timedelta(days=n)) for n in range(300)]
SPOILED = [*DAYS[:100], "2021-02-30", "9999-99-99", "12021-01-01", *DAYS[100:]]
WEIGHTS = [f"{n * 1.5}" if n not in (7, 9) else "12 kg" for n in range(300)]


def _column(folder: Path, name: str, cells: list[str], delimiter: str = ",") -> str:
    path = folder / f"{name}.csv"
    lines = "".join(f'"{cell}"{delimiter}{n % 7}\n' for n, cell in enumerate(cells))
    path.write_text(f"{name}{delimiter}other\n{lines}")
    return str(path)


def _prepared(source: str, folder: Path, codec: dict[str, Any] | None = None) -> TableDataset[TableCodec]:
    return prepare_table(DataSpec(sources=[source], validation=0.2), TableCodec.of(codec or {}), home=folder / "home")


@pytest.mark.parametrize(("name", "cells", "match"), [
    ("when", SPOILED, "'when': 3 of 303 known cells are no dates like '2020-01-01', the first '2021-02-30' in row 101"),
    ("weight", WEIGHTS, "'weight': 2 of 300 known cells are no numbers, the first '12 kg' in row 8"),
    ("weight", [cell.replace(".", ",") for cell in WEIGHTS], "'weight': 2 of 300 known cells are no numbers")])
def test_a_few_cells_that_would_lose_a_column_are_refused(tmp_path: Path, name: str, cells: list[str],
                                                          match: str) -> None:
    source = _column(tmp_path, name, cells, ";")
    with pytest.raises(DataError, match=match) as error:
        _prepared(source, tmp_path)
    assert "come out empty" in error.value.problem
    assert f"--kind {name}=category" in error.value.fix
    assert f"--kind {name}=text --texts" in error.value.fix
    kept = _prepared(source, tmp_path, {"columns": {name: "category"}})  # what is asked for is done, and told
    assert any("300 different" in text or "303 different" in text or "299 different" in text for text in kept.notices)


def test_spoiled_columns_of_sequences_and_of_parquet_are_refused(tmp_path: Path) -> None:
    source = _column(tmp_path, "when", SPOILED)
    with pytest.raises(DataError, match="the first '2021-02-30' in row 101"):
        _prepared(source, tmp_path, {"entity": "other"})
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"when": SPOILED, "n": range(303)}), path)
    with pytest.raises(DataError, match="the first '2021-02-30' in row 101"):
        _prepared(str(path), tmp_path)


def test_levels_that_are_mostly_numbers_are_a_category_and_told(tmp_path: Path) -> None:
    cells = [str(n % 4) if n % 20 else "5+" for n in range(300)]
    data = _prepared(_column(tmp_path, "rooms", cells), tmp_path)
    assert data.codec.schema.column("rooms").kind == "category"
    assert "'rooms': 15 of 300 known cells are no numbers, the first '5+' in row 1; it is read as a category" in \
        data.notices[0]
    names = [f"{n % 4}" if n % 2 else "none of them" for n in range(300)]
    assert not _prepared(_column(tmp_path, "sort", names), tmp_path).notices


def test_what_is_not_learned_is_told_each_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("pid,note,place,x\n" + "".join(
        f"P{n},a note about case {n},k{n % 1000},{n % 7}\n" for n in range(3000)))
    first = _prepared(str(path), tmp_path)
    fresh = capsys.readouterr().err.splitlines()
    told = [line for line in fresh if line.startswith(("column", "warning"))]
    assert told == first.notices
    assert told[0] == "column 'pid' is an id: new ones are made"
    assert told[1].startswith("warning: column 'note' is free text (3,000 different values): it comes out empty; learn "
                              "it with --texts")
    assert "--kind note=category" in told[1]
    assert told[2].startswith("warning: column 'place' is a category of 1,000 different values, 100% of its cells in "
                              "levels of fewer than 5 rows: these come out empty")
    assert len(told) == 3
    again = _prepared(str(path), tmp_path)
    assert again.path == first.path
    assert capsys.readouterr().err.splitlines() == told


@pytest.mark.parametrize(("cells", "delimiter", "expected", "said"), [
    (["51,3", "-0,25", "7"], ";", [51.3, -0.25, 7.0], "decimal commas: column 'size' ('51,3' is 51.3)"),
    (["1,234", "0,5"], ";", [1.234, 0.5], "decimal commas"),
    (["31.989,50", "7"], ";", [31989.5, 7.0], "thousands separators: column 'size' ('31.989,50' is 31989.50)"),
    (["31,989.50", "7"], ",", [31989.5, 7.0], "thousands separators: column 'size' ('31,989.50' is 31989.50)"),
    (["1,234", "12,345,678"], ",", [1234, 12345678], "thousands separators: column 'size' ('1,234' is 1234)"),
    (["1.234.567", "7"], ",", [1234567, 7], "thousands separators"),
    (["1,2", "2,3"], ",", ["1,2", "2,3"], ""), (["1,2345", "7"], ",", ["1,2345", "7"], ""),
    (["1,234", "x"], ",", ["1,234", "x"], ""), (["1.234", "7"], ";", [1.234, 7.0], ""),
    (["007,5", "1,5"], ";", ["007,5", "1,5"], "")])
def test_decimal_commas_and_thousands_separators(tmp_path: Path, capsys: pytest.CaptureFixture[str], cells: list[str],
                                                 delimiter: str, expected: list[Any], said: str) -> None:
    assert read(_column(tmp_path, "size", cells, delimiter), [])["size"].to_pylist() == expected
    heard = capsys.readouterr().err
    assert said in heard
    assert bool(said) == bool(heard)


def test_a_file_has_one_decimal_mark(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("temperature;people;share\n51,3;31.989;0.5\n7;950;1.25\n")
    table = read(str(path), [])
    assert table["people"].to_pylist() == [31989, 950]
    assert table["share"].to_pylist() == [0.5, 1.25]  # no groups of three digits


def test_infinite_values_are_shown_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n\n"two\nlines",1\n' + "".join(f"x,{n if n != 5 else '1e400'}\n" for n in range(10)))
    with pytest.raises(DataError, match="'b' holds 1 infinite value: 1e400 in line 10"):
        read(str(path), [])
    pq.write_table(pa.table({"b": [1.0, float("inf")]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="inf in row 2"):
        read(str(tmp_path / "t.parquet"), [])


def test_arrow_reads_from_memory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.csv").write_text("a,b,c\n")
    given: list[Any] = []
    original = pyarrow.csv.read_csv
    monkeypatch.setattr(pyarrow.csv, "read_csv", lambda source, **more: (given.append(source),
                                                                         original(source, **more))[1])
    with pytest.raises(DataError, match="holds no rows"):
        read(str(tmp_path / "t.csv"), [])
    assert isinstance(given[0], pa.Buffer)  # a thread that closes a Python file at Python's end aborts the process
