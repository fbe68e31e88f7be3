"""From a file to a prepared table: read → guess types → check rules → split → learn codes → write.

    bottega data prepare recipes/patients-table.yaml data.sources=[my.csv]

A table is named by the digest of its input, its settings and the code, and reused while it verifies.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.core.energy import CostMeter
from bottega.core.errors import CorruptError, DataError, Interrupted, RecipeError
from bottega.core.files import atomic_dir, digest_json, file_table, remove_unfinished, write_atomic, write_json
from bottega.core.lineage import Licence, Lineage, code_digest, merge_licences
from bottega.core.progress import say, timed
from bottega.core.recipe import DataSpec
from bottega.core.table import Table
from bottega.core.table_sequences import Layout
from bottega.data.dataset import CARD, SPLITS
from bottega.data.pictures.card import make_card
from bottega.data.tables.dataset import Codec, TableCodec, TableDataset, content_digest
from bottega.data.tables.infer import infer
from bottega.data.tables.memory import remembering
from bottega.data.tables.mixed import check_mixed
from bottega.data.tables.notices import EMPTY, notice, noticed, tell_kinds
from bottega.data.tables.read import identity, licence_of, read
from bottega.data.tables.sequences import read_sequences

_FEWEST = 20  # rows among which anyone can hide
_ALIKE = 0.2  # of the rows equal an earlier one: then equal rows are nothing odd
_WRITTEN = "a model of text learns to write it"
_TYPES = {"number": "sc:Float", "integer": "sc:Integer", "datetime": "sc:DateTime", "boolean": "sc:Boolean"}


def prepare_table(spec: DataSpec, codec: Codec, *, home: Path, seed: int = 0,
                  known: bool = False) -> TableDataset[Codec]:
    """Prepare a table, or return the one that was made from the same input and settings before.

    Args:
        spec: the recipe's data part; one source, or two that a key links. `rules`, `languages` and `decontaminate` are
            about texts and must be empty.
        codec: that knows the settings only, `TableCodec(spec)`. Where it names an entity, the rows that are kept are
            steps (`core/table_sequences.py`), and no entity is on both sides of the split.
        home: the workshop; datasets lie in its data folder.
        seed: recorded in the lineage; the split does not depend on it, so that seeds are compared on the same rows.
        known: the codec knows its columns and codes already: those of a model that is trained further. Levels it never
            saw count as rare ones, numbers outside take the nearest code.

    Raises:
        InputError: the source is not there.
        RecipeError: a setting that tables do not have, or a rule about a column that is not there.
        DataError: the table cannot be used; the message names column, row and value.
        ResourceError: the disk is full.
        Interrupted: Ctrl-C; nothing half done is left.
    """
    for setting, value in (("rules", spec.rules), ("languages", spec.languages), ("decontaminate", spec.decontaminate)):
        if value:
            raise RecipeError(f"tables have no data.{setting}: {value}", where=f"data.{setting}",
                              fix="leave it out; rules of a table are codec.rules")
    if len(spec.sources) != 1 and (len(spec.sources) != 2 or not codec.spec.entity):
        raise RecipeError(f"a table has one source, these are {len(spec.sources)}", where="data.sources",
                          fix="put the rows into one file; of two tables that a key links, say it with codec.entity")
    if codec.spec.order and not codec.spec.entity:
        raise RecipeError(f"codec.order is '{codec.spec.order}', but no column says which rows belong together",
                          where="codec.order", fix="say it with codec.entity")
    try:
        return _prepare(spec, codec, home, seed, known)
    except KeyboardInterrupt:
        raise Interrupted("data preparation was stopped", where=str(home / "data"),
                          fix="run the same command again") from None


def _prepare(spec: DataSpec, codec: Codec, home: Path, seed: int, known: bool) -> TableDataset[Codec]:
    meter, source = CostMeter(), spec.sources[0]
    remove_unfinished(home / "data")
    key = digest_json([spec.model_dump(mode="json"), codec.digest if known else codec.describe(), code_digest(),
                       np.__version__, *map(identity, spec.sources)])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).stem).strip("-.") or "table"
    path = home / "data" / f"{name}-{key[:12]}"
    if path.is_dir():
        try:
            data = TableDataset.open(path, type(codec))
            for text in data.notices:
                say(text)
            return data
        except CorruptError as error:
            say(f"preparing again: {error.problem}")
    entity = codec.spec.entity
    with noticed() as notices:
        with timed(f"reading {' and '.join(spec.sources)}"):
            whole, layout = _read(spec, codec, known)
        count, unit = len(whole), f"'{entity}'" if entity else "row"
        whole, dropped = _by_rules(whole, codec, unit)
    usable = len(np.unique(whole.codes(entity)[0])) if entity else len(whole)
    if usable < max(2, _FEWEST if codec.spec.protect > 1 else 2):
        raise DataError(f"{source} has {usable} usable {unit}{'' if entity else 's'}: too few for anyone to hide among "
                        "them", where=source,
                        fix=f"give {_FEWEST} or more; codec.protect=1 takes two or more and protects nobody")
    if not (layout.constant + layout.of_row if layout else whole.schema.learned):
        raise DataError(f"{source} has no column to learn: all are ids or free text", where=source,
                        fix="say what they are with codec.columns={NAME: category}")
    held = _held_out(whole, spec.validation, [entity] if entity else whole.schema.names)
    parts = {"train": whole.take(~held), "validation": whole.take(held)}
    layout = remembering(layout, parts["train"]) if layout else None
    wide = {split: layout.wide(part) for split, part in parts.items()} if layout else {}
    tables = {split: part.table for split, part in wide.items()} or parts
    with atomic_dir(path, replace=True) as folder:
        with timed(f"learning the codes of {len(whole.schema.names)} columns"):
            codec = codec if known else codec.learn(tables["train"], layout, wide["train"].owner if layout else None)
        for split in SPLITS:
            _write(folder, split, tables[split], codec)
        codec.save(folder)
        files = file_table(folder)
        digest = content_digest(files)
        licence = Licence(spdx=licence_of(source, spec.licence), evidence=f"stated for {source}")
        facts = {"codec": codec.describe(), "dropped": dropped, "notices": notices, "licences": [licence.spdx],
                 "columns": {column.name: column.kind for column in codec.schema.columns},
                 "stages": {"read": count, "kept": len(whole), "dropped": count - len(whole)},
                 "splits": {split: {"rows": len(tables[split])} for split in SPLITS},
                 **({"entities": {split: int(part.owner.max()) + 1 for split, part in wide.items()}} if wide else {})}
        fields = {column.name: (_TYPES.get(column.kind, "sc:Text"), str(column.kind))
                  for column in codec.schema.columns}
        write_json(folder / CARD, make_card(name, spec, files, digest, facts, kind="table", rows="rows-train.parquet",
                                            fields=fields))
        Lineage(kind="dataset", name=name, content=digest, step="prepare table", seed=seed,
                parameters={**spec.model_dump(mode="json"), "table": codec.describe()},
                licences=merge_licences([licence]), cost=meter.read()).save(folder)
    return TableDataset.open(path, type(codec))


def _read(spec: DataSpec, codec: TableCodec, known: bool) -> tuple[Table, Layout | None]:
    """Return the rows as they are in the file, and of sequences their layout."""
    source, protect = spec.sources[0], codec.spec.protect
    if codec.spec.entity:
        return read_sequences(spec.sources, codec.spec, spec.limit)
    rows, kinds = read(source, codec.spec.names).slice(0, spec.limit), codec.spec.columns
    if known:
        _same_columns(codec.schema.names, rows.column_names, source)
        kinds = {column.name: column.kind for column in codec.schema.columns}
    check_mixed(rows, kinds, source, protect)
    data, schema = infer(rows, kinds, source)
    tell_kinds(data, schema, protect, texts=_WRITTEN if codec.spec.texts else EMPTY)
    return Table(codec.schema if known else schema, data), None


def _by_rules(whole: Table, codec: TableCodec, unit: str) -> tuple[Table, dict[str, int]]:
    """Return the rows that keep the declared rules, and how many broke each; of an entity all rows or none stay."""
    dropped, entity = {}, codec.spec.entity
    for rule in codec.declare(whole.schema):
        broken = rule.broken(whole)
        if broken.any():
            dropped[rule.text] = int(broken.sum())
            notice(f"{dropped[rule.text]} of {len(whole)} rows break '{rule.text}' and are left out"
                   + (f", with all rows of their {unit}" if entity else ""))
            whole = whole.take(~_all_of(whole, entity, broken) if entity else ~broken)
    return whole, dropped


def _same_columns(known: list[str], found: list[str], source: str) -> None:
    """Refuse rows that have other columns than the model they are for.

    Raises:
        DataError: a column is missing, or one too many.
    """
    odd = sorted(set(known) ^ set(found))
    if odd:
        raise DataError(f"{source} {'lacks the column' if odd[0] in known else 'has a column that the base lacks:'} "
                        f"'{odd[0]}'", where=source, fix=f"give the columns {', '.join(known[:20])}")


def _all_of(table: Table, entity: str, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows share their entity with one of the given ones: a sequence with a hole is another sequence."""
    owner = table.codes(entity)[0]
    return np.isin(owner, owner[rows])


