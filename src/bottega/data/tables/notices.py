"""What a person should know of how a table was read: said at once, and kept to be said again when it is reused.

    with noticed() as kept:
        notice("warning: column 'weight' …")

`pytest tests/data/test_table_notices.py` exercises it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from bottega.core.progress import say
from bottega.core.table import Schema

MOST = 0.5  # share of a column's cells
EMPTY = ("it comes out empty; learn it with --texts (codec.texts=true), or make it a category with "
         "--kind {name}=category (codec.columns)")
_kept: ContextVar[list[str] | None] = ContextVar("kept", default=None)


def notice(text: str) -> None:
    """Say one line, and keep it where `noticed` is around."""
    kept = _kept.get()
    if kept is None or text not in kept:
        say(text)
    if kept is not None and text not in kept:
        kept.append(text)


@contextmanager
def noticed() -> Iterator[list[str]]:
    """Keep what is noticed inside, each line once."""
    kept: list[str] = []
    token = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(token)


def tell_kinds(table: Any, schema: Schema, protect: int, *, texts: str = EMPTY) -> None:
    """Tell which columns are not learned as they are: free text, ids, and categories of mostly rare levels.

    Args:
        table: Arrow table.
        schema: of its columns.
        protect: smallest number of rows that a level is kept of.
        texts: what becomes of free text, with `{name}` for the column's.
    """
    import pyarrow.compute as pc

    for column in schema.columns:
        name = column.name
        if column.kind == "id":
            notice(f"column '{name}' is an id: new ones are made")
        elif column.kind == "text":
            different = pc.count_distinct(table[name], mode="only_valid").as_py()
            notice(f"warning: column '{name}' is free text ({different:,} different values): {texts.format(name=name)}")
        elif column.kind == "category" and (share := rare_share(table[name], protect)) > MOST:
            different = pc.count_distinct(table[name], mode="only_valid").as_py()
            notice(f"warning: column '{name}' is a category of {different:,} different values, {share:.0%} of its "
                   f"cells in levels of fewer than {protect} rows: these come out empty; group its levels, or learn it "
                   f"with --kind {name}=text --texts (codec.columns={{{name}: text}}, codec.texts=true)")


def rare_share(column: Any, protect: int) -> float:
    """Return the share of a column's known cells whose value fewer than `protect` cells hold."""
    import pyarrow.compute as pc

    counts = pc.struct_field(pc.value_counts(column.drop_null()), "counts").to_numpy(zero_copy_only=False)
    return float(counts[counts < protect].sum() / max(1, counts.sum()))
