"""Tables from Python, in the manner of scikit-learn:

    from bottega import tables
    model = tables.fit("patients.csv", rules=["admit <= discharge"])
    rows = model.sample(1000, conditions={"diagnosis": "malignant", "age": {"min": 60}})
    model.report().save("report.html")
    rows.pandas()

A file, an Arrow table or a pandas DataFrame goes in; a `Table` comes out (`.data` is Arrow, `.pandas()` a DataFrame).
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.core.bundle import Bundle
from bottega.core.errors import InputError
from bottega.core.home import workshop
from bottega.core.recipe import Recipe
from bottega.core.table import Kind, Schema, Table
from bottega.core.validate import validate

_EPOCHS, _BATCH = 72, 256       # more passes bring nothing; training ends early where fewer do
_LEAST, _MOST = 300, 20_000     # steps


class TableModel:
    """A fitted model; `fit` makes one, `load` opens one."""

    def __init__(self, bundle: Bundle) -> None:
        from bottega.generation.tables import TableEngine

        self.bundle = bundle
        self.engine = TableEngine.open(bundle)

    @property
    def schema(self) -> Schema:
        """The columns."""
        return self.engine.codec.given

    def sample(self, rows: int, *, seed: int = 0, conditions: Mapping[str, Any] | Sequence[str] | None = None,
               balance: Mapping[str, Mapping[str, float]] | None = None, fair: Mapping[str, str] | None = None,
               temperature: float | None = None) -> Table:
        """Return new rows, exactly as many as asked; the same seed makes the same ones.

        They stay in this process, so the release gate is not asked; before they leave it, look at `report().reasons`.

        Args:
            rows: how many; of a model with an `entity`, how many entities, each with all its rows. Of two linked tables
                the rows are their left join; `sample_linked` gives them apart.
            seed: of all chance.
            conditions: texts such as "age > 70", or column → value, list, {"min": …, "max": …}, None for missing.
            balance: one column → level → share.
            fair: one column of levels → another that it shall say nothing about, such as {"income": "sex"}.
            temperature: 1 is the model's own distribution.

        Raises:
            ControlError: an unknown column or level, or conditions that no row can meet.
        """
        asked = list(conditions) if isinstance(conditions, Sequence) else dict(conditions) if conditions else None
        return self.engine.sample(rows, seed=seed, conditions=asked, balance=balance, fair=fair,
                                  temperature=temperature)

    def sample_linked(self, entities: int, *, seed: int = 0,
                      conditions: Mapping[str, Any] | Sequence[str] | None = None,
                      temperature: float | None = None) -> tuple[Table, Table]:
        """Return new rows of two linked tables: of the entities, and those that point at them.

        Args:
            entities: rows of the first table.
            seed, conditions, temperature: see `sample`; conditions are about the first table.

        Raises:
            InputError: the model is not one of two tables.
            ControlError: as in `sample`.
        """
        layout = self.engine.codec.layout
        if layout is None or not layout.parent:
            raise InputError(f"'{self.bundle.name}' is a model of one table", where="sample_linked",
                             fix="use sample, or fit with child=…")
        return layout.split(self.sample(entities, seed=seed, conditions=conditions, temperature=temperature))

    def impute(self, table: Any, *, seed: int = 0) -> Table:
        """Return rows with every gap of a learned column filled, drawn given the rest of the row; rules are kept.

        Rows that cannot be, and rows for which nothing was found, are told in warnings; `engine.impute` returns these.

        Raises:
            InputError: a model of sequences, which reads only forward.
        """
        found = self.engine.impute(self.read(table), seed=seed)
        for note in found.notes:
            warnings.warn(note, stacklevel=2)
        return found.table

    def log_prob(self, table: Any) -> NDArray[np.float64]:
        """Return how probable each row is, in nats, float64 [N]; low ones are outliers, minus infinity is impossible.

        Of sequences it is given its entity and the rows before, the first one together with the entity: the sum over an
        entity's rows is the log-probability of the sequence. Two linked tables are given as `sample` returns them.
        """
        return self.engine.log_prob(self.read(table))

    def impossible(self, table: Any) -> list[str]:
        """Return for each row why the model can never make it, such as "lo <= hi is broken"; "" where it can."""
        return self.engine.impossible(self.read(table))

    def predict(self, table: Any, column: str) -> tuple[NDArray[np.float32], list[str]]:
        """Return the probability of each level of a column given the rest of each row, float32 [N, levels].

        Of sequences also given the rows before it; of a column that varies.
        """
        return self.engine.predict(self.read(table), column)

    def read(self, table: Any) -> Table:
        """Return a file, an Arrow table or a DataFrame as a table of this model's columns.

        Raises:
            InputError, DataError: it is not readable, or a column is missing or of another type.
        """
        if isinstance(table, Table):
            return table
        from bottega.core.errors import DataError
        from bottega.data.tables.read import read

        data = _arrow(table) if not isinstance(table, str | Path) else read(str(table), self.engine.codec.spec.names)
        columns = {}
        for column in self.schema.columns:
            if column.name not in data.column_names:
                raise DataError(f"the table has no column '{column.name}'",
                                fix=f"the model's columns are {', '.join(self.schema.names)}")
            columns[column.name] = self.engine.codec.typed(column, data[column.name])
        import pyarrow as pa

        return Table(self.schema, pa.table(columns))

    def report(self, *, seed: int = 0) -> Any:
        """Return quality and privacy of as many rows as are held out, beside fresh real ones; `.save(path)` writes it.

        `.reasons` say what speaks against letting rows out. The verdict is kept as the model's last one: with reasons,
        the command line, the server and the studio give no rows away any more.

        Raises:
            InputError: the data that the model was made from is not in the workshop any more.
        """
        from bottega.training.table_report import judged

        found = judged(self.bundle, workshop(), seed=seed)
        found.verdict.keep(workshop())
        return found


def fit(table: Any, *, name: str | None = None, rules: Sequence[str] = (), columns: Mapping[str, Kind] | None = None,
        entity: str = "", order: str = "", child: Any = None, texts: bool = False, minutes: float | None = None,
        seed: int = 0, home: Path | None = None, report: bool = False, **recipe: Any) -> TableModel:
    """Make a model of a table in the workshop.

    Args:
        table: CSV or Parquet file, Arrow table or pandas DataFrame.
        name: of the model; the file's by default. A model of that name is replaced.
        rules: that every row keeps; see `codecs/table_rules.py`.
        columns: column → kind, where the guess is wrong.
        entity: column that rows which belong together share, such as `patient_id`; they are learned as sequences.
        order: column that the rows of an entity ascend in; by default they stay as they stand.
        child: a second table, whose rows point at those of `table` by `entity`; `order` is then one of its columns.
        texts: learn to write free text too; without it such columns come out empty.
        minutes: longest training, with `texts` as long again; by default as many passes over the rows as help.
        seed: of weights, order and subsets.
        home: the workshop; by default BOTTEGA_HOME.
        report: judge the model's rows and write the page into its run, as `TableModel.report` does when asked.
        recipe: further parts of the recipe, such as `generator={"width": 128}`.

    Raises:
        BottegaError: the table or a setting cannot be used; the message says why.
    """
    from bottega.core.home import recipe_path
    from bottega.training.run import make

    home = home or workshop()
    if child is not None and not entity:
        raise InputError("a child table is given, but no column links it", where="entity",
                         fix='name the key that both tables have: entity="patient_id"')
    sources = [Path(one) if isinstance(one, str | Path) else _kept(one, home)
               for one in (table, child) if one is not None]
    source = sources[0]
    plain = Recipe.load(recipe_path(Path("patients-table"))).plain()
    named = name or _name(source.stem)
    budget = {"minutes": minutes} if minutes else {"steps": _steps(sources[-1])}
    merged = {**plain, "name": named, "seed": seed, "description": f"rows like those of {source.name}",
              "data": {"sources": [str(one) for one in sources], "validation": 0.1},
              "codec": {"kind": "table", "rules": list(rules), "columns": dict(columns or {}),
                        **({"entity": entity, "order": order} if entity or order else {}),
                        **({"texts": True} if texts else {})},
              "training": {**plain["training"], "budget": budget}}
    for part, values in recipe.items():
        merged[part] = {**merged.get(part, {}), **values} if isinstance(values, dict) else values
    return TableModel(make(validate(Recipe, merged, where="fit"), home=home, replace=True, report=report))


def augment(table: Any, target: str, *, level: str | None = None, share: float | None = None, seed: int = 0,
            model: TableModel | None = None, home: Path | None = None, **fitting: Any) -> Table:
    """Return new rows of a rare class, to be put below the real ones before a classifier is trained on both.

    More rows of the class are made than are needed; those are kept that trees trained on the real rows most take for
    it. Whether that helps differs from table to table: `evaluation.table_augmentation` measures it.

    Args:
        table: CSV or Parquet file, Arrow table or pandas DataFrame.
        target: the column of classes.
        level: the class; the rarest by default.
        share: of the class in all rows together; by default halfway between its own share and half.
        seed: of the model, its rows and the trees.
        model: fitted on the same rows and on no test row; by default one is fitted, and named after the table and the
            target.
        home: the workshop; by default BOTTEGA_HOME.
        fitting: for `fit`, such as `name` or `rules`.

    Raises:
        BottegaError: the table cannot be used, the target has no such class, or the class is no rare one.
    """
    from bottega.evaluation.table_augmentation import DRAWN, convincing, rare

    if model is None:
        stem = Path(table).stem if isinstance(table, str | Path) else "table"
        model = fit(table, seed=seed, home=home, **{"name": _name(f"{stem}-more-{target}"), **fitting})
    real = model.read(table)
    of = rare(real, target, level)
    count = of.missing(share)
    made = model.sample(DRAWN * count, seed=seed, conditions={target: of.level})
    return convincing(real, made, of, count, seed=seed)


def load(model: Path | str) -> TableModel:
    """Open a model by its folder or by its name in the workshop.

    Raises:
        InputError: there is no such model, or it makes no tables.
    """
    from bottega.core.bundle import find_bundle

    return TableModel(Bundle.open(find_bundle(str(model), workshop() / "models")))


def parquet_of(table: Table) -> bytes:
    """Return rows as the bytes of a Parquet file."""
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(table.data, out)
    return out.getvalue()


def _name(text: str) -> str:
    """Return what a model may be called."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "table"


