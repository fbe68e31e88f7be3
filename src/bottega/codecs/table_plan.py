"""What a table's codec learns from rules: which columns are learned, which are computed, and in what order.

What a rule or a link decides is not learned: of an order the gap is, of a combination the pair, of a formula and of a
function nothing. `codecs/table.py` codes and decodes by it; `pytest tests/codecs/test_table.py` exercises both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bottega.codecs import table_links, table_rules
from bottega.codecs.table_coding import Coding, fit_levels, fit_values
from bottega.codecs.table_decimals import ends
from bottega.core.errors import RecipeError
from bottega.core.table import Column, Kind, Table
from bottega.core.table_sequences import Layout
from bottega.core.validate import Strict

JOIN, NONE = "\x1f", "\x00"  # between and instead of the members of a combination


class TableSpec(Strict):
    """How a table is read and coded.

    Attributes:
        columns: column → kind, where the guess is wrong.
        names: names of the columns of files that have no header.
        rules: that every row keeps; see `table_rules`.
        codes: groups that a number is cut into.
        protect: smallest number of rows that a level, a spike or a group is kept of. 1 protects nobody.
        links: find columns that another one decides, and compute them.
        entity: column that rows which belong together share: of a patient's visits, `patient_id`. It is made afresh;
            the rest of an entity's rows is learned together. With two sources the first holds one row for each entity
            and the second the rows that point at them by this column.
        order: column that the rows of an entity ascend in, a number or a time; empty keeps them as they stand.
        texts: free text is learned too, by a model of text inside the table's; else it comes out empty. Off, because
            nothing in a text is pooled by `protect`.
    """

    columns: dict[str, Kind] = {}
    names: list[str] = []
    rules: list[str] = []
    codes: int = Field(default=64, ge=2, le=1024)
    protect: int = Field(default=5, ge=1, le=1000)
    links: bool = True
    entity: str = ""
    order: str = ""
    texts: bool = False


class Latent(Strict):
    """A learned column: a `plain` one, the `gap` between two, the `joint` levels of several, or whether a free text
    is `there`.

    Attributes:
        name: for messages; of a gap `large - small`.
        kind: what it is.
        columns: of the table.
        anchor: of a gap: what stands for a missing smaller value.
        strict: of a gap: it is never 0.
        coding: of its values or levels.
    """

    name: str
    kind: Literal["plain", "gap", "joint", "there"]
    columns: list[str]
    anchor: float = 0.0
    strict: bool = False
    coding: Coding


class Mapping(Strict):
    """A column that another one decides: text of the key → text of the value, None for missing."""

    key: str
    column: str
    values: dict[str, str | None]
    missing: str | None = None  # the value where the key is missing


class Plan:
    """Which columns are learned, and how the others follow from them."""

    def __init__(self, table: Table, rules: list[table_rules.Rule], spec: TableSpec, layout: Layout | None,
                 owner: NDArray[np.int64] | None) -> None:
        self.table, self.rules, self.spec, self.owner = table, rules, spec, owner
        self.mappings: list[Mapping] = []
        self.computed: dict[str, str] = {}  # column → the rule or link that decides it
        for rule in rules:
            if rule.form == "formula":
                self._compute(rule.columns[0], rule.text)
        for rule in rules:
            if rule.form == "function":
                self._map(rule.columns[0], rule.columns[1], rule.text)
        self.orders = [rule for rule in rules if rule.form == "order"]
        for rule in self.orders:
            self._compute(rule.columns[1], rule.text)
        self._acyclic()
        self.joint = [rule for rule in rules if rule.form == "combination"]
        for rule in self.joint:
            for name in rule.columns:
                self._compute(name, rule.text)
        if spec.links:
            taken = set(self.computed) | {name for rule in rules for name in rule.columns}
            may = layout.may_decide if layout else lambda key, name: True
            for key, column in table_links.find(table, without=taken, protect=spec.protect, may=may):
                self._map(key, column, f"{key} -> {column}")

    def _compute(self, name: str, text: str) -> None:
        if name in self.computed:
            raise RecipeError(f"'{text}' and '{self.computed[name]}' both decide '{name}'", where="codec.rules",
                              fix="keep one of them")
        self.computed[name] = text

    def _acyclic(self) -> None:
        larger = {rule.columns[1]: rule.columns[0] for rule in self.orders}
        for start in larger:
            name, seen = start, {start}
            while name in larger:
                name = larger[name]
                if name in seen:
                    raise RecipeError(f"the orders go round in a circle at '{name}'", where="codec.rules",
                                      fix="take one of them out")
                seen.add(name)

    def _map(self, key: str, column: str, text: str) -> None:
        self._compute(column, text)
        names, levels = self.table.codes(key)
        values, own = self.table.codes(column)
        pairs = np.stack([names, values], axis=1)
        unique, count = np.unique(pairs, axis=0, return_counts=True)
        best: dict[int, tuple[int, int]] = {}
        for (left, right), rows in zip(unique.tolist(), count.tolist(), strict=True):
            best[left] = max(best.get(left, (0, 0)), (rows, right))
        found = {levels[left]: own[right] if right >= 0 else None for left, (_, right) in best.items() if left >= 0}
        missing = own[best[-1][1]] if -1 in best and best[-1][1] >= 0 else None
        self.mappings.append(Mapping(key=key, column=column, values=found, missing=missing))

    def latents(self) -> list[Latent]:
        """Return the learned columns; a gap stands after the column it starts from."""
        ordered = {rule.columns[1]: rule for rule in self.orders}
        found: list[Latent] = []
        for column in self.table.schema.learned:
            if column.name in ordered:
                continue
            if column.name not in self.computed:
                found.append(self._plain(column))
        for rule in self.joint:
            found.append(self._joint(rule))
        if self.spec.texts:
            found += [self._there(column) for column in self.table.schema.columns
                      if column.kind == "text" and 0 < column.missing < 1]
        waiting = dict(ordered)
        while waiting:
            for name, rule in list(waiting.items()):
                if rule.columns[0] not in waiting:
                    found.append(self._gap(rule))
                    del waiting[name]
        return found

    def _plain(self, column: Column) -> Latent:
        if column.ordered:
            coding = fit_values(column, self.table.values(column.name), codes=self.spec.codes,
                                protect=self.spec.protect, owner=self.owner,
                                listed=any(mapping.key == column.name for mapping in self.mappings))
        else:
            coding = fit_levels(column, self.table.codes(column.name)[0], protect=self.spec.protect, owner=self.owner)
        return Latent(name=column.name, kind="plain", columns=[column.name], coding=coding)

    def _there(self, column: Column) -> Latent:
        shape = Column(name=column.name, kind="category", arrow="string", levels=["there"])
        coding = fit_levels(shape, there(column.name, self.table), protect=self.spec.protect, owner=self.owner)
        return Latent(name=column.name, kind="there", columns=[column.name], coding=coding)

    def _gap(self, rule: table_rules.Rule) -> Latent:
        small, large = rule.columns
        below = self.table.values(small)
        anchor = float(np.nanmedian(below)) if (~np.isnan(below)).any() else 0.0
        shape = self.table.schema.column(large)
        column = Column(name=f"{large} - {small}", kind=shape.kind if shape.kind != "datetime" else "number",
                        arrow="double", decimals=None if shape.decimals is None or shape.kind == "datetime"
                        else shape.decimals)
        values = self.table.values(large) - np.where(np.isnan(below), anchor, below)
        column = column.model_copy(update={**ends(values)})
        coding = fit_values(column, values, codes=self.spec.codes, protect=self.spec.protect, owner=self.owner)
        return Latent(name=column.name, kind="gap", columns=rule.columns, anchor=anchor, strict=rule.strict,
                      coding=coding)

    def _joint(self, rule: table_rules.Rule) -> Latent:
        texts = joined(rule.columns, self.table)
        levels, codes = table_links.by_frequency(texts, self.owner)
        column = Column(name=", ".join(rule.columns), kind="category", arrow="string", levels=levels)
        coding = fit_levels(column, codes, protect=self.spec.protect, owner=self.owner)
        return Latent(name=column.name, kind="joint", columns=rule.columns, coding=coding)


def there(name: str, table: Table) -> NDArray[np.int32]:
    """Return 0 for each row that has a value in a column and -1 for each that has none, int32 [N]."""
    gone = table.data[name].is_null().to_numpy(zero_copy_only=False)
    return np.where(gone, -1, 0).astype(np.int32)


def joined(columns: Iterable[str], table: Table) -> list[str | None]:
    """Return a text for the combination of each row's levels in some columns."""
    parts: list[list[str]] = []
    for name in columns:
        codes, levels = table.codes(name)
        shown = [*levels, NONE]
        parts.append([shown[code] for code in codes.tolist()])
    return [JOIN.join(row) for row in zip(*parts, strict=True)]
