"""What is asked of rows: `age > 70`, `diagnosis = malignant`, `city in Rome, Bari`, `income is missing`.

    bottega generate "" --model patients-table --rows 500 --where "diagnosis = malignant" --where "mean_radius > 15"

A condition is translated into allowed codes of what the model learns, and checked on every finished row: what the
translation cannot say (a column that a formula computes) is kept by the check alone. A condition that no row can meet
is refused before any work. Exercised by `pytest tests/generation/test_tables.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bottega.codecs.table import TableCodec
from bottega.codecs.table_plan import Latent
from bottega.codecs.table_rules import seconds
from bottega.core.errors import ControlError, suggest
from bottega.core.table import Column, Table
from bottega.generation.table_sampler import Allowed

Sign = Literal["in", "not in", "between", "missing", "not missing"]
_TEXT = re.compile(r"\s*(?:`([^`]+)`|([^<>=!`]+?))\s*(<=|>=|==|!=|<|>|=|\bnot in\b|\bin\b|\bis\b)\s*(.+?)\s*",
                   re.DOTALL)
_FIX = 'write "age > 70", "diagnosis = malignant", "city in Rome, Bari", "20 <= age" as "age >= 20", or "x is missing"'


@dataclass(frozen=True)
class Condition:
    """One condition on one column.

    Attributes:
        column: its name.
        sign: what is asked.
        values: texts of levels, or numbers of an ordered column, for `in` and `not in`.
        low, high: of `between`; an infinite one is no bound.
        open_low, open_high: the bound itself is not allowed.
        text: as people would write it.
    """

    column: str
    sign: Sign
    values: tuple[Any, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    text: str = ""

    def met(self, table: Table) -> NDArray[np.bool_]:
        """Return which rows meet it, bool [N]."""
        column = table.schema.column(self.column)
        if column.ordered:
            values = table.values(self.column)
            return self.of_values(values)
        codes, levels = table.codes(self.column)
        fits = np.array([self.of_level(level) for level in levels] + [self.of_level(None)])
        found: NDArray[np.bool_] = fits[codes]
        return found

    def of_values(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which numbers meet it; NaN is missing."""
        gone = np.isnan(values)
        if self.sign in ("missing", "not missing"):
            return gone if self.sign == "missing" else ~gone
        if self.sign == "between":
            fits = (values > self.low if self.open_low else values >= self.low) & \
                (values < self.high if self.open_high else values <= self.high)
        else:
            fits = np.any([np.isclose(values, value, rtol=1e-9, atol=1e-9) for value in self.values], axis=0)
            fits = fits if self.sign == "in" else ~fits
        found: NDArray[np.bool_] = fits & ~gone
        return found

    def of_level(self, level: str | None) -> bool:
        """Return whether a level meets it; None is missing."""
        if self.sign in ("missing", "not missing"):
            return (level is None) == (self.sign == "missing")
        return level is not None and (level in self.values) == (self.sign == "in")


