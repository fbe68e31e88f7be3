"""Rows that belong together: the visits of a patient, or the rows of a second table that point at the first.

A model of tables learns rows, one independent of the other. So rows of an entity are told as steps: each row of the
*wide* table holds what is constant for the entity, how many rows it has, the row's place among them, what the row
before held (of some columns also the second row before, the mean so far or the first row), and what this one holds. The
*flat* table is the one that people give and get; of two linked tables it is the left join, and an entity without rows
has one flat row that holds its own columns only. Of the column that orders the rows a step holds the difference to the
row before, of other times the difference to it: what is made ascends.

`pytest tests/core/test_table_sequences.py` exercises it.
"""

from __future__ import annotations

import itertools
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bottega.core.table import CODED, ORDERED, Column, Schema, Table, typed
from bottega.core.validate import Strict

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Past = Literal["second previous", "mean previous", "first"]


class Wide(NamedTuple):
    """Steps of a flat table, sorted by entity and order.

    Attributes:
        table: under `Layout.wide_schema`; N rows.
        owner: which entity each row belongs to, counted from 0 without gaps, int64 [N].
        rows: which flat row each is, int64 [N].
    """

    table: Table
    owner: Rows
    rows: Rows


class Layout(Strict):
    """How flat rows become steps and back.

    Attributes:
        entity: column that rows of one entity share; made afresh.
        order: column that the rows of an entity ascend in; empty keeps them as they stand.
        flat: columns of the flat table.
        constant: learned columns that are the same in all rows of an entity.
        varying: the other learned columns, without `order`.
        units: time columns that a step holds as a difference → seconds that it is counted in; `order` too when it is a
            time.
        last: highest place that is told apart; later rows of an entity count as at this one.
        memory: wide column of a row → what of it is known beside the row before: a place from 2 on also knows what the
            second row before it held, the mean of all rows before it, or the first row. See `data/tables/memory.py`.
        parent: of two linked tables: columns of the first one; empty for one table.
        files: of two linked tables: names of their files.
    """

    entity: str
    order: str = ""
    flat: Schema
    constant: list[str]
    varying: list[str]
    units: dict[str, float] = {}
    last: int = 0
    memory: dict[str, list[Past]] = {}
    parent: list[str] = []
    files: list[str] = []

    @property
    def count(self) -> str:
        """Name of the column that says how many rows an entity has."""
        return f"rows of {self.entity}"

    @property
    def place(self) -> str:
        """Name of the wide column that says where in its entity a row stands, from 0."""
        return f"place in {self.entity}"

    @property
    def start(self) -> str:
        """Name of the wide column that holds where an entity's order begins."""
        return f"first {self.order}"

    @property
    def of_entity(self) -> list[str]:
        """Wide columns that are drawn once for an entity, and that conditions can be about."""
        return [*self.constant, *([self.start] if self.order else []), self.count]

    @property
    def of_row(self) -> list[str]:
        """Wide columns that are drawn for every row."""
        return [self.step(name) for name in ([self.order] if self.order else []) + self.varying]

    @property
    def given(self) -> list[str]:
        """Wide columns that are known before a row is drawn, beside those of the entity; never drawn themselves."""
        return [self.place, *map(self.before, self.of_row), *(self.past(which, name) for which, name in self.longer)]

    @property
    def longer(self) -> list[tuple[Past, str]]:
        """What is known of earlier rows than the one before: which row, and the wide column of it."""
        return [(which, name) for name in self.of_row for which in self.memory.get(name, [])]

    @property
    def averages(self) -> list[str]:
        """Wide columns of a row of which the mean so far is known."""
        return [name for which, name in self.longer if which == "mean previous"]

    @property
    def child(self) -> list[str]:
        """Of two linked tables: columns of the second one, the key first."""
        return [self.entity, *(name for name in self.flat.names if name not in self.parent and name != self.count)]

    def step(self, name: str) -> str:
        """Return the wide column that tells a varying column of the flat table."""
        if name == self.order:
            return f"{name} after previous"
        return f"{name} after {self.order}" if name in self.units else name

    @staticmethod
    def before(name: str) -> str:
        """Return the wide column that tells what a wide column of a row was in the row before."""
        return f"previous {name}"

    @staticmethod
    def past(which: Past, name: str) -> str:
        """Return the wide column that tells what a wide column of a row was in an earlier row than the one before."""
        return f"{which} {name}"

    def may_decide(self, key: str, name: str) -> bool:
        """Return whether a wide column may be computed from another: never what is drawn before from what comes after.
        """
        return name in self.of_row or (name in self.constant and key in self.constant)

    @property
    def wide_schema(self) -> Schema:
        """The columns of steps; what their values say is added by the codec."""
        columns = [_bare(self.flat.column(name)) for name in self.constant]
        if self.order:
            columns.append(_bare(self.flat.column(self.order)).model_copy(update={"name": self.start}))
        columns.append(Column(name=self.count, kind="integer", arrow="int64"))
        columns.append(Column(name=self.place, kind="category", arrow="int64"))
        steps = []
        for name in ([self.order] if self.order else []) + self.varying:
            column = _bare(self.flat.column(name)).model_copy(update={"name": self.step(name)})
            if name in self.units:
                column = Column(name=column.name, kind="integer", arrow="int64")
            steps.append(column)
        told = {step.name: step for step in steps}
        for which, name in self.longer:
            mean = Column(name=self.past(which, name), kind="number", arrow="double")
            columns.append(mean if which == "mean previous" else told[name].model_copy(update={"name": mean.name}))
        return Schema(columns=columns + [step.model_copy(update={"name": self.before(step.name)}) for step in steps]
                      + steps)

    def wide(self, flat: Table, owner: Rows | None = None) -> Wide:
        """Return the steps of flat rows.

        Args:
            flat: N rows in any order; no order is missing.
            owner: number of the entity of each row, int64 [N]; by default the entity's column says, which is whole.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        found = flat.codes(self.entity)[0] if owner is None else owner
        owner = np.unique(found, return_inverse=True)[1].reshape(-1).astype(np.int64)
        index = np.lexsort((flat.values(self.order), owner)) if self.order else np.argsort(owner, kind="stable")
        flat, owner = flat.take(index), owner[index]
        fresh = np.r_[True, owner[1:] != owner[:-1]] if len(owner) else np.zeros(0, bool)
        first = np.flatnonzero(fresh)[owner] if len(owner) else owner
        place, total = np.arange(len(owner)) - first, np.bincount(owner)[owner] if len(owner) else owner
        if self.parent:
            total = np.where(flat.values(self.count) == 0, 0, total)
        back = pa.array(np.arange(len(owner)) - 1, mask=fresh)
        past: dict[Past, Any] = {"second previous": pa.array(np.arange(len(owner)) - 2, mask=place < 2),
                                 "first": pa.array(first, mask=place < 2)}
        data: dict[str, Any] = {name: flat.data[name] for name in self.constant}
        data[self.count], data[self.place] = pa.array(total), pa.array(np.minimum(place, self.last))
        if self.order:
            data[self.start] = flat.data[self.order].take(pa.array(first))
        schema = self.wide_schema
        for name in ([self.order] if self.order else []) + self.varying:
            value, step = flat.data[name], self.step(name)
            if name == self.order or name in self.units:
                base = flat.values(self.order)
                gone = np.where(fresh, np.nan, np.r_[np.nan, base[:-1]]) if name == self.order else base
                value = typed((flat.values(name) - gone) / self.units.get(name, 1.0), schema.column(step))
            data[step], data[self.before(step)] = value, pc.take(value, back)
            for which in self.memory.get(step, []):
                known = self.past(which, step)
                data[known] = pc.take(value, past[which]) if which in past else typed(
                    np.where(place < 2, np.nan, _means(value, schema.column(step), first)), schema.column(known))
        return Wide(Table(schema, pa.table({name: data[name] for name in schema.names})), owner, index)

    def flat_rows(self, entities: Table, steps: Table, now: Floats) -> Table:
        """Return the flat rows of one step of several entities; ids and free text are left empty.

        Args:
            entities: wide rows that hold what is constant; N rows.
            steps: wide rows that hold what varies; N rows. A row of an entity that has none holds nothing.
            now: of the order, float64 [N], NaN for none; see `advance`.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        empty = entities.values(self.count) == 0
        data: dict[str, Any] = {}
        for column in self.flat.columns:
            name = column.name
            if name in self.constant or name == self.count:
                data[name] = entities.data[name]
            elif name == self.order:
                data[name] = typed(np.where(empty, np.nan, now), column)
            elif name in self.units:
                later = now + steps.values(self.step(name)) * self.units[name]
                data[name] = typed(np.where(empty, np.nan, later), column)
            elif name in self.varying:
                data[name] = pc.if_else(pa.array(empty), pa.scalar(None, steps.data[name].type), steps.data[name])
            else:
                data[name] = typed(np.full(len(entities), np.nan), column)
        return Table(self.flat, pa.table(data))

    def advance(self, entities: Table, steps: Table, before: Floats | None) -> Floats:
        """Return where in the order the rows of a step stand, float64 [N]: never before the row before.

        Args:
            entities, steps: as of `flat_rows`.
            before: of the rows before, None of the first.
        """
        if not self.order:
            return np.full(len(entities), np.nan)
        if before is None:
            return entities.values(self.start)
        found: Floats = before + np.maximum(steps.values(self.step(self.order)), 0.0) * self.units.get(self.order, 1.0)
        return np.round(found, 9)  # a sum of decimals is not exact

    def split(self, flat: Table) -> tuple[Table, Table]:
        """Return the two tables of linked flat rows: one row for each entity, and the rows that point at them."""
        codes = flat.codes(self.entity)[0]
        first = np.sort(np.unique(codes, return_index=True)[1])
        schema = {column.name: column for column in self.flat.columns}
        return tuple(Table(Schema(columns=[schema[name] for name in names]), part.data)  # type: ignore[return-value]
                     for names, part in ((self.parent, flat.take(first)),
                                         (self.child, flat.take(flat.values(self.count) > 0))))


def learnable(column: Column) -> bool:
    """Return whether a model learns a column."""
    return column.kind in ORDERED + CODED


def averaged(total: Floats, count: Floats) -> Floats:
    """Return means, NaN of nothing; in single precision, so that they do not depend on how the sums were added up."""
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean.astype(np.float32).astype(np.float64)


def _means(column: Any, kind: Column, first: Rows) -> Floats:
    """Return the mean of an ordered Arrow column over the rows before each row of its entity, which begins at `first`.
    """
    import pyarrow as pa

    values = Table(Schema(columns=[kind]), pa.table({kind.name: column})).values(kind.name)
    known = ~np.isnan(values)
    count = np.r_[0, np.cumsum(known)[:-1]]
    total, values = np.zeros(len(values)), np.where(known, values, 0.0)
    for start, end in itertools.pairwise([*np.unique(first).tolist(), len(values)]):
        np.cumsum(values[start:end - 1], out=total[start + 1:end])  # a sum over all would lose the small to the large
    return averaged(total, count - count[first])


def _bare(column: Column) -> Column:
    return Column(name=column.name, kind=column.kind, arrow=column.arrow)
