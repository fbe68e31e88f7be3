"""The tables of tables.py and table_augmentation.py: read, cleaned, without duplicates, split in two.

`read_table` gives a whole table, `split` disjoint halves of equal size: rows to train on and rows held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bottega.core.table import Table, as_text
from bottega.data.tables.infer import infer
from bottega.data.tables.read import read
from bottega.evaluation.table_views import row_keys, views

ADULT = ("age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship",
         "race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income")
PIMA = ("pregnancies", "glucose", "pressure", "skin", "insulin", "bmi", "pedigree", "age", "outcome")


@dataclass(frozen=True)
class Set:
    """A table and what it is asked.

    Attributes:
        title: for the results.
        sources: files below BOTTEGA_DATA/tables that are joined, or one built-in set.
        target: the column that is learned from the others.
        names: of the columns, where the files have no header.
        twins: columns that say the target in other words: left out when it is learned.
        links: pairs of columns of which one decides the other.
        most: training rows at most.
    """

    title: str
    sources: tuple[str, ...]
    target: str
    names: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    most: int = 10_000

    def there(self, data: Path | None) -> bool:
        """Say if the table can be read."""
        return self.sources[0] == "breast-cancer" or (
            data is not None and all((data / "tables" / source).is_file() for source in self.sources))


SETS = {
    "breast-cancer": Set("breast cancer", ("breast-cancer",), "diagnosis"),
    "pima": Set("pima", ("pima-indians-diabetes.csv",), "outcome", PIMA),
    "titanic": Set("titanic", ("seaborn_titanic.csv",), "survived", twins=("alive",),
                   links=(("survived", "alive"), ("pclass", "class"), ("embarked", "embark_town"))),
    "adult": Set("adult", ("adult-train.csv", "adult-test.csv"), "income", ADULT,
                 links=(("education", "education_num"),)),
    "diamonds": Set("diamonds", ("seaborn_diamonds.csv",), "price"),
    "mammography": Set("mammography", ("mammography.csv",), "class",
                       ("area", "grey", "gradient", "noise", "contrast", "moment", "class")),
    "haberman": Set("haberman", ("haberman.csv",), "status", ("age", "year", "nodes", "status")),
}

COMPARED = ("breast-cancer", "pima", "titanic", "adult", "diamonds")  # by tables.py


def read_table(name: str, data: Path | None) -> Table:
    """Return a table without duplicate rows; categories and booleans as text, whatever they are in the file."""
    import pyarrow as pa
    import pyarrow.compute as pc

    one = SETS[name]
    built_in = one.sources[0] == "breast-cancer"
    paths = one.sources if built_in else [str(data / "tables" / source) for source in one.sources if data]
    parts = [read(path, list(one.names)) for path in paths]
    if name == "adult":  # the labels of its test file end in a point
        parts = [part.set_column(part.num_columns - 1, "income", pc.utf8_rtrim(part["income"], ".")) for part in parts]
    arrow = pa.concat_tables(parts)
    _, schema = infer(arrow, {}, name)
    for place, column in enumerate(schema.columns):
        if not column.ordered:
            arrow = arrow.set_column(place, column.name, as_text(arrow[column.name].combine_chunks()))
    arrow, schema = infer(arrow, {column.name: "category" for column in schema.columns if not column.ordered}, name)
    table = Table(schema, arrow)
    first = np.unique(row_keys(*views(table))[0], return_index=True)[1]
    return table.take(np.sort(first))


def split(table: Table, most: int, seed: int) -> tuple[Table, Table, Table]:
    """Return rows to train on, as many held out, and as many more where there are, else the held out ones again."""
    order = np.random.default_rng(seed).permutation(len(table))
    count = min(most, len(table) // 2)
    fresh = order[2 * count:3 * count]
    return table.take(order[:count]), table.take(order[count:2 * count]), table.take(fresh)


def write(table: Table, path: Path) -> None:
    """Write rows as Parquet, without metadata."""
    import pyarrow.parquet as pq

    pq.write_table(table.data.replace_schema_metadata(None), path)


def kinds(table: Table) -> dict[str, Any]:
    """Return the kind of each column in SDV's words."""
    return {column.name: "numerical" if column.ordered else "categorical" for column in table.schema.columns}
