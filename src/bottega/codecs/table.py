"""Tables to codes and back, with every declared rule kept by construction. `bottega train` saves one with the model.

What a rule or a link decides is not learned but computed: of an order the gap is learned, of a combination the pair,
of a formula and of a function nothing. What is learned are the latent columns; a row is one code and one position
inside it for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bottega.codecs import table_rules
from bottega.codecs.table_coding import Fitted, holders
from bottega.codecs.table_decimals import decimals_of, ends, rounded
from bottega.codecs.table_ids import FreshIds
from bottega.codecs.table_plan import JOIN, NONE, Latent, Mapping, Plan, TableSpec, joined, there
from bottega.codecs.table_steps import of_steps
from bottega.core.errors import CorruptError, DataError, RecipeError, suggest
from bottega.core.files import digest_json, read_json, write_json
from bottega.core.table import ORDERED, Column, Schema, Table, arrow_type, as_text, typed
from bottega.core.table_sequences import Layout
from bottega.core.validate import Strict, validate

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "table_codec.json"


class _Saved(Strict):
    """The content of table_codec.json."""

    format: Literal[1] = 1
    kind: Literal["table"] = "table"
    spec: TableSpec
    table: Schema
    latents: list[Latent]
    mappings: list[Mapping]
    rows: int
    layout: Layout | None = None
    entities: int = 0


@dataclass(frozen=True)
class TableCodec:
    """One schema and how its rows become codes.

    Attributes:
        spec: what was asked for.
        schema: the columns of the rows that are coded: of sequences, of their steps.
        latents: the learned columns, in the order of the codes.
        mappings: columns that another one decides, in the order to compute them.
        rows: training rows it was learned from.
        layout: of sequences: how rows that people give and get become steps.
        entities: of sequences: in the training rows.
    """

    kind: ClassVar[str] = "table"
    spec: TableSpec
    schema: Schema = field(default_factory=lambda: Schema(columns=[]))
    latents: list[Latent] = field(default_factory=list)
    mappings: list[Mapping] = field(default_factory=list)
    rows: int = 0
    layout: Layout | None = None
    entities: int = 0

    @staticmethod
    def of(settings: dict[str, Any]) -> TableCodec:
        """Return a codec that knows the settings only; `learn` adds columns and values.

        Raises:
            RecipeError: an unknown setting or a bad value.
        """
        return TableCodec(validate(TableSpec, settings, where="codec"))

    def learn(self, table: Table, layout: Layout | None = None, owner: NDArray[np.int64] | None = None) -> TableCodec:
        """Return a codec of a table's columns, rules and values.

        Args:
            table: the training rows; they keep all rules.
            layout: of sequences, whose steps they are.
            owner: of sequences: the entity of each row, int64 [N]. What fewer than `protect` of them share is not kept.

        Raises:
            RecipeError: a rule or a kind names a column that is not there, or rules contradict each other.
        """
        names = layout.flat.names if layout else table.schema.names
        for name in self.spec.columns:
            if name not in names:
                raise RecipeError(f"codec.columns names '{name}', which the table has not", where="codec.columns",
                                  fix=suggest(name, names))
        schema = Schema(columns=[_facts(column, table, owner) for column in table.schema.columns])
        table = Table(schema, table.data)
        fresh = replace(self, schema=schema, rows=len(table), layout=layout,
                        entities=0 if owner is None else len(np.unique(owner)))
        plan = Plan(table, fresh.coded_rules, self.spec, layout, owner)
        return replace(fresh, schema=Schema(columns=[_common(column, table, owner, self.spec.protect)
                                                     for column in schema.columns]),
                       latents=plan.latents(), mappings=plan.mappings)

    def declare(self, schema: Schema) -> list[table_rules.Rule]:
        """Return the declared rules, checked against a schema.

        Raises:
            RecipeError: one is no rule, names a column that is not there, or is about a text that is to be written.
        """
        rules = [table_rules.parse(text, schema) for text in self.spec.rules]
        for rule in rules if self.spec.texts else []:
            for name in rule.columns:
                if schema.column(name).kind == "text":
                    raise RecipeError(f"'{rule.text}' is about the free text '{name}', and a model of text keeps no "
                                      "rule", where="codec.rules",
                                      fix=f"leave the rule out, or say codec.columns={{{name}: category}}")
        return rules

    @property
    def given(self) -> Schema:
        """The columns of the rows that people give and get."""
        return self.layout.flat if self.layout else self.schema

    @cached_property
    def rules(self) -> list[table_rules.Rule]:
        """The declared rules, about rows as people get them."""
        return [table_rules.parse(text, self.given) for text in self.spec.rules]

    @cached_property
    def coded_rules(self) -> list[table_rules.Rule]:
        """The rules that the codes keep by construction; the others of `rules` are kept by drawing again.

        Raises:
            RecipeError: drawing again cannot keep a rule about the steps of a sequence.
        """
        if self.layout is None:
            return self.rules
        return [table_rules.parse(rule.text, self.schema) for rule in self.rules if of_steps(rule, self.layout)]

    @cached_property
    def fitted(self) -> list[Fitted]:
        """The codings of the latent columns, ready to work."""
        return [Fitted(latent.coding) for latent in self.latents]

    @property
    def sizes(self) -> list[int]:
        """Codes of each latent column."""
        return [latent.coding.size for latent in self.latents]

    def within(self, names: Iterable[str]) -> NDArray[np.bool_]:
        """Return which latent columns are made of the given ones alone, bool [D]."""
        known = set(names)
        return np.array([known.issuperset(latent.columns) for latent in self.latents], bool)

    @property
    def place(self) -> int:
        """Of sequences: which latent column says where in its entity a row stands."""
        assert self.layout is not None
        return next(index for index, one in enumerate(self.latents) if one.columns == [self.layout.place])

    def first_rows(self, codes: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return which rows of sequences are the first of their entity: indices of codes int32 [N, D]."""
        return np.flatnonzero(codes[:, self.place] == 0)  # every entity has one, so its level is the commonest

    def encode(self, table: Table) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return codes int32 [N, D] and positions inside them float32 [N, D] in (0, 1); of levels 0.5."""
        codes = np.zeros((len(table), len(self.latents)), np.int32)
        places = np.full(codes.shape, 0.5, np.float32)
        for index, (latent, fitted) in enumerate(zip(self.latents, self.fitted, strict=True)):
            if latent.coding.column.ordered:
                codes[:, index], places[:, index] = fitted.encode_values(latent_values(latent, table))
            else:
                codes[:, index] = fitted.encode_levels(latent_codes(latent, table)[0])
        return codes, places

    def decode(self, codes: NDArray[np.int32], places: NDArray[np.float32], *, rng: np.random.Generator,
               ids: FreshIds | None = None) -> Table:
        """Return the rows of codes and positions as they come from `encode`; ids are made afresh.

        A free text that a model of text shall write is "" where there is one; any other is missing.

        Args:
            codes: int32 [N, D]; no forbidden ones.
            places: float32 [N, D] in (0, 1).
            rng: for ids.
            ids: that were given out before, in other chunks.
        """
        import pyarrow as pa

        values: dict[str, NDArray[np.float64]] = {}
        texts: dict[str, Any] = {}  # lists and Arrow arrays of strings
        blank: dict[str, NDArray[np.bool_]] = {}
        for index, (latent, fitted) in enumerate(zip(self.latents, self.fitted, strict=True)):
            if latent.kind == "there":
                blank[latent.columns[0]] = codes[:, index] == 0
            elif latent.kind == "joint":
                found = fitted.decode_levels(codes[:, index]).to_pylist()
                parts = [text.split(JOIN) if text is not None else [NONE] * len(latent.columns) for text in found]
                for place, name in enumerate(latent.columns):
                    texts[name] = [None if part[place] == NONE else part[place] for part in parts]
            elif latent.coding.column.ordered:
                values[latent.name] = fitted.decode_values(codes[:, index], places[:, index].astype(np.float64))
            else:
                texts[latent.columns[0]] = fitted.decode_levels(codes[:, index])
        self._add_gaps(values)
        arrays: dict[str, pa.Array] = {
            name: (pa.array(found, pa.string()) if isinstance(found, list) else found).cast(
                arrow_type(self.schema.column(name))) for name, found in texts.items()}
        arrays.update({column.name: typed(values[column.name], column) for column in self.schema.columns
                       if column.name in values})
        for mapping in self.mappings:
            key = as_text(arrays[mapping.key]).to_pylist()
            made = [mapping.missing if one is None else mapping.values.get(one) for one in key]
            arrays[mapping.column] = pa.array(made, pa.string()).cast(arrow_type(self.schema.column(mapping.column)))
        for rule in self.coded_rules:
            if rule.form == "formula":
                parts_of = {name: _floats(arrays[name], self.schema.column(name)) for name in rule.columns[1:]}
                column = self.schema.column(rule.columns[0])
                arrays[column.name] = typed(rounded(rule.value(parts_of), column), column)
        for column in self.schema.columns:
            if column.kind == "id":
                arrays[column.name] = (ids or FreshIds()).take(column, len(codes), rng)
            elif column.kind == "text":
                wanted = np.full(len(codes), self.spec.texts and column.missing < 1)
                mask = ~blank.get(column.name, wanted)
                arrays[column.name] = pa.array([""] * len(codes), pa.string(), mask=mask).cast(arrow_type(column))
        return Table(self.schema, pa.table({name: arrays[name] for name in self.schema.names}))

    def _add_gaps(self, values: dict[str, NDArray[np.float64]]) -> None:
        """Turn gaps into the larger columns, the smaller ones first."""
        for latent in self.latents:
            if latent.kind != "gap":
                continue
            small, large = latent.columns
            column, gap = self.schema.column(large), values.pop(latent.name)
            below, there = values[small], ~np.isnan(values[small])
            least = 10.0 ** -(column.decimals if column.decimals is not None else 9) if latent.strict else 0.0
            if column.kind == "datetime" and latent.strict:
                least = max(1.0, least)
            gap = np.where(there, np.maximum(gap, least), gap)
            made = rounded(np.where(there, below, latent.anchor) + gap, column)
            short = there & ((made <= below) if latent.strict else (made < below))
            values[large] = np.where(short, rounded(below + np.maximum(gap, least), column.model_copy(
                update={"decimals": None})), made)

    def typed(self, column: Column, array: Any) -> Any:
        """Return an Arrow array in a column's own type.

        Raises:
            DataError: a value does not fit; the message shows it.
        """
        import pyarrow as pa

        kind = arrow_type(column)
        try:
            plain = as_text(array) if pa.types.is_string(kind) else array
            return plain.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"column '{column.name}' should hold {column.arrow}: {str(error)[:200]}",
                            fix="correct these values") from None

    def reach(self, name: str) -> tuple[float, float]:
        """Return the smallest and largest value that an ordered column can be made with."""
        column = self.schema.column(name)
        for latent in self.latents:
            if latent.kind == "plain" and latent.columns == [name] and latent.coding.grids:
                return latent.coding.reach
        return column.low if column.low is not None else np.nan, column.high if column.high is not None else np.nan

    def made_levels(self, name: str) -> list[str]:
        """Return the levels that a coded column can be made with."""
        for latent in self.latents:
            if latent.kind == "plain" and latent.columns == [name]:
                return latent.coding.column.levels[:latent.coding.shown]
            if latent.kind == "joint" and name in latent.columns:
                place = latent.columns.index(name)
                shown = latent.coding.column.levels[:latent.coding.shown]
                return [one for one in dict.fromkeys(self.member(level, place) for level in shown) if one is not None]
        mapping = next((one for one in self.mappings if one.column == name), None)
        values = [] if mapping is None else [*mapping.values.values(), mapping.missing]
        return [one for one in dict.fromkeys(values) if one is not None]

    @staticmethod
    def member(level: str | None, place: int) -> str | None:
        """Return one member of a joint level, None where it is missing."""
        part = None if level is None else level.split(JOIN)[place]
        return None if part == NONE else part

    def text_of(self, name: str, value: float) -> str:
        """Return a number of an ordered column as the text that mappings know it by."""
        found: str = as_text(typed(np.array([value]), self.schema.column(name))).to_pylist()[0]
        return found

    def value_of(self, name: str, text: str) -> float:
        """Return the text of an ordered column as a number."""
        import pyarrow as pa

        column = self.schema.column(name)
        return float(_floats(pa.array([text]).cast(arrow_type(column)), column)[0])

    def describe(self) -> dict[str, Any]:
        """Return the settings, for the identity of a dataset."""
        return self.spec.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """SHA-256 of everything it knows."""
        return digest_json(self._saved())

    def _saved(self) -> dict[str, Any]:
        return _Saved(spec=self.spec, table=self.schema, latents=self.latents, mappings=self.mappings,
                      rows=self.rows, layout=self.layout, entities=self.entities).model_dump(mode="json")

    def save(self, folder: Path) -> None:
        """Write table_codec.json."""
        write_json(folder / FILE, self._saved())

    @staticmethod
    def load(folder: Path) -> TableCodec:
        """Read what `save` wrote.

        Raises:
            InputError: it is not there.
            CorruptError: it is no table codec.
        """
        saved = validate(_Saved, read_json(folder / FILE), where=str(folder / FILE), error=CorruptError)
        return TableCodec(saved.spec, saved.table, saved.latents, saved.mappings, saved.rows,
                          saved.layout, saved.entities)


def latent_values(latent: Latent, table: Table) -> NDArray[np.float64]:
    """Return what an ordered latent column holds, float64 [N], NaN for missing: values, or gaps."""
    if latent.kind == "plain":
        return table.values(latent.columns[0])
    small, large = (table.values(name) for name in latent.columns)
    found: NDArray[np.float64] = large - np.where(np.isnan(small), latent.anchor, small)
    return found


def latent_codes(latent: Latent, table: Table) -> tuple[NDArray[np.int32], list[str]]:
    """Return codes into the levels that the coding kept, others above them."""
    kept = latent.coding.column.levels
    if latent.kind == "there":
        return there(latent.columns[0], table), kept
    known = {level: place for place, level in enumerate(kept)}
    if latent.kind == "plain":
        codes, levels = table.codes(latent.columns[0])
        places = np.array([known.get(level, len(kept)) for level in levels] + [-1], np.int32)
        return places[codes], kept
    texts = joined(latent.columns, table)
    return np.array([-1 if text is None else known.get(text, len(kept)) for text in texts], np.int32), kept


def _facts(column: Column, table: Table, owner: NDArray[np.int64] | None) -> Column:
    """Return a column with what its training values say: levels by frequency, ends, decimals, share of missing."""
    gone = float(table.data[column.name].null_count) / max(1, len(table))
    if column.kind in ORDERED:
        values = table.values(column.name)
        return column.model_copy(update={"decimals": decimals_of(values, column.kind), "missing": gone, **ends(values)})
    if column.kind in ("category", "boolean"):
        codes, levels = table.codes(column.name)
        counts = holders(codes, owner, len(levels))
        order = sorted(range(len(levels)), key=lambda place: (-counts[place], levels[place]))
        return column.model_copy(update={"levels": [levels[place] for place in order if counts[place]],
                                         "missing": gone})
    return column.model_copy(update={"missing": gone})


def _common(column: Column, table: Table, owner: NDArray[np.int64] | None, protect: int) -> Column:
    """Return a column without the names of levels that fewer than `protect` hold: they would give them away."""
    if not column.levels:
        return column
    counts = holders(table.codes(column.name)[0], owner, len(column.levels))
    return column.model_copy(update={"levels": [level for level, count in zip(column.levels, counts, strict=True)
                                                if count >= protect]})


def _floats(array: Any, column: Column) -> NDArray[np.float64]:
    import pyarrow as pa

    return Table(Schema(columns=[column]), pa.table({column.name: array})).values(column.name)
