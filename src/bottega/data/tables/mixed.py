"""Columns of numbers or dates that a few odd cells turn into text: refused where they would be lost, else told.

`pytest tests/data/test_table_notices.py` exercises it.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from bottega.core.errors import DataError
from bottega.data.tables.infer import guess, names_id
from bottega.data.tables.marks import is_number
from bottega.data.tables.notices import MOST, notice, rare_share
from bottega.data.tables.typed import TIMES, leading_zero, times

_NEARLY = 0.9  # share of known cells of one kind from which the others are mistakes
_READ_AS = {"text": "free text", "id": "an id", "category": "a category"}
_FEWEST = 20   # known cells below which a share says nothing


def check_mixed(table: Any, given: Container[str], source: str, protect: int) -> None:
    """Look for columns of text whose cells are mostly numbers or mostly dates.

    Args:
        table: Arrow table in the order of the file.
        given: columns whose kind was given: those are wanted as they are.
        source: for messages.
        protect: smallest number of rows that a level is kept of.

    Raises:
        DataError: nearly all cells of a column are of one kind, and the few others would lose it.
    """
    import pyarrow as pa

    for name in table.column_names:
        kind = table[name].type
        if name not in given and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            _check(table[name].combine_chunks(), name, source, protect)


def _check(column: Any, name: str, source: str, protect: int) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    known = len(column) - column.null_count
    values = pc.unique(column.drop_null())
    if known < _FEWEST or any(map(leading_zero, values.to_pylist())):
        return
    what, good = _of_one_kind(column, values)
    cells = pc.if_else(pc.is_valid(column), pc.invert(pc.is_in(column, value_set=values.filter(pa.array(good)))), False)
    count = pc.sum(cells).as_py() or 0
    if not 0 < count <= (1 - MOST) * known:
        return
    row = pc.index(cells, True).as_py()
    found = guess(column, name)
    if found == "id" and names_id(name):
        return
    problem = (f"column '{name}': {count} of {known} known cells are no {what}, the first "
               f"'{column[row].as_py()[:40]}' in row {row + 1}")
    lost, nearly = found != "category" or rare_share(column, protect) > MOST, count <= (1 - _NEARLY) * known
    if lost and nearly:
        raise DataError(f"{problem}; the column would be read as text and come out empty", where=source,
                        fix=f"correct these cells or empty them; or keep it as it is with --kind {name}=category "
                            f"(codec.columns={{{name}: category}}), whose rare values come out empty, or with "
                            f"--kind {name}=text --texts (codec.texts=true)")
    if lost or nearly:
        notice(f"warning: {problem}; it is read as {_READ_AS[found]}: correct these cells or empty them if it holds "
               f"{what}, or say what it is with --kind {name}=category (codec.columns)")


def _of_one_kind(column: Any, values: Any) -> tuple[str, list[bool]]:
    """Return what most cells are, and which of the different values are that."""
    import pyarrow as pa
    import pyarrow.compute as pc

    counts = dict(zip(*(part.to_pylist() for part in pc.value_counts(column).flatten()), strict=True))
    weights = [counts[value] for value in values.to_pylist()]
    shapes: list[tuple[str, list[bool]]] = [("numbers", [is_number(value) for value in values.to_pylist()])]
    for shape in TIMES:
        same = times(values, shape)[1].to_pylist()
        if any(same):
            shapes.append((f"dates like '{values.filter(pa.array(same))[0].as_py()}'", same))
    what, good = max(shapes, key=lambda one: sum(w for w, fits in zip(weights, one[1], strict=True) if fits))
    return what, good
