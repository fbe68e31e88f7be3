"""A table and what is known of its columns: the types that data, codecs, families and evaluation share.

A `Table` is an Arrow table read under a `Schema`. Numbers, integers and times are seen as float64 (NaN: missing), all
else as codes into a list of levels (-1: missing). `pytest tests/core/test_table.py` exercises it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bottega.core.errors import DataError, InputError, suggest
from bottega.core.validate import Strict

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["number", "integer", "datetime", "category", "boolean", "id", "text"]
ORDERED = ("number", "integer", "datetime")  # kinds seen as float64; times are seconds since 1970
CODED = ("category", "boolean")


class Column(Strict):
    """What is known of a column.

    Attributes:
        name: as in the file.
        kind: how it is learned. `id` and `text` are not learned.
        arrow: Arrow type to give back, such as `int64`, `string`, `timestamp[us]`.
        levels: of coded kinds: every value as text, most frequent first.
        decimals: of numbers: digits after the point that are kept; None keeps all.
        low, high: of ordered kinds: smallest and largest value.
        missing: share of missing values.
        pattern: of ids: an example that fresh ones are formed after; of times in text: their strptime format.
    """

    name: str
    kind: Kind
    arrow: str
    levels: list[str] = []
    decimals: int | None = None
    low: float | None = None
    high: float | None = None
    missing: float = Field(default=0.0, ge=0, le=1)
    pattern: str | None = None

    @property
    def ordered(self) -> bool:
        """Whether values are seen as float64."""
        return self.kind in ORDERED


class Schema(Strict):
    """The columns of a table, in order."""

    columns: list[Column]

    @property
    def names(self) -> list[str]:
        """Names in order."""
        return [column.name for column in self.columns]

    @property
    def learned(self) -> list[Column]:
        """Columns that a model learns."""
        return [column for column in self.columns if column.kind in ORDERED + CODED]

    def column(self, name: str) -> Column:
        """Return a column.

        Raises:
            InputError: there is none of this name; the nearest is suggested.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise InputError(f"the table has no column '{name[:100]}'", fix=suggest(name, self.names))


class Table:
    """Rows under a schema.

    Args:
        schema: its columns name all columns of `data`.
        data: Arrow table with these columns, in any order; types are those of the schema.

    Raises:
        DataError: a column is missing.
    """

    def __init__(self, schema: Schema, data: pa.Table) -> None:
        gone = [name for name in schema.names if name not in data.column_names]
        if gone:
            raise DataError(f"the table has no column '{gone[0]}'", fix=f"its columns are {', '.join(schema.names)}")
        self.schema, self.data = schema, data.select(schema.names)

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def take(self, rows: NDArray[np.integer[Any]] | NDArray[np.bool_]) -> Table:
        """Return the given rows (indices, or a mask), in that order."""
        import pyarrow as pa

        if rows.dtype == np.bool_ and rows.all():
            return self  # nothing is copied
        indices = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Table(self.schema, self.data.take(pa.array(indices)))

    def head(self, rows: int) -> Table:
        """Return at most this many rows from the start, without a copy."""
        return self if rows >= len(self) else Table(self.schema, self.data.slice(0, rows))

    def values(self, name: str) -> NDArray[np.float64]:
        """Return an ordered column as float64 [N]; NaN is missing, a time is seconds since 1970.

        Raises:
            InputError: no such column, or it is not ordered.
        """
        if not self.schema.column(name).ordered:
            raise InputError(f"column '{name}' is no number", fix="ask for its codes")
        return self._values[name]

    def codes(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """Return a column as int32 [N] codes into levels; -1 is missing. Works for every kind.

        Levels are those of the schema, followed by values that the schema does not know.
        """
        column = self.schema.column(name)
        if name not in self._codes:
            self._codes[name] = _codes(self.data[name], column.levels)
        return self._codes[name]

    @cached_property
    def _values(self) -> dict[str, NDArray[np.float64]]:
        return {c.name: _values(self.data[c.name]) for c in self.schema.columns if c.ordered}

    @cached_property
    def _codes(self) -> dict[str, tuple[NDArray[np.int32], list[str]]]:
        return {}

    def pandas(self) -> Any:
        """Return a pandas DataFrame, categories and booleans as objects of their own type."""
        return self.data.to_pandas()


def join(tables: Iterable[Table]) -> Table:
    """Return the rows of tables of one schema, one after the other."""
    import pyarrow as pa

    tables = list(tables)
    return Table(tables[0].schema, pa.concat_tables([table.data for table in tables]))


def _values(column: Any) -> NDArray[np.float64]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        whole = pc.cast(pc.cast(column, pa.timestamp("us")), pa.int64())
        column = pc.divide(pc.cast(whole, pa.float64(), safe=False), 1e6)  # microseconds pass 2**53 in 2255
    array: NDArray[np.float64] = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.array(array, np.float64)


def _codes(column: Any, levels: list[str]) -> tuple[NDArray[np.int32], list[str]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = pc.dictionary_encode(as_text(array))
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    known, own = {level: index for index, level in enumerate(levels)}, encoded.dictionary.to_pylist()
    more = [value for value in own if value not in known]
    known.update({value: len(levels) + index for index, value in enumerate(more)})
    places = np.array([known[value] for value in own] + [-1], np.int32)
    indices = encoded.indices.fill_null(len(own)).to_numpy(zero_copy_only=False)
    return places[indices], levels + more


def as_text(array: Any) -> Any:
    """Return an Arrow array of any plain type as strings: booleans as `true` and `false`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return array if pa.types.is_string(array.type) else pc.cast(array, pa.string())


def arrow_type(column: Column) -> Any:
    """Return the Arrow type to give a column back in."""
    import pyarrow as pa

    known = {"date32[day]": pa.date32(), "double": pa.float64(), "float": pa.float32(), "bool": pa.bool_()}
    if column.arrow in known:
        return known[column.arrow]
    if column.arrow.startswith("timestamp"):
        unit, _, zone = column.arrow[len("timestamp["):-1].partition(", tz=")
        return pa.timestamp(unit, zone or None)
    return pa.type_for_alias(column.arrow)


def typed(values: NDArray[np.float64], column: Column) -> Any:
    """Return float64 [N] with NaN for missing as an Arrow array of the column's type; a time is seconds since 1970."""
    import pyarrow as pa
    import pyarrow.compute as pc

    gone, kind = np.isnan(values), arrow_type(column)
    filled = np.where(gone, 0.0, values)
    if column.kind == "datetime":
        plain = pa.array(np.rint(filled * 1e6).astype(np.int64), mask=gone).cast(pa.timestamp("us"))
        if pa.types.is_timestamp(kind) and kind.tz:
            plain = pc.assume_timezone(plain, "UTC")
        return plain.cast(kind, safe=False)
    if pa.types.is_integer(kind):
        return pa.array(np.rint(filled).astype(np.int64), mask=gone).cast(kind)
    if pa.types.is_string(kind):
        return pa.array([None if hole else f"{value:g}" for value, hole in zip(values, gone, strict=True)], kind)
    return pa.array(filled, mask=gone).cast(kind)
