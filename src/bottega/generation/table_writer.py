"""Free texts of rows that a table's model made, written by the model of text inside its bundle.

    bottega generate notes --rows 1000 --where "ward = surgery" -o made.csv

Each text is an answer of the one engine to the rest of its row, up to 64 of them under way together. Its seed is a
function of the request's seed, the column and the number of the row, so that rows made in other pieces have the same
texts (see `Engine.dtype`). `pytest tests/training/test_table_texts.py` runs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from bottega import families
from bottega.codecs.table_texts import FOLDER, MARKS, RowPrompts
from bottega.codecs.text import TextCodec
from bottega.core.request import Controls, Message, Request
from bottega.core.table import Table, arrow_type, join
from bottega.families.base import TokenGenerator
from bottega.generation.engine import Engine

AT_ONCE = 64            # rows a step, so that a reader sees the first ones soon and memory holds few
_ROOM = 32              # tokens that an answer needs at least
_TEXTS = 1 << 25        # kind of chance for texts
_SEEDS = 2**53
Wanted = Mapping[str, NDArray[np.bool_]]


class TextWriter:
    """Writes the texts of rows.

    Args:
        generator: trained on the prompts of `prompts`.
        codec: its text codec.
        prompts: which columns are written, and what they are told.
    """

    def __init__(self, generator: TokenGenerator, codec: TextCodec, prompts: RowPrompts) -> None:
        self.prompts = prompts
        self._engine = Engine(generator, codec, controls=Controls(), model_digest="", lineage={}, answers=True)

    @property
    def dtype(self) -> str:
        """Of the weights that write; see `Engine`."""
        return self._engine.dtype

    @classmethod
    def open(cls, bundle: Path) -> TextWriter | None:
        """Load the model of text inside a table's verified bundle; None where there is none.

        Raises:
            InputError, CorruptError: a file is missing or damaged.
        """
        folder = bundle / FOLDER
        if not folder.is_dir():
            return None
        generator = families.load(folder).to("cuda" if torch.cuda.is_available() else "cpu")
        return cls(generator, TextCodec.load(folder), RowPrompts.load(folder))

    def write(self, table: Table, wanted: Wanted, *, seed: int, first: int, temperature: float = 1.0) -> Table:
        """Return rows with their texts.

        Args:
            table: rows.
            wanted: column of texts → which rows need one, bool [N].
            seed: of all chance; `first`: number of the first row.
            temperature: 1 is the model's own distribution.
        """
        for column, longest in self.prompts.written.items():
            rows = np.flatnonzero(wanted[column])
            if not len(rows):
                continue
            draws = seeds(seed, table.schema.names.index(column), first, len(table))
            asked = [Request(messages=[Message(role="user", content=prompt)], controls=Controls(
                seed=int(draws[row]), max_tokens=longest, temperature=temperature)) for row, prompt in
                zip(rows, self._short(self.prompts.of(table.take(rows), column), longest), strict=True)]
            texts = [result.outputs[0].text for result in self._engine.generate_many(asked)]
            table = _put(table, column, rows, texts)
        return table


    def _short(self, prompts: list[str], longest: int) -> list[str]:
        """Return prompts that leave room for an answer: of longer ones than any in training the longest lines go."""
        most = self._engine.context - MARKS - min(longest, _ROOM)
        found = []
        for prompt, ids in zip(prompts, self._engine.codec.encode_batch(prompts), strict=True):
            *lines, last = prompt.split("\n") if len(ids) > most else [prompt]
            while lines and len(self._engine.codec.encode("\n".join([*lines, last]))) > most:
                lines.remove(max(lines, key=len))
            found.append("\n".join([*lines, last]))
        return found


def written(table: Table, writer: TextWriter | None, *, seed: int, first: int, temperature: float) -> Iterator[Table]:
    """Yield rows as a table's codec decodes them with their texts, at most `AT_ONCE` at a time.

    Args:
        table: a text that is to be written is empty there, not missing.
        writer: None where no text could be learned: such columns come out empty.
        seed, first, temperature: see `TextWriter.write`.
    """
    for start in range(0, len(table), AT_ONCE):
        piece = Table(table.schema, table.data.slice(start, AT_ONCE))
        yield _filled(piece, _there(piece), writer, seed, first + start, temperature)


def filled(table: Table, before: Table, writer: TextWriter | None, *, seed: int) -> Table:
    """Return decoded rows with a text wherever `before`, the same rows, had none; see `written`."""
    missing = {name: rows & ~_there(before)[name] for name, rows in _there(table).items()}
    return join(_filled(Table(table.schema, table.data.slice(start, AT_ONCE)),
                        {name: rows[start:start + AT_ONCE] for name, rows in missing.items()}, writer, seed, start, 1.0)
                for start in range(0, len(table), AT_ONCE))


def _filled(table: Table, wanted: Wanted, writer: TextWriter | None, seed: int, first: int, temperature: float
            ) -> Table:
    for column, rows in wanted.items():
        if rows.any() and (writer is None or column not in writer.prompts.written):
            table = _put(table, column, np.flatnonzero(rows), [None] * int(rows.sum()))
    return table if writer is None else writer.write(table, wanted, seed=seed, first=first, temperature=temperature)


def _there(table: Table) -> dict[str, NDArray[np.bool_]]:
    """Return which rows have a text, or room for one: column → bool [N]."""
    return {column.name: table.data[column.name].is_valid().to_numpy() for column in table.schema.columns
            if column.kind == "text"}


def _put(table: Table, column: str, rows: NDArray[np.int64], texts: list[str] | list[None]) -> Table:
    cells = table.data[column].to_pylist()
    for row, text in zip(rows.tolist(), texts, strict=True):
        cells[row] = text
    shape = table.schema.column(column)
    return Table(table.schema, table.data.set_column(table.schema.names.index(column), column,
                                                     pa.array(cells, pa.string()).cast(arrow_type(shape))))


def seeds(seed: int, column: int, first: int, rows: int) -> NDArray[np.int64]:
    """Return a seed for each row, int64 [N], whatever piece it is made in: one block of chance for 64 rows."""
    numbers = np.arange(first, first + rows)
    blocks = {int(block): np.random.default_rng([seed, _TEXTS, column, int(block)]).integers(_SEEDS, size=AT_ONCE)
              for block in np.unique(numbers // AT_ONCE)}
    return np.array([blocks[int(number) // AT_ONCE][int(number) % AT_ONCE] for number in numbers], np.int64)
