"""A table on its way from the engine to a reader: chunks of rows become one Parquet file that says how it was made.

`bottega reproduce FILE.parquet` reads what `picture_lane.facts` writes into the file's metadata.
"""

from __future__ import annotations

import io
import json
from typing import Any

from bottega.core.request import Output, Step
from bottega.core.table import Table
from bottega.guard.verdict import Verdict
from bottega.workshop.lane import Delta

PARQUET = "application/vnd.apache.parquet"
KEY = b"bottega"      # of the file's metadata
_KEPT = 32 << 20      # bytes of a file above which only its digest is recorded


class TableLane:
    """See the module. It has the shape of `workshop.lane.Lane`.

    Args:
        output: its number.
        facts: what the file says of its making, ready for JSON.
        notes: what to know of the rows besides what the engine tells; they come with the last.

    Attributes:
        finish: why it ended: `end`.
        made: rows so far.
        file: the Parquet file once it is whole, if it is small enough to be recorded.
        content: the Parquet file, whatever its size.
    """

    media_type = PARQUET
    text, score = "", 0.0

    def __init__(self, output: int, facts: dict[str, Any], notes: tuple[str, ...] = ()) -> None:
        self.output, self._facts, self._notes = output, facts, notes
        self.finish: str | None = None
        self.made = 0
        self.file: bytes | None = None
        self.content: bytes | None = None
        self.tokens: list[int] = []
        self.verdicts: list[Verdict] = []
        self._bytes, self._writer = io.BytesIO(), None  # type: tuple[io.BytesIO, Any]

    def encode(self, step: Step) -> Step:
        """Write a step's rows into the file; called in the model's thread."""
        import pyarrow.parquet as pq
        from pyarrow.types import is_string

        data = step.data.data
        if self._writer is None:
            schema = told(step.data, self._facts).data.schema
            # a dictionary pays for texts; numbers are mostly different
            texts = [field.name for field in schema if is_string(field.type)]
            self._writer = pq.ParquetWriter(self._bytes, schema, use_dictionary=texts or False)
        self._writer.write_table(data.replace_schema_metadata(self._writer.schema.metadata))
        if step.finish:
            self._writer.close()
        return step

    def push(self, steps: list[Step]) -> Delta | None:
        """Take new steps, encoded, and return their rows."""
        if self.finish or not steps:
            return None
        self.made += sum(len(step.data) for step in steps)
        if steps[-1].finish:
            self.finish = steps[-1].finish
            self.content = self._bytes.getvalue()
            self.file = self.content if len(self.content) <= _KEPT else None
        notes = (*steps[-1].changes, *(self._notes if self.finish else ()))
        return Delta(self.output, "", (), steps[-1].finish, index=steps[-1].index,
                     rows=tuple(step.data for step in steps), notes=notes)

    def result(self) -> Output:
        """Return the finished output; its one step holds the Parquet file."""
        steps = [Step(self.output, 0, kind="row", data=self.content)] if self.content is not None else []
        return Output(steps=steps, finish=self.finish or "")

    def plain_steps(self) -> list[dict[str, Any]]:
        """Return nothing: rows are in the file."""
        return []


def told(table: Table, facts: dict[str, Any]) -> Table:
    """Return rows that say how they were made when they are written as Parquet."""
    return Table(table.schema, table.data.replace_schema_metadata({
        KEY: json.dumps(facts, ensure_ascii=False).encode()}))


def facts_of(content: bytes) -> dict[str, Any] | None:
    """Return what a Parquet file says of its making, None when it is not ours or no Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(io.BytesIO(content)).metadata or {}
        found = json.loads(metadata[KEY]) if KEY in metadata else None
    except (pa.ArrowInvalid, ValueError):
        return None
    return found if isinstance(found, dict) else None
