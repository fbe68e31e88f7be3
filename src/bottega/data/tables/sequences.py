"""Rows that belong together, read: one table with an entity column, or two that a key links.

    codec.entity=patient_id codec.order=visit_date data.sources=[visits.csv]
    codec.entity=patient_id codec.order=visit_date data.sources=[patients.csv,visits.csv]

What is the same in all rows of an entity is found in the rows; of two tables it is what the first one holds.
`pytest tests/data/test_table_sequences_read.py` exercises it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import DataError, RecipeError, suggest
from bottega.core.table import Column, Kind, Schema, Table, as_text
from bottega.core.table_sequences import Layout, learnable
from bottega.data.tables.infer import infer
from bottega.data.tables.mixed import check_mixed
from bottega.data.tables.notices import tell_kinds
from bottega.data.tables.read import read

_UNITS = (86400.0, 3600.0, 60.0, 1.0, 1e-3, 1e-6)  # seconds that differences of times are counted in
_PLACES = 30     # places in a sequence that are told apart
_EMPTY = "it is not learned in sequences and comes out empty; make it a category with --kind {name}=category"
_CERTAIN = 1e6  # times as many ids as there are, from which a fresh one is none of them


class Spec(Protocol):
    """What is needed of the settings of a codec; `codecs.table.TableSpec` keeps it."""

    @property
    def entity(self) -> str:
        """Column that rows of one entity share."""

    @property
    def order(self) -> str:
        """Column that they ascend in."""

    @property
    def columns(self) -> dict[str, Kind]:
        """Kinds where the guess is wrong."""

    @property
    def names(self) -> list[str]:
        """Names of the columns of files without a header."""

    @property
    def protect(self) -> int:
        """Smallest number of entities that anything is kept of."""


def read_sequences(sources: list[str], spec: Spec, limit: int | None) -> tuple[Table, Layout]:
    """Return the flat table of one or two sources, and its layout.

    Args:
        sources: one table; or two: of the entities, and of the rows that point at them.
        spec: see `Spec`.
        limit: stop after this many entities.

    Raises:
        InputError: a source is not there.
        RecipeError: `entity` or `order` is no column of the table.
        DataError: an entity or an order is missing in a row; the keys of two tables do not fit each other, or they
            share another column.
    """
    import pyarrow as pa

    tables = [read(source, spec.names if len(sources) == 1 else []) for source in sources]
    for table, source in zip(tables, sources, strict=True):
        _there(spec.entity, "entity", table, source)
        if f"rows of {spec.entity}" in table.column_names:
            raise _taken(f"rows of {spec.entity}", spec.entity, source)
        _whole(table, spec.entity, source)
        check_mixed(table, {spec.entity, *spec.columns}, source, spec.protect)
    parent = list(tables[0].column_names) if len(tables) == 2 else []
    data = _joined(tables[0], tables[1], sources, spec.entity) if parent else tables[0]
    source = sources[-1]
    if spec.order:
        _there(spec.order, "order", tables[-1], source)
        if spec.order == spec.entity:
            raise RecipeError(f"'{spec.order}' is both the entity and the order", where="codec.order",
                              fix="order by a time or a running number, or leave codec.order out")
        _whole(tables[-1], spec.order, source)
    data = _key(data, spec.entity, source)
    owner = _codes(data[spec.entity])
    if limit is not None:
        kept = owner < limit
        data, owner = data.filter(pa.array(kept)), owner[kept]
    flat, layout = _laid_out(data, owner, spec, parent, source)
    return flat, layout.model_copy(update={"files": _files(sources)}) if parent else layout


def _laid_out(data: Any, owner: NDArray[np.int64], spec: Spec, parent: list[str], source: str) -> tuple[Table, Layout]:
    import pyarrow as pa

    for name in spec.columns:
        if name not in data.column_names:
            raise RecipeError(f"codec.columns names '{name}', which the table has not", where="codec.columns",
                              fix=suggest(name, data.column_names))
    entity, count = spec.entity, f"rows of {spec.entity}"
    others = [name for name in data.column_names if name not in (entity, count)]
    same = [name for name in others if (name in parent if parent else _constant(owner, data[name]))
            and name != spec.order]
    _, firsts = np.unique(owner, return_index=True)
    there = np.ones(len(owner), bool) if not parent else data[count].to_numpy() > 0
    kinds: dict[str, Kind] = {}
    of_rows = [name for name in others if name not in same]
    for names, part in ((same, data.take(np.sort(firsts))), (of_rows, data.filter(pa.array(there)))):
        given = {name: kind for name, kind in spec.columns.items() if name in names}
        _, schema = infer(part.select(names), given, source)
        kinds.update({column.name: column.kind for column in schema.columns})
    extra: dict[str, Kind] = {count: "integer"} if parent else {}
    data, schema = infer(data, {**kinds, **extra, entity: "id"}, source)
    tell_kinds(data, schema, spec.protect, texts=_EMPTY)
    schema = Schema(columns=[_certain(column, data[entity]) if column.name == entity else column.model_copy(
        update={"missing": float(data[column.name].filter(pa.array(there)).null_count / max(1, there.sum()))})
        for column in schema.columns])
    if spec.order and not schema.column(spec.order).ordered:
        raise DataError(f"column '{spec.order}' is {schema.column(spec.order).kind}, which has no order",
                        where="codec.order", fix="order by a number or a time that reads as one, such as 2024-05-31")
    learned = {column.name for column in schema.columns if learnable(column)}
    varying = [name for name in others if name in learned and name not in same and name != spec.order]
    flat = Table(schema, data)
    layout = Layout(entity=entity, order=spec.order, flat=schema, constant=[n for n in same if n in learned],
                    varying=varying, units=_units(flat, spec.order, varying), parent=parent,
                    last=_last(np.bincount(owner[there]), spec.protect))
    made = [name for name in layout.wide_schema.names if name not in layout.constant + layout.varying]
    for name in made:
        if name in others or made.count(name) > 1:
            raise _taken(name, entity, source)
    return flat, layout


def _files(sources: list[str]) -> list[str]:
    first, second = (Path(source).name for source in sources)
    return [first, second if second != first else f"rows-{second}"]


def _taken(name: str, entity: str, source: str) -> DataError:
    return DataError(f"a column is named '{name}', which is needed for the steps of '{entity}'", where=source,
                     fix="rename it")


def _there(name: str, what: str, table: Any, source: str) -> None:
    if name not in table.column_names:
        raise RecipeError(f"codec.{what} names '{name}', which {source} has not", where=f"codec.{what}",
                          fix=suggest(name, table.column_names))


def _whole(table: Any, name: str, source: str) -> None:
    gone = np.flatnonzero(table[name].is_null().to_numpy())
    if len(gone):
        rows = ", ".join(str(row + 1) for row in gone[:5]) + (" …" if len(gone) > 5 else "")
        raise DataError(f"'{name}' is missing in {len(gone)} rows: {rows}", where=source,
                        fix="fill it in, or take these rows out: nobody can tell where they belong")


def _key(data: Any, entity: str, source: str) -> Any:
    """Return the table with keys that are whole numbers or text."""
    import pyarrow as pa

    kind, place = data[entity].type, data.column_names.index(entity)
    if pa.types.is_floating(kind):  # pandas turns whole numbers with gaps into floats
        try:
            return data.set_column(place, entity, data[entity].cast(pa.int64()))
        except pa.ArrowInvalid:
            kind = pa.null()
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(f"'{entity}' holds {data[entity].type}, which names no entity", where=source,
                        fix="name entities by text or whole numbers")
    return data


def _joined(parent: Any, child: Any, sources: list[str], key: str) -> Any:
    """Return the left join of two tables, in the order of the first, with the number of rows of each entity."""
    import pyarrow as pa
    import pyarrow.compute as pc

    first, second = sources
    both = [name for name in parent.column_names if name in child.column_names and name != key]
    if both:
        raise DataError(f"both tables have a column '{both[0]}'", where=second,
                        fix=f"rename it in one of them; only the key '{key}' is in both")
    left, right = (as_text(_key(table, key, source)[key].combine_chunks())
                   for table, source in zip((parent, child), sources, strict=True))
    names, times = np.unique(left.to_numpy(zero_copy_only=False), return_counts=True)
    if (times > 1).any():
        raise DataError(f"'{key}' = '{names[times > 1][0]}' is in {times[times > 1][0]} rows of {first}", where=first,
                        fix="a key names one row; give the table of the entities first, then the rows that point at it")
    owner = pc.index_in(right, value_set=left)
    if owner.null_count:
        lost = right.filter(pc.is_null(owner)).to_pylist()
        raise DataError(f"{len(lost)} rows of {second} point at no row of {first}: '{key}' = '{lost[0]}'", where=second,
                        fix="add these entities, or take the rows out")
    of_child = owner.to_numpy()
    counts = np.bincount(of_child, minlength=len(left))
    above = np.r_[of_child, np.flatnonzero(counts == 0)]
    below = np.r_[np.arange(len(of_child)), np.full(int((counts == 0).sum()), -1)]
    order = np.argsort(above, kind="stable")
    above, below = above[order], below[order]
    found = parent.take(pa.array(above)).append_column(f"rows of {key}", pa.array(counts[above]))
    rest = child.drop_columns([key]).take(pa.array(below, mask=below < 0))
    for name in rest.column_names:
        found = found.append_column(name, rest[name])
    return found


def _codes(column: Any) -> NDArray[np.int64]:
    """Return a column as codes in order of appearance, int64 [N]; missing is a value."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    encoded = encoded.combine_chunks() if hasattr(encoded, "combine_chunks") else encoded
    found: NDArray[np.int64] = encoded.indices.to_numpy().astype(np.int64)
    return found


