"""What a request of rows is made of: parts with conditions of their own, and how many rows of each.

`balance` asks for shares of the levels of one column. `fair` asks that one column says nothing about another, such as
an income about a sex: every pair of their levels then gets as many rows as if the two were independent (demographic
parity: Dwork et al. 2012, arXiv 1104.3913), with the shares that each has by itself. All else follows the model.
`pytest tests/generation/test_table_parts.py` runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bottega.codecs.table import TableCodec
from bottega.core.errors import ControlError, suggest
from bottega.core.request import Controls
from bottega.core.table import CODED, Table
from bottega.generation import table_conditions
from bottega.generation.table_conditions import Condition
from bottega.generation.table_sampler import Allowed


@dataclass(frozen=True)
class Part:
    """Rows that are drawn alike.

    Attributes:
        name: for messages.
        asked: what the conditions say of the latent columns.
        conditions: that each row meets.
        rows: how many.
    """

    name: str
    asked: Mapping[int, Allowed]
    conditions: list[Condition]
    rows: int


def check(controls: Controls, codec: TableCodec) -> None:
    """Find faults of `balance` and `fair` before any work.

    Raises:
        ControlError: an unknown column or level, shares that do not add up to 1, or two wishes that do not go together.
    """
    if controls.balance:
        _balance(controls.balance, codec)
    if not controls.fair:
        return
    if codec.layout is not None:
        raise ControlError("fair is about single rows, and this model makes all rows of an entity", where="fair",
                           fix="leave it out, or fit the table without an entity")
    if len(controls.fair) != 1:
        raise ControlError(f"fair names {len(controls.fair)} columns", where="fair", fix="name one pair of columns")
    target, across = next(iter(controls.fair.items()))
    coded = [column.name for column in codec.schema.columns if column.kind in CODED]
    for name in (target, across):
        if name not in coded:
            what = "is none" if name in codec.schema.names else "is no column"
            raise ControlError(f"fair needs columns of levels, and '{name}' {what}", where="fair",
                               fix=suggest(name, coded))
    if target == across:
        raise ControlError(f"fair names '{target}' twice", where="fair", fix="name what is decided and whom about")
    asked = {condition.column for condition in table_conditions.of(controls.conditions or {}, codec)}
    if controls.balance or asked & {target, across}:
        raise ControlError("fair decides the shares of both of its columns", where="fair",
                           fix=f"leave balance out, and conditions on '{target}' and '{across}'")


def parts(controls: Controls, rows: int, codec: TableCodec, draw: Callable[[], Table]) -> list[Part]:
    """Return what to draw: one part, one for each level of `balance`, or one for each pair of `fair`.

    Args:
        controls: checked ones.
        rows: in all.
        codec: of the table.
        draw: makes rows under the conditions alone, from which `fair` learns the shares of its columns.
    """
    conditions = table_conditions.of(controls.conditions or {}, codec)
    wanted: list[tuple[dict[str, Any], float]] = [({}, 1.0)]
    if controls.balance:
        column, shares = _balance(controls.balance, codec)
        wanted = [({column: level}, share) for level, share in shares]
    elif controls.fair:
        table = draw()
        (one, first), (other, second) = ((name, _shares(table, name)) for name in next(iter(controls.fair.items())))
        wanted = [({one: level, other: group}, share * size) for group, size in second.items()
                  for level, share in first.items()]
    edges = np.rint(np.cumsum([share for _, share in wanted]) * rows).astype(int)
    found = []
    for (more, _), count in zip(wanted, np.diff(edges, prepend=0).tolist(), strict=True):
        asked = [*conditions, *table_conditions.of(more, codec)] if more else conditions
        name = " and ".join(condition.text for condition in asked) or "the rules"
        if count:
            found.append(Part(name, table_conditions.allowed(asked, codec), asked, count))
    return found


def _shares(table: Table, column: str) -> dict[str | None, float]:
    """Return the share of each level of a column, None for missing."""
    counts: dict[str | None, int] = {}
    for level in table.data[column].to_pylist():
        text = None if level is None else str(level).lower() if isinstance(level, bool) else str(level)
        counts[text] = counts.get(text, 0) + 1
    return {level: count / len(table) for level, count in sorted(counts.items(), key=lambda one: -one[1])}


def _balance(balance: Mapping[str, Mapping[str, float]], codec: TableCodec) -> tuple[str, list[tuple[str, float]]]:
    """Return the column to balance and the share of each level.

    Raises:
        ControlError: more than one column, unknown levels, or shares that do not add up to 1.
    """
    if len(balance) != 1:
        raise ControlError(f"balance names {len(balance)} columns", where="balance", fix="name one")
    column, shares = next(iter(balance.items()))
    for level, share in shares.items():
        table_conditions.of({column: level}, codec)
        if not 0 <= share <= 1:
            raise ControlError(f"the share of '{level}' is {share}", where="balance", fix="give a number from 0 to 1")
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ControlError(f"the shares of '{column}' add up to {sum(shares.values()):g}", where="balance",
                           fix="make them add up to 1")
    return column, list(shares.items())
