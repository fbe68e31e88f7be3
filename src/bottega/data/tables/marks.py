"""Numbers with decimal commas or thousands separators: 51,3 and 31,989.50 and 31.989,50.

A column is read so only where every known cell fits one strict form; what was read so is told.
`pytest tests/data/test_table_notices.py` exercises it.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from bottega.data.tables.notices import notice

Style = Literal["decimal comma", "thousands comma", "thousands point"]

_PLAIN, _EXPONENT = r"[+-]?(?:0|[1-9]\d*)", r"(?:[eE][+-]?\d+)?"
_FORMS: dict[Style, re.Pattern[str]] = {
    "decimal comma": re.compile(rf"{_PLAIN}(?:,\d+)?{_EXPONENT}"),
    "thousands comma": re.compile(rf"(?:[+-]?[1-9]\d{{0,2}}(?:,\d{{3}})+|{_PLAIN})(?:\.\d+)?"),
    "thousands point": re.compile(rf"(?:[+-]?[1-9]\d{{0,2}}(?:\.\d{{3}})+|{_PLAIN})(?:,\d+)?")}


def is_number(value: str) -> bool:
    """Return whether a cell is a number in any of the ways they are written."""
    try:
        float(value)
    except ValueError:
        return any(form.fullmatch(value) for form in _FORMS.values())
    return True


def styles(columns: dict[str, list[str]], delimiter: str) -> dict[str, Style]:
    """Return how numbers are written in those columns that do not read as numbers as they are.

    Args:
        columns: column → its different known values.
        delimiter: a file that is separated by semicolons may have decimal commas.
    """
    found = {name: style for name, values in columns.items()
             if (style := _style(values, delimiter == ";")) is not None}
    if "decimal comma" in found.values():  # a file has one decimal mark: its points are no decimal ones
        found.update({name: "thousands point" for name, values in columns.items()
                      if name not in found and _fits(values, "thousands point", ".")})
    return found


def read_as(text: Any, style: Style) -> Any:
    """Return an Arrow column of text as one that casts to numbers."""
    import pyarrow.compute as pc

    if style == "thousands comma":
        return pc.replace_substring(text, ",", "")
    plain = pc.replace_substring(text, ".", "") if style == "thousands point" else text
    return pc.replace_substring(plain, ",", ".")


def tell(found: dict[str, Style], columns: dict[str, list[str]]) -> None:
    """Tell once for each style which columns were read in it, with an example."""
    for style, mark in (("decimal comma", ","), ("thousands comma", ","), ("thousands point", ".")):
        names = [name for name, one in found.items() if one == style]
        if not names:
            continue
        example = next(value for value in columns[names[0]] if mark in value)
        plain = example.replace("," if style == "thousands comma" else ".", "") if style != "decimal comma" else example
        what = "decimal commas" if style == "decimal comma" else "thousands separators"
        shown = ", ".join(f"'{name}'" for name in names[:10]) + (" …" if len(names) > 10 else "")
        notice(f"warning: read with {what}: column{'s' if len(names) > 1 else ''} {shown} ('{example}' is "
               f"{plain.replace(',', '.')}); where that is wrong, write plain numbers with a decimal point")


def _style(values: list[str], semicolons: bool) -> Style | None:
    if not any("," in value for value in values):
        return "thousands point" if any(value.count(".") > 1 for value in values) and \
            _fits(values, "thousands point", ".") else None
    if semicolons and _fits(values, "decimal comma", ","):
        return "decimal comma"
    if _fits(values, "thousands comma", ","):
        return "thousands comma"
    return "thousands point" if _fits(values, "thousands point", ".") else None


def _fits(values: list[str], style: Style, mark: str) -> bool:
    form = _FORMS[style]
    return any(mark in value for value in values) and all(form.fullmatch(value) for value in values)
