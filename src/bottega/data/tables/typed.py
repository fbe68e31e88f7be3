"""A column of text in the first type that holds all its values: yes or no, whole numbers, numbers, times, text.

`pytest tests/data/test_table_files.py` exercises it.
"""

from __future__ import annotations

from typing import Any

from bottega.data.tables.marks import Style, is_number, read_as
from bottega.data.tables.notices import notice

MISSING = ("", "na", "n/a", "nan", "null", "none", "?", "-", "<na>", "nat")
TIMES = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y",
         "%m/%d/%Y", "%Y%m%d", "%d-%b-%Y", "%d %b %Y")
_FORMULA = ("=", "+", "@")


def without_missing(column: Any) -> tuple[Any, list[str]]:
    """Return a column of text, trimmed, with nulls for words that mean missing; and its different known values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(column).combine_chunks()
    distinct = pc.unique(text).to_pylist()
    gone = pa.array([value for value in distinct if value.lower() in MISSING], pa.string())
    text = pc.if_else(pc.is_in(text, value_set=gone), pa.scalar(None, pa.string()), text)
    return text, [value for value in distinct if value.lower() not in MISSING]


def typed(text: Any, known: list[str], name: str, style: Style | None) -> Any:
    """Return a column of text in the first type that holds all its values.

    Args:
        text: Arrow array, as `without_missing` returns it.
        known: its different values.
        name: for messages.
        style: how its numbers are written, where not plainly.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not known:
        return text
    if {value.lower() for value in known} <= {"true", "false"}:
        return pc.equal(pc.utf8_lower(text), "true")
    if not any(map(leading_zero, known)):
        for kind in (pa.int64(), pa.float64()):
            try:
                return (read_as(text, style) if style else text).cast(kind)
            except pa.ArrowInvalid:
                continue
    for shape in TIMES:
        if shape == "%Y%m%d" and not all(len(value) == 8 and value[:2] in ("19", "20") for value in known):
            continue
        found, same = times(text, shape)
        if pc.all(pc.or_(same, pc.is_null(text))).as_py():
            return found if "%H" in shape else found.cast(pa.date32())
    formulas = [value for value in known if value.startswith(_FORMULA) and not is_number(value)]
    if formulas:
        notice(f"warning: column '{name}' holds what a spreadsheet would run as a formula, such as "
               f"'{formulas[0][:40]}'; it is kept as text")
    return text


def times(text: Any, shape: str) -> tuple[Any, Any]:
    """Return an array of text as times of one shape, and which values are exactly that; where not they are null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.strptime(text, format=shape, unit="s", error_is_null=True)
    # strptime of the system is lenient: the way back must give the same text
    same = pc.fill_null(pc.equal(pc.strftime(found, format=shape), text), False)
    return pc.if_else(same, found, pa.scalar(None, found.type)).cast(pa.timestamp("us")), same


def leading_zero(value: str) -> bool:
    """Return whether a value is a name of digits such as 007, not a number."""
    digits = value.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits.isdigit()
