"""What kind each column of a table is, from its type and its values: `bottega data inspect` shows the guess.

A guess that is wrong is put right in the recipe: `codec.columns={zip: category}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bottega.core.errors import DataError, RecipeError, suggest
from bottega.core.table import ORDERED, Column, Kind, Schema

_NAMES_ID = re.compile(r"(^|[_\W])(id|uuid|guid|key|index|no|nr|number)$", re.IGNORECASE)
_FEW = 50       # rows below which all-different proves nothing
_UNIQUE = 0.98  # share of different values from which text is an id or free text
_WORDS = 4.0    # words a value from which all-different text is free text


def infer(table: Any, kinds: Mapping[str, Kind], source: str) -> tuple[Any, Schema]:
    """Return the Arrow table, cast where a kind was given, and its schema.

    Args:
        table: Arrow table of plain types.
        kinds: column → kind as the recipe says; the rest is guessed.
        source: for messages.

    Raises:
        RecipeError: `kinds` names a column that is not there.
        DataError: a column cannot be of the kind that was given.
    """
    for name in kinds:
        if name not in table.column_names:
            raise RecipeError(f"codec.columns names '{name}', which the table has not", where="codec.columns",
                              fix=suggest(name, table.column_names))
    columns = []
    for place, name in enumerate(table.column_names):
        kind = kinds.get(name)
        if kind is None:
            kind = guess(table[name], name)
        else:
            table = table.set_column(place, name, _cast(table[name], kind, name, source))
        columns.append(_column(table[name], name, kind))
    return table, Schema(columns=columns)


def guess(column: Any, name: str) -> Kind:
    """Return what kind a column is, from its type, its values and its name."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, rows = column.type, len(column) - column.null_count
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "datetime"
    different = pc.count_distinct(column, mode="only_valid").as_py()
    if pa.types.is_integer(kind):
        if different <= 2:
            return "category"
        return "id" if different == rows >= _FEW and names_id(name) else "integer"
    if pa.types.is_floating(kind):
        return "number"
    if rows >= _FEW and different >= _UNIQUE * rows:
        words = sum(len(str(value).split()) for value in column.drop_null()[:1000].to_pylist()) / min(rows, 1000)
        if words >= _WORDS:
            return "text"
        return "id"
    return "category"


def names_id(name: str) -> bool:
    """Return whether a column's name says that it holds ids."""
    return _NAMES_ID.search(name) is not None


def _cast(column: Any, kind: Kind, name: str, source: str) -> Any:
    import pyarrow as pa

    wanted = {"number": pa.float64(), "integer": pa.int64(), "text": pa.string()}.get(kind)
    if kind == "datetime" and not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        wanted = pa.timestamp("us")
    if wanted is None or (kind in ORDERED and pa.types.is_integer(column.type)):
        return column
    try:
        return column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"column '{name}' cannot be of kind {kind}: {str(error)[:160]}", where=source,
                        fix=f"correct these values, or take {name} out of codec.columns") from None


def _column(column: Any, name: str, kind: Kind) -> Column:
    """Return a column's schema; what its values say is added by the codec."""
    import pyarrow as pa
    import pyarrow.compute as pc

    facts: dict[str, Any] = {}
    if kind == "id":
        known = column.drop_null()
        if pa.types.is_integer(column.type):
            facts["high"] = float(pc.max(known).as_py() or 0)
        elif len(known):
            facts["pattern"] = re.sub(r"[a-z]", "a", re.sub(r"[A-Z]", "A", re.sub(r"\d", "0", str(known[0].as_py()))))
    return Column(name=name, kind=kind, arrow=str(column.type), **facts)
