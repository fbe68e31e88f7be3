"""What a model of a table's free texts is asked: the rest of the row as lines, then the name of the text's column.

    ward: surgery
    age: 63
    note:

Training (`training/table_texts.py`) and generation (`generation/table_writer.py`) ask alike, because both ask here. The
settings lie beside the weights, in the folder `texts` of a table's bundle.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from bottega.core.errors import CorruptError
from bottega.core.files import read_json, write_json
from bottega.core.table import Table, as_text
from bottega.core.validate import Strict, validate

FOLDER = "texts"   # of a table's bundle, and of its run
MARKS = 5          # tokens of a prompt and its text besides what they say: start, and two turns with their ends
_FILE = "row_prompts.json"
_SHOWN = 120       # letters of an earlier text that a later one of the same row is told


class RowPrompts(Strict):
    """How rows become prompts.

    Attributes:
        given: columns that a prompt tells; missing values are left out.
        written: column of texts → most tokens of one; they are written in this order, and each is told the ones before.
    """

    format: Literal[1] = 1
    given: list[str]
    written: dict[str, int]

    def of(self, table: Table, column: str) -> list[str]:
        """Return the prompt of each row for a column of texts."""
        told = [*self.given, *itertools.takewhile(lambda name: name != column, self.written)]
        cells = [_cells(table, name) for name in told]
        return ["\n".join([*(f"{name}: {cell}" for name, cell in zip(told, row, strict=True) if cell is not None),
                           f"{column}:"]) for row in zip(*cells, strict=True)]

    def save(self, folder: Path) -> None:
        """Write row_prompts.json."""
        write_json(folder / _FILE, self.model_dump(mode="json"))

    @staticmethod
    def load(folder: Path) -> RowPrompts:
        """Read what `save` wrote.

        Raises:
            InputError: it is not there.
            CorruptError: it is something else.
        """
        return validate(RowPrompts, read_json(folder / _FILE), where=str(folder / _FILE), error=CorruptError)


def _cells(table: Table, name: str) -> list[str | None]:
    """Return a column as short texts, None for missing."""
    column, data = table.schema.column(name), table.data[name]
    if column.kind == "text":
        return [None if text is None else " ".join(text[:_SHOWN].split()) for text in data.to_pylist()]
    if pa.types.is_floating(data.type):
        return [None if value is None else f"{value:.6g}" for value in data.to_pylist()]
    found = as_text(data)
    if column.kind == "datetime":  # a day is a day, without its zeros
        found = pc.replace_substring_regex(found, r"(\.0+)?(Z|)$", "")
        found = pc.replace_substring_regex(found, r" 00:00:00$", "")
    cells: list[str | None] = found.to_pylist()
    return cells
