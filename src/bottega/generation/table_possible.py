"""Which rows a model of tables can never make, and why: `bottega table score` lists them first.

A row is impossible that breaks a rule or a link, holds a level that was never seen, or a number outside of what the
model makes and the training rows held. Names of rare levels are not kept, so where a column has some, any unknown level
counts as one of them. `pytest tests/generation/test_table_possible.py` exercises it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bottega.codecs.table import TableCodec, latent_codes, latent_values
from bottega.codecs.table_decimals import unit
from bottega.codecs.table_plan import JOIN, NONE, Latent, Mapping, joined
from bottega.codecs.table_rules import Rule
from bottega.core.table import Column, Table, as_text
from bottega.core.table_sequences import Wide
from bottega.generation.table_conditions import show

_EXACT = 1e-9  # of a number: sums of decimals are not exact
_DAY = 86400.0
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Fault:
    """One way in which rows are impossible.

    Attributes:
        rows: which are, bool [N].
        kind: a `rule` or a link, which the values of a row keep or break together, a `unique` key, which rows do, or a
            `value` that cannot be.
        say: returns in words what is wrong with a row.
    """

    rows: Mask
    kind: Literal["rule", "unique", "value"]
    say: Callable[[int], str]


def reasons(codec: TableCodec, table: Table, wide: Wide | None = None) -> list[str]:
    """Return for each row why the model can never make it, "" where it can; see `faults`."""
    found = [""] * len(table)
    for fault in faults(codec, table, wide):
        for row in np.flatnonzero(fault.rows).tolist():
            found[row] = found[row] or fault.say(row)
    return found


def faults(codec: TableCodec, table: Table, wide: Wide | None = None, *, gaps: bool = False) -> list[Fault]:
    """Return all ways in which rows can be impossible, of a codec always as many and in the same order.

    Args:
        codec: of the model.
        table: rows as people give them.
        wide: of sequences: their steps.
        gaps: missing values are still to be filled, so that they are not wrong themselves.
    """
    table = Table(codec.given, table.data)
    found = [_of_rule(rule, table) for rule in codec.rules if rule.form not in ("function", "combination")]
    layout, steps = codec.layout, table
    if layout is not None:
        assert wide is not None
        steps = Table(codec.schema, wide.table.data)
    inner, names = [_of_mapping(mapping, steps) for mapping in codec.mappings], set[str]()
    for latent in codec.latents:
        if latent.kind == "there" or (layout is not None and not {*layout.given}.isdisjoint(latent.columns)):
            continue
        mine = [_of_values(latent, steps, codec, gaps=gaps) if latent.coding.column.ordered else
                _of_levels(latent, steps, gaps=gaps)]
        if not gaps:
            mine += [_of_missing(codec.schema.column(name), steps) for name in latent.columns if name not in names]
        names.update(latent.columns)
        if layout is not None and set(layout.of_entity).issuperset(latent.columns):
            assert wide is not None
            first = np.diff(wide.owner, prepend=-1) > 0  # what all rows of an entity share is judged with the first
            mine = [Fault(fault.rows & first, fault.kind, fault.say) for fault in mine]
        inner += mine
    return found + (inner if wide is None else [_given(fault, wide) for fault in inner])


def _given(fault: Fault, wide: Wide) -> Fault:
    """Return a fault of steps as one of the rows that they are the steps of."""
    step = np.argsort(wide.rows)
    return Fault(fault.rows[step], fault.kind, lambda row: fault.say(int(step[row])))


def _of_rule(rule: Rule, table: Table) -> Fault:
    kind: Literal["rule", "unique"] = "unique" if rule.form == "unique" else "rule"
    return Fault(rule.broken(table), kind, lambda row: f"{rule.text} is broken")


def _of_mapping(mapping: Mapping, table: Table) -> Fault:
    keys, held = (as_text(table.data[name]).to_pylist() for name in (mapping.key, mapping.column))
    wrong = [key in mapping.values and value is not None and mapping.values[key] != value
             for key, value in zip(keys, held, strict=True)]
    text = f"{mapping.key} -> {mapping.column}"
    return Fault(np.array(wrong, bool), "rule", lambda row: f"{text} is broken: '{keys[row]}' never had '{held[row]}'")


def _of_missing(column: Column, table: Table) -> Fault:
    gone = table.data[column.name].is_null().to_numpy()
    return Fault(gone & (column.missing == 0), "value", lambda row: f"'{column.name}' is missing and never was")


def _of_levels(latent: Latent, table: Table, *, gaps: bool) -> Fault:
    coding = latent.coding
    codes, _ = latent_codes(latent, table)
    unseen = (codes >= coding.shown) & (not coding.rare)
    if latent.kind == "joint" and gaps:
        unseen &= ~agreeing(latent, table).any(1)

    def say(row: int) -> str:
        held = [str(as_text(table.data[name])[row].as_py()) for name in latent.columns]
        if latent.kind == "joint":
            return f"({', '.join(latent.columns)}) is broken: ({', '.join(held)[:200]}) was never seen"
        return f"level '{held[0][:200]}' of '{latent.name}' was never seen"

    return Fault(unseen, "rule" if latent.kind == "joint" else "value", say)


def agreeing(latent: Latent, table: Table) -> Mask:
    """Return which combinations hold what each row holds, bool [N, shown]; a missing value agrees with all."""
    held = [level.split(JOIN) for level in latent.coding.column.levels[:latent.coding.shown]]
    found = np.ones((len(table), len(held)), bool)
    for row, text in enumerate(joined(latent.columns, table)):
        for place, part in enumerate((text or "").split(JOIN)):
            if part != NONE:
                found[row] &= [level[place] == part for level in held]
    return found


def _of_values(latent: Latent, table: Table, codec: TableCodec, *, gaps: bool) -> Fault:
    coding, column = latent.coding, codec.schema.column(latent.columns[-1])
    values = latent_values(latent, table)
    open_ = np.isnan(table.values(latent.columns[0]))
    if gaps:
        values = np.where(open_, np.nan, values)
    if not coding.grids:
        return Fault(~np.isnan(values), "value", lambda row: f"'{latent.name}' has a value and never had one")
    # the outermost training values are not made, but were there
    ends = coding.reach
    seen = (ends[0] if coding.column.low is None else coding.column.low,
            ends[1] if coding.column.high is None else coding.column.high)
    loose = unit(column) * (1.0 if latent.kind == "gap" else 0.5) + _EXACT * max(1.0, *map(abs, seen))
    under, over = values < min(ends[0], seen[0]) - loose, values > max(ends[1], seen[1]) + loose

    def say(row: int) -> str:
        named = latent.kind == "plain" or open_[row]  # a gap to a missing value is one to its anchor
        add = latent.anchor if named else 0.0
        value, low, high = (_shown(one + add, column) if named else _length(one, column)
                            for one in (float(values[row]), *ends))
        end = f"below {low}, the smallest" if under[row] else f"above {high}, the largest"
        return f"{column.name if named else latent.name} = {value} is {end} that is made"

    return Fault(under | over, "value", say)


def _shown(value: float, column: Column) -> str:
    return show(value, column) if column.kind == "datetime" else f"{value:.10g}"


def _length(gap: float, column: Column) -> str:
    return f"{gap / _DAY:.10g} days" if column.kind == "datetime" else f"{gap:.10g}"