def _constant(owner: NDArray[np.int64], column: Any) -> bool:
    codes = _codes(column)
    return bool(len(np.unique(owner * (codes.max(initial=0) + 1) + codes)) == owner.max(initial=-1) + 1)


def _certain(column: Column, values: Any) -> Column:
    """Return the key's column with a pattern after which fresh keys are certainly new."""
    if column.pattern is None:
        return column
    longest = max(values.to_pylist(), key=len)
    room = np.prod([10.0 if c.isdigit() else 26.0 if c.isascii() and c.isalpha() else 1.0 for c in longest])
    if room >= _CERTAIN * len(values):
        return column
    shape = "".join("0" if c.isdigit() else "A" if c.isupper() else "a" if c.islower() else c for c in longest)
    return column.model_copy(update={"pattern": f"{shape}-00000000"})  # longer than any there is


def _units(flat: Table, order: str, varying: list[str]) -> dict[str, float]:
    """Return the times to tell as differences, and what to count them in."""
    if not order or flat.schema.column(order).kind != "datetime":
        return {}
    base, found = flat.values(order), {}
    for name in [order, *(name for name in varying if flat.schema.column(name).kind == "datetime")]:
        values = base - np.nanmin(base) if name == order else flat.values(name) - base
        known = np.abs(values[~np.isnan(values)])
        found[name] = next((unit for unit in _UNITS if np.allclose(known / unit, np.rint(known / unit), atol=1e-4,
                                                                   rtol=0)), _UNITS[-1])
    return found


def _last(counts: NDArray[np.int64], protect: int) -> int:
    """Return the highest place that enough entities reach."""
    reach = np.sort(counts)[::-1]
    return int(np.clip(reach[min(len(reach), max(protect, 1)) - 1] - 1, 0, _PLACES))
