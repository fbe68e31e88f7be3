"""How gaps and what is given fit together: which codes cannot be, and values that follow from others.

`generation/table_gaps.py` asks for both; `pytest tests/generation/test_table_gaps.py` exercises them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bottega.codecs.table import TableCodec
from bottega.codecs.table_decimals import rounded, unit
from bottega.codecs.table_plan import JOIN, NONE, Latent
from bottega.codecs.table_rules import Rule
from bottega.core.table import Column, Schema, Table, as_text, typed
from bottega.generation.table_possible import agreeing

_STEPS = 8      # of Newton's method: a formula that is linear in a part needs one
_FINE = 1e-6    # of the range: values of a column without decimals that count as one
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def told(codec: TableCodec, missing: set[str]) -> list[int]:
    """Return the latent columns that are not drawn: what is given says what they are once the others are there."""
    parts = set(_solved(codec, missing).values())
    return [index for index, latent in enumerate(codec.latents)
            if (latent.kind == "gap" and latent.columns[0] in missing and latent.columns[1] not in missing)
            or (latent.kind == "plain" and latent.columns[0] in parts)]


def _solved(codec: TableCodec, missing: set[str]) -> dict[str, str]:
    """Return for each formula whose result is given, but not all its parts, the part that follows: the finest one."""
    found: dict[str, str] = {}
    plain = {latent.columns[0] for latent in codec.latents if latent.kind == "plain"}
    for rule in codec.rules:
        open_ = [name for name in rule.columns[1:] if name in missing and name in plain and name not in found.values()]
        if rule.form == "formula" and rule.columns[0] not in missing and open_:
            found[rule.text] = max(open_, key=lambda name: _finest(codec.schema.column(name)))
    return found


def _finest(column: Column) -> float:
    return np.inf if column.decimals is None else column.decimals


def log_width(codec: TableCodec, index: int) -> Floats:
    """Return for each code of a latent column the logarithm of how many values share it, float64 [size]."""
    latent = codec.latents[index]
    coding, width = latent.coding, np.ones(latent.coding.size)
    if coding.grids:
        low, high = coding.reach
        step = unit(coding.column) or _FINE * max(high - low, 1e-300)
        width[:len(coding.grids)] += [(grid[-1] - grid[0]) / step for grid in coding.grids]
    found: Floats = np.log(width)
    return found


def barred(codec: TableCodec, given: Table, missing: set[str]) -> dict[int, Mask]:
    """Return codes that cannot go with what is given: latent column → bool [N, size].

    Args:
        codec: of the model.
        given: N rows, which all miss the same columns.
        missing: these.
    """
    found: dict[int, Mask] = {}
    for index, latent in enumerate(codec.latents):
        shown = latent.coding.shown
        bad = np.zeros((len(given), shown), bool)
        if latent.kind == "joint" and not missing.isdisjoint(latent.columns):
            bad |= ~agreeing(latent, given)
            holes = [any(part == NONE and name in missing for part, name in
                         zip(level.split(JOIN), latent.columns, strict=True))
                     for level in latent.coding.column.levels[:shown]]
            full = bad | np.array(holes, bool)
            bad = np.where(full.all(1, keepdims=True), bad, full)
        elif latent.kind == "plain" and latent.columns[0] in missing:
            bad |= _by_mappings(codec, latent, given, missing) | _by_orders(codec, latent, given, missing)
        bad[bad.all(1)] = False  # nothing fits what is given, which is told
        if bad.any():
            found[index] = np.pad(bad, ((0, 0), (0, latent.coding.size - shown)))
    return found


def _by_mappings(codec: TableCodec, latent: Latent, given: Table, missing: set[str]) -> Mask:
    coding, name = latent.coding, latent.columns[0]
    bad = np.zeros((len(given), coding.shown), bool)
    texts = [codec.text_of(name, grid[0]) if len(grid) == 1 else None for grid in coding.grids] \
        if coding.column.ordered else coding.column.levels[:coding.shown]
    for mapping in codec.mappings:
        if mapping.key == name and mapping.column not in missing:
            held = np.array(as_text(given.data[mapping.column]).to_pylist(), object)
            decided = np.array([None if text is None else mapping.values.get(text) for text in texts], object)
            sure = np.array([text is not None for text in texts], bool)
            bad |= sure & (held[:, None] != decided[None, :])
    return bad


def _by_orders(codec: TableCodec, latent: Latent, given: Table, missing: set[str]) -> Mask:
    bad = np.zeros((len(given), latent.coding.shown), bool)
    for rule in codec.rules:
        if rule.form == "order" and rule.columns[0] == latent.columns[0] and rule.columns[1] not in missing:
            least = np.array([grid[0] for grid in latent.coding.grids])[None, :]
            most = given.values(rule.columns[1])[:, None]
            bad |= least >= most if rule.strict else least > most
    return bad


def complete(codec: TableCodec, made: Table, given: Table, missing: set[str], *, cut: bool = False) -> Table:
    """Return rows as given, with their gaps from what was made, and what follows from other values worked out again.

    Args:
        codec: of the model.
        made: rows as the codes of drawn columns say.
        given: the same rows with gaps, all in the same columns.
        missing: these.
        cut: the smaller side of an order is at most the larger one that is given, unless nothing that small was seen.
    """
    arrays: dict[str, Any] = {name: pc.coalesce(given.data[name], made.data[name]) for name in codec.schema.names}
    solved = _solved(codec, missing)
    for _ in range(2):  # a part that is solved can be the smaller side of an order, and the larger one be a part
        for latent in codec.latents:
            if latent.kind == "gap" and latent.columns[1] in missing:
                column = codec.schema.column(latent.columns[1])
                arrays[column.name] = typed(_above(latent, codec, made, arrays), column)
            elif latent.kind == "gap" and latent.columns[0] in missing and cut:
                column = codec.schema.column(latent.columns[0])
                most = given.values(latent.columns[1]) - (unit(column) if latent.strict else 0.0)
                most[most < (-np.inf if column.low is None else column.low)] = np.nan  # nothing below was ever seen
                arrays[column.name] = typed(np.fmin(_values(column.name, codec, arrays), most), column)
        for rule in codec.rules:
            if rule.text in solved:
                column = codec.schema.column(solved[rule.text])
                arrays[column.name] = typed(_part(rule, column.name, codec, arrays), column)
    for mapping in codec.mappings:
        if mapping.column in missing:
            keys = as_text(arrays[mapping.key]).to_pylist()
            held = [mapping.missing if key is None else mapping.values.get(key) for key in keys]
            arrays[mapping.column] = pa.array(held, pa.string()).cast(given.data[mapping.column].type)
    for rule in codec.rules:
        if rule.form == "formula" and rule.columns[0] in missing:
            column = codec.schema.column(rule.columns[0])
            parts = {name: _values(name, codec, arrays) for name in rule.columns[1:]}
            arrays[column.name] = typed(rounded(rule.value(parts), column), column)
    return Table(codec.schema, pa.table(arrays))


def _values(name: str, codec: TableCodec, arrays: dict[str, Any]) -> Floats:
    return Table(Schema(columns=[codec.schema.column(name)]), pa.table({name: arrays[name]})).values(name)


def _above(latent: Latent, codec: TableCodec, made: Table, arrays: dict[str, Any]) -> Floats:
    """Return the larger side of an order from the smaller one that is there and the gap that was made."""
    small, large = latent.columns
    column, below = codec.schema.column(large), _values(small, codec, arrays)
    gap = made.values(large) - made.values(small)
    found = rounded(below + gap, column)
    short = found <= below if latent.strict else found < below
    found = np.where(short, below + gap, found)
    return np.where(np.isnan(gap) | (below == made.values(small)), made.values(large), found)


def _part(rule: Rule, part: str, codec: TableCodec, arrays: dict[str, Any]) -> Floats:
    """Return the part of a formula with which its result is the given one, where there is one."""
    parts = {name: _values(name, codec, arrays) for name in rule.columns[1:]}
    want, start = _values(rule.columns[0], codec, arrays), parts[part]
    found = start
    for _ in range(_STEPS):
        by = 1e-3 * np.maximum(1.0, np.abs(found))
        low, high = rule.value({**parts, part: found - by}), rule.value({**parts, part: found + by})
        with np.errstate(divide="ignore", invalid="ignore"):
            after = found - (rule.value({**parts, part: found}) - want) * 2 * by / (high - low)
        found = np.where(np.isfinite(after), after, found)
    return rounded(found, codec.schema.column(part))