def _held_out(table: Table, share: float, names: list[str]) -> NDArray[np.bool_]:
    """Return which rows are held out, by a hash of what they hold in columns: equal rows are on one side.

    Where more than a fifth of the rows equal another, as answers to few questions do, being equal says nothing of who
    they are of: their numbers among their like are hashed too, so that held-out rows equal training rows as often as
    fresh ones would. At least one is held out, and one is not.
    """
    import pyarrow.compute as pc

    text = pc.binary_join_element_wise(*[pc.fill_null(pc.cast(table.data[name], "string"), "\x00")
                                         for name in names], "\x1f")
    rows = text.to_pylist()
    if names == table.schema.names and len(rows) - len(set(rows)) > _ALIKE * len(rows):
        seen: Counter[str] = Counter()
        for place, row in enumerate(rows):
            rows[place], seen[row] = f"{row}\x1e{seen[row]}", seen[row] + 1
    draw = np.array([int.from_bytes(hashlib.sha256(row.encode()).digest()[:6], "big") for row in rows])
    held: NDArray[np.bool_] = draw < share * 2**48
    if not held.any() or held.all():
        held = draw == draw.min() if not held.any() else draw != draw.max()
    if held.all():  # all rows are the same
        held[1:] = False
    return held


def _write(folder: Path, split: str, table: Table, codec: Any) -> None:
    import pyarrow.parquet as pq

    write_atomic(folder / f"rows-{split}.parquet", lambda path: pq.write_table(table.data, path))
    for name, array in zip(("codes", "places"), codec.encode(table), strict=True):
        _save(folder / f"{name}-{split}.npy", array)


def _save(path: Path, array: NDArray[Any]) -> None:
    out = np.lib.format.open_memmap(path, "w+", array.dtype, array.shape)
    out[:] = array
    out.flush()