def _steps(source: Path) -> int:
    """Return steps for about seventy passes over a file's rows."""
    import pyarrow.parquet as pq

    if source.suffix.lower() == ".parquet" and source.is_file():
        rows = int(pq.ParquetFile(source).metadata.num_rows)
    elif source.is_file():
        with source.open("rb") as file:
            rows = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    else:
        rows = 1000
    return max(_LEAST, min(_MOST, rows * _EPOCHS // _BATCH))


def _arrow(table: Any) -> Any:
    import pyarrow as pa

    if isinstance(table, pa.Table):
        return table
    if hasattr(table, "columns") and hasattr(table, "iloc"):
        try:
            return pa.Table.from_pandas(table, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(f"the DataFrame cannot be read: {str(error)[:200]}",
                             fix="give each column one type; turn mixed ones into text with .astype(str)") from None
        except ValueError as error:
            raise InputError(f"the DataFrame cannot be read: {str(error)[:200]}", fix="give each column its own name"
                             ) from None
    raise InputError(f"a {type(table).__name__} is no table", fix="give a CSV or Parquet file, or a DataFrame")


def _kept(table: Any, home: Path) -> Path:
    """Write a table of this process into the workshop, named by its content, so that its lineage can be followed."""
    import hashlib

    import pyarrow.parquet as pq

    from bottega.core.files import write_atomic

    data, out = _arrow(table), io.BytesIO()
    pq.write_table(data.replace_schema_metadata(None), out)
    content = out.getvalue()
    path = home / "uploads" / f"table-{hashlib.sha256(content).hexdigest()[:12]}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)
    return path