def parse(text: str, codec: TableCodec) -> Condition:
    """Read one condition as people write it.

    Raises:
        ControlError: it is none, or names a column, a level or a number that cannot be.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ControlError(f"'{text[:200]}' is no condition", where="where", fix=_FIX)
    name, sign, rest = match[1] or match[2].strip(), match[3], match[4]
    if sign == "is" or (rest.lower() in ("missing", "not missing") and sign in ("=", "==")):
        if rest.lower() not in ("missing", "not missing"):
            raise ControlError(f"'{text[:200]}' is no condition", where="where", fix=_FIX)
        return check(Condition(name, rest.lower(), text=text), codec)  # type: ignore[arg-type]
    if sign in ("in", "not in", "=", "==", "!="):
        parts = [part.strip() for part in rest.split(",")] if "in" in sign else [rest]
        return check(Condition(name, "in" if sign in ("in", "=", "==") else "not in",
                               tuple(_unquoted(part) for part in parts), text=text), codec)
    return check(_bound(name, sign, _unquoted(rest), text), codec)


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text


def _bound(name: str, sign: str, value: Any, text: str) -> Condition:
    number = _number(value, text)
    if sign.startswith(">"):
        return Condition(name, "between", low=number, open_low=sign == ">", text=text)
    return Condition(name, "between", high=number, open_high=sign == "<", text=text)


def _number(value: Any, text: str) -> float:
    if isinstance(value, str):
        at = seconds(value)
        try:
            value = at if at is not None else float(value)
        except ValueError:
            raise ControlError(f"'{text[:200]}' compares with '{value[:50]}', which is no number and no date",
                               where="where", fix=_FIX) from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ControlError(f"'{text[:200]}' compares with {value!r}, which is no finite number", where="where",
                           fix=_FIX)
    return float(value)


def of(conditions: Mapping[str, Any] | list[str], codec: TableCodec) -> list[Condition]:
    """Read the control `conditions`: texts, or column → value, list, {"min": …, "max": …}, or null for missing.

    Raises:
        ControlError: as in `parse`.
    """
    if isinstance(conditions, list):
        return [parse(text, codec) for text in conditions]
    found = []
    for name, wish in conditions.items():
        text = f"{name}: {wish!r}"
        if isinstance(wish, dict):
            odd = sorted(set(wish) - {"min", "max"})
            if odd or not wish:
                raise ControlError(f"the condition on '{name}' has a key '{(odd or ['nothing'])[0]}'",
                                   where="conditions", fix='give {"min": 1, "max": 2}, or one of them')
            low, high = (_number(wish[key], text) if key in wish else end
                         for key, end in (("min", -math.inf), ("max", math.inf)))
            found.append(check(Condition(name, "between", low=low, high=high, text=text), codec))
        elif wish is None:
            found.append(check(Condition(name, "missing", text=text), codec))
        else:
            values = tuple(wish) if isinstance(wish, list | tuple) else (wish,)
            found.append(check(Condition(name, "in", values, text=text), codec))
    return found


def check(condition: Condition, codec: TableCodec) -> Condition:
    """Return the condition in the types of its column.

    Raises:
        ControlError: no such column; a level, a number or a range that no row of this model can have.
    """
    layout, names = codec.layout, codec.schema.names
    if layout is not None:
        names = [*layout.of_entity]
        if condition.column not in names and condition.column in codec.given.names:
            raise ControlError(f"'{condition.column}' varies from row to row of a '{layout.entity}', or is made afresh",
                               where="conditions",
                               fix=f"ask for what all its rows share: {', '.join(names)}")
    if condition.column not in names:
        raise ControlError(f"the table has no column '{condition.column[:100]}'", where="conditions",
                           fix=suggest(condition.column, names))
    column = codec.schema.column(condition.column)
    if column.kind == "text" and codec.spec.texts:
        raise ControlError(f"'{column.name}' is free text, written last from the rest of its row", where="conditions",
                           fix="ask for other columns; the text follows them")
    if column.kind in ("id", "text"):
        raise ControlError(f"'{column.name}' is {'an id' if column.kind == 'id' else 'free text'} and not learned",
                           where="conditions", fix="leave it out")
    if condition.sign == "missing" and not column.missing:
        raise ControlError(f"'{column.name}' is never missing in the data", where="conditions", fix="leave it out")
    if not column.ordered:
        return _levels(condition, column, codec)
    values = tuple(_number(value, condition.text) for value in condition.values)
    if column.low is None or column.high is None:
        raise ControlError(f"'{column.name}' has no values in the data", where="conditions", fix="leave it out")
    asked = [condition.low, condition.high] if condition.sign == "between" else \
        list(values) if condition.sign == "in" else []
    low, high = codec.reach(column.name)
    if condition.sign == "between" and condition.low > condition.high:
        raise ControlError(f"{condition.text}: the range is empty", where="conditions", fix="exchange its ends")
    beyond = (asked[0] > high or asked[1] < low) if condition.sign == "between" else \
        bool(asked) and all(value < low or value > high for value in asked)
    if beyond:
        raise ControlError(f"no such record can exist: '{condition.text}', but the model's '{column.name}' goes from "
                           f"{show(low, column)} to {show(high, column)}", where="conditions",
                           fix="ask inside this range")
    return Condition(condition.column, condition.sign, values, condition.low, condition.high, condition.open_low,
                     condition.open_high, condition.text)


def _levels(condition: Condition, column: Column, codec: TableCodec) -> Condition:
    if condition.sign == "between":
        raise ControlError(f"'{condition.text}' compares, but '{column.name}' holds names", where="conditions",
                           fix=f"ask for one of {', '.join(column.levels[:8])}")
    values = tuple("true" if value is True else "false" if value is False else str(value) for value in condition.values)
    made = codec.made_levels(column.name)
    for value in values:
        if value not in made:
            raise ControlError(f"no such record can exist: '{column.name}' = '{value[:100]}' was never seen, or is too "
                               "rare to be made", where="conditions", fix=suggest(value, made))  # which would tell
    return Condition(condition.column, condition.sign, values, text=condition.text)


def show(value: float, column: Column) -> str:
    """Return a number of a column as text, a time as a date."""
    if column.kind != "datetime":
        return f"{value:g}"
    return str(np.datetime64(int(value), "s"))


def allowed(conditions: list[Condition], codec: TableCodec) -> dict[int, Allowed]:
    """Return which codes of the latent columns the conditions allow; what cannot be said so is left to the check.

    Raises:
        ControlError: together they allow nothing; the message names the column.
    """
    found: dict[int, Allowed] = {}
    for condition in conditions:
        for index, latent in enumerate(codec.latents):
            mask = _mask(condition, latent, codec)
            if mask is None:
                continue
            before = found.get(index)
            if before is not None:
                mask = Allowed(mask.codes & before.codes, np.maximum(mask.low, before.low),
                               np.minimum(mask.high, before.high))
                mask = Allowed(mask.codes & (mask.high > mask.low), mask.low, mask.high)
            if not mask.codes.any():
                raise ControlError(f"no such record can exist: nothing meets '{condition.text}'"
                                   f"{' together with the conditions before it' if before else ''}",
                                   where="conditions", fix="ask for less")
            found[index] = mask
    return found


def _mask(condition: Condition, latent: Latent, codec: TableCodec) -> Allowed | None:
    """Return what a condition allows of a latent column, None when it says nothing about it."""
    size = latent.coding.size
    low, high = np.zeros(size, np.float32), np.ones(size, np.float32)
    shown = latent.coding.shown
    levels: list[str | None] = [*latent.coding.column.levels[:shown], *[None] * (size - shown)]
    fits: list[bool] | None = None
    if latent.kind == "joint" and condition.column in latent.columns:
        place = latent.columns.index(condition.column)
        fits = [condition.of_level(codec.member(level, place)) for level in levels]
    elif latent.kind == "plain" and latent.columns[0] == condition.column:
        if latent.coding.column.ordered:
            return _interval(condition, latent, low, high)
        fits = [condition.of_level(level) for level in levels]
    else:
        mapping = next((one for one in codec.mappings if one.column == condition.column), None)
        if mapping is None or latent.kind != "plain" or latent.columns[0] != mapping.key:
            return None
        if latent.coding.column.ordered:
            texts: list[str | None] = [codec.text_of(mapping.key, grid[0]) for grid in latent.coding.grids]
            texts += [None] * (size - len(texts))
        else:
            texts = levels
        column = codec.schema.column(mapping.column)
        values = [mapping.missing if text is None else mapping.values.get(text) for text in texts]
        fits = condition.of_values(np.array([
            math.nan if value is None else codec.value_of(mapping.column, value) for value in values])).tolist() \
            if column.ordered else [condition.of_level(value) for value in values]
    mask = np.array(fits, bool)
    if latent.coding.rare:
        mask[shown] = False
    return Allowed(mask, low, high)


def _interval(condition: Condition, latent: Latent, low: NDArray[np.float32], high: NDArray[np.float32]) -> Allowed:
    coding = latent.coding
    mask = np.zeros(coding.size, bool)
    if coding.missing:
        mask[-1] = condition.sign == "missing"
    if condition.sign in ("missing", "not missing"):
        mask[:coding.shown] = condition.sign == "not missing"
        return Allowed(mask, low, high)
    decimals = coding.column.decimals
    half = 0.0 if decimals is None or coding.column.kind == "datetime" else 10.0 ** -decimals / 2
    for code, grid in enumerate(coding.grids):
        if len(grid) == 1 or condition.sign != "between":
            inside = condition.of_values(np.array([grid[0]]))[0] if len(grid) == 1 else \
                condition.sign == "not in" or any(grid[0] <= value <= grid[-1] for value in condition.values)
            mask[code] = inside
            if inside and len(grid) > 1 and condition.sign == "in" and half:
                asked = [value for value in condition.values if grid[0] <= value <= grid[-1]]
                low[code], high[code] = _places(grid, min(asked) - half, max(asked) + half)
            continue
        low[code], high[code] = _places(grid, condition.low + (half if condition.open_low else -half),
                                        condition.high + (-half if condition.open_high else half))
        mask[code] = high[code] > low[code] or grid[0] == grid[-1]
    return Allowed(mask, low, high)


def _places(grid: list[float], low: float, high: float) -> tuple[float, float]:
    """Return the part of a group between two values, as places."""
    steps = np.linspace(0, 1, len(grid))
    return (float(np.interp(low, grid, steps, left=0.0, right=1.0)),
            float(np.interp(high, grid, steps, left=0.0, right=1.0)))
