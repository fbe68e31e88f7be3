"""A CSV or Parquet file, or a built-in set, as an Arrow table of typed columns.

`pytest tests/data/test_table_files.py` exercises it.

Text is read first, types are tried after (`typed.py`): nothing is turned into a missing value without a word.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bottega.core.errors import DataError, InputError, MissingExtraError, suggest
from bottega.core.files import sha256_file
from bottega.data.tables.marks import styles, tell
from bottega.data.tables.notices import notice
from bottega.data.tables.typed import typed, without_missing

BUILT_IN = ("breast-cancer", "wine", "iris", "diabetes")
_LICENCE = {"breast-cancer": "CC-BY-4.0", "wine": "CC-BY-4.0", "iris": "CC-BY-4.0", "diabetes": "unknown"}
_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
_SHOWN = 5  # bad values in a message
_ENCODINGS = ("utf-8-sig", "cp1252")


def identity(source: str) -> str:
    """Return what a prepared table's name depends on: the digest of a file, the name of a built-in set.

    Raises:
        InputError: it is not there.
    """
    return source if source in BUILT_IN else sha256_file(_file(source))


def licence_of(source: str, stated: str) -> str:
    """Return the SPDX name of a source's licence; `stated` is the recipe's for files."""
    return _LICENCE.get(source, stated)


def read(source: str, names: list[str]) -> Any:
    """Return an Arrow table with unique column names, of plain types, without infinities.

    Args:
        source: a file, or the name of a built-in set.
        names: of the columns, where the file has no header.

    Raises:
        InputError: there is no such file, or it is of no known kind.
        DataError: it is empty, its names are not unique, a row has another number of cells, a cell holds a list, or a
            number is not finite; the message names column, row and value.
        MissingExtraError: a built-in set without the `tables` extra.
    """
    if source in BUILT_IN:
        return _built_in(source)
    path = _file(source)
    table = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path, names)
    if table.num_rows == 0:
        raise DataError(f"{path} holds no rows", where=source, fix="give a table with rows below its header")
    for name in table.column_names:
        bad = _infinite(table[name])
        _refuse_infinite(name, len(bad), [f"{table[name][row]} in row {row + 1}" for row in bad[:_SHOWN]], source)
    return table


def _file(source: str) -> Path:
    path = Path(source)
    if not path.is_file():
        raise InputError(f"there is no table '{source}'", where="data.sources",
                         fix=f"give a CSV or Parquet file, or a built-in set; {suggest(source, BUILT_IN)}")
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{path} is no CSV and no Parquet file", where="data.sources",
                         fix=f"its name should end in {', '.join(_SUFFIXES)}")
    return path


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not readable as Parquet: {str(error)[:200]}", where=str(path),
                        fix="write it again") from None
    _unique(table.column_names, path)
    for name in table.column_names:
        kind = table[name].type
        if pa.types.is_dictionary(kind):
            table = table.set_column(table.column_names.index(name), name, table[name].cast(kind.value_type))
        elif pa.types.is_nested(kind) or pa.types.is_binary(kind):
            raise DataError(f"column '{name}' holds {kind}, not one value a cell", where=str(path),
                            fix="split it into columns, or leave it out")
        elif pa.types.is_decimal(kind):
            table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.float64()))
        elif pa.types.is_null(kind):
            table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.string()))
    return table.select([name for name in table.column_names if not name.startswith("__index_level_")])


def _csv(path: Path, names: list[str]) -> Any:
    import pyarrow as pa
    import pyarrow.csv as arrow

    data, encoding = _decoded(path)
    content = pa.BufferOutputStream()  # Arrow's own: its threads would reach for a Python object after Python's end
    content.write(data.encode())
    first = next((line for line in io.StringIO(data[:1 << 20]) if line.strip()), "")
    if not first:
        raise DataError(f"{path} is empty", where=str(path), fix="give a table with a header and rows")
    delimiter = max(",;\t|", key=first.count) if any(mark in first for mark in ",;\t|") else ","
    header = names or [name.strip() for name in next(csv.reader([first], delimiter=delimiter))]
    _unique(header, path)
    try:
        table = arrow.read_csv(
            content.getvalue(), read_options=arrow.ReadOptions(column_names=header, skip_rows=0 if names else 1),
            parse_options=arrow.ParseOptions(delimiter=delimiter, newlines_in_values='"' in data),
            convert_options=arrow.ConvertOptions(column_types=dict.fromkeys(header, pa.string()),
                                                 strings_can_be_null=False))
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is no table of {len(header)} columns: {str(error)[:200]}", where=str(path),
                        fix="quote cells that hold the delimiter; without a header name the columns with codec.names"
                        ) from None
    if encoding != _ENCODINGS[0]:
        notice(f"{path} is not UTF-8: read as {encoding}")
    parts = {name: without_missing(table[name]) for name in header}
    known = {name: values for name, (_, values) in parts.items()}
    found = styles(known, delimiter)
    tell(found, known)
    whole = {name: typed(text, known[name], name, found.get(name)) for name, (text, _) in parts.items()}
    for name, column in whole.items():
        text, above, bad = parts[name][0], 0 if names else 1, _infinite(column)
        _refuse_infinite(name, len(bad), [f"{text[row]} in line {_line(data, delimiter, row + above)}"
                                          for row in bad[:_SHOWN]], str(path))
    return pa.table(whole)


def _line(data: str, delimiter: str, place: int) -> int:
    """Return the line of a file in which its row of a place ends; empty lines are no rows."""
    rows = csv.reader(io.StringIO(data), delimiter=delimiter)
    filled = (rows.line_num for row in rows if row)
    return next(itertools.islice(filled, place, None))


def _decoded(path: Path) -> tuple[str, str]:
    content = path.read_bytes()
    for encoding in ("utf-16",) if content[:2] in (b"\xff\xfe", b"\xfe\xff") else _ENCODINGS:
        try:
            return content.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    raise DataError(f"{path} is neither UTF-8 nor Windows-1252", where=str(path), fix="save it as UTF-8")


def _unique(names: list[str], path: Path) -> None:
    seen: set[str] = set()
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(f"column {number} has no name", where=str(path), fix="name it in the header")
        if name in seen:
            raise DataError(f"two columns are named '{name}'", where=str(path), fix="rename one of them")
        seen.add(name)


def _infinite(column: Any) -> list[int]:
    import pyarrow as pa

    if not pa.types.is_floating(column.type):
        return []
    found: list[int] = np.flatnonzero(np.isinf(column.to_numpy(zero_copy_only=False))).tolist()
    return found


def _refuse_infinite(name: str, count: int, places: list[str], source: str) -> None:
    if count:
        shown = ", ".join(places) + (" …" if count > len(places) else "")
        raise DataError(f"column '{name}' holds {count} infinite value{'s' if count > 1 else ''}: {shown}",
                        where=source, fix="replace them by missing values or by the largest possible number")


def _built_in(source: str) -> Any:
    """Return a set that scikit-learn brings; the class of each row is a column of names."""
    import pyarrow as pa

    try:
        from sklearn import datasets
    except ImportError:
        raise MissingExtraError("tables", f"the built-in set '{source}'") from None
    load: Callable[[], Any] = {"breast-cancer": datasets.load_breast_cancer, "wine": datasets.load_wine,
                               "iris": datasets.load_iris, "diabetes": datasets.load_diabetes}[source]
    found = load()
    columns: dict[str, Any] = {str(name).replace(" (cm)", "").replace(" ", "_"): pa.array(found.data[:, place])
                               for place, name in enumerate(found.feature_names)}
    if source == "diabetes":
        return pa.table({**columns, "progression": pa.array(found.target)})
    target = {"breast-cancer": "diagnosis", "wine": "cultivar", "iris": "species"}[source]
    names = [str(found.target_names[index]) for index in found.target]
    return pa.table({**columns, target: pa.array(names)})
