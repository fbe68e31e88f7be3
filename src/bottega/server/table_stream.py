"""Rows as they are made: events for JSON, plain text for CSV and JSON Lines.

`curl -N localhost:8400/v1/tables/generations -d '{"stream": true, "rows": 5000, "response_format": "csv"}'`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any

from starlette.types import Send

from bottega.core.errors import BottegaError
from bottega.core.table import Table, join
from bottega.core.table_text import csv_of, jsonl_of, rows_of
from bottega.server.errors import failure, translate
from bottega.server.making import Making
from bottega.server.streams import EventStream

MEDIA = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}
_log = logging.getLogger("bottega.server")


class TableStream(EventStream):
    """The rows of one request as events: one a chunk of rows, then one with what is told at the end.

    Args:
        making, left: see `EventStream`.
        told: what the last event tells, called once all rows are there.
    """

    def __init__(self, making: Making, told: Callable[[], Any], left: Callable[[], None]) -> None:
        super().__init__(making, left)
        self._told = told

    async def follow(self, send: Send) -> None:
        """Send the rows; what is to be known of them comes with the totals, or with the rows that brought it."""
        job = self._making.jobs[0]
        head = {"object": "table.chunk", "created": job.created, "model": job.served.id}
        async with contextlib.aclosing(self._making.deltas()) as deltas:
            async for delta in deltas:
                if delta.rows:
                    table = join(delta.rows)
                    rows = await asyncio.to_thread(rows_of, table)
                    await self._event(send, {**head, "columns": columns_of(table), "data": rows,
                                             "notes": list(delta.notes)})
        await self._event(send, {**head, "columns": None, "data": [], "notes": [], **await self._told()})

    async def _event(self, send: Send, facts: dict[str, Any]) -> None:
        await self._send(send, f"data: {json.dumps(facts, separators=(',', ':'))}\n\n")


class TextStream(EventStream):
    """The rows of one request as CSV or JSON Lines.

    What fails before the first row is told as an error; what fails later breaks the connection, since nothing else
    would tell an unfinished file from a whole one.

    Args:
        making, left: see `EventStream`.
        form: `csv` or `jsonl`.
        name: of the file.
    """

    silence = ""

    def __init__(self, making: Making, form: str, name: str, left: Callable[[], None]) -> None:
        super().__init__(making, left)
        self.headers["content-type"] = MEDIA[form]
        self.headers["content-disposition"] = f'attachment; filename="{name}"'
        self._form = form

    async def _write(self, send: Send, request_id: str) -> None:
        try:
            await self.follow(send)
        except OSError:
            return  # the connection broke while something was sent
        except Exception as error:
            known = translate(error) if isinstance(error, BottegaError) else None
            if known is None:
                _log.exception("request %s failed in its stream", request_id)
            if self._sent:
                return  # without the end that a whole answer has
            told = (known or failure(request_id)).response()
            await send({"type": "http.response.start", "status": told.status_code, "headers": told.raw_headers})
            await send({"type": "http.response.body", "body": told.body, "more_body": False})
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def follow(self, send: Send) -> None:
        """Send the rows as text, the names of the columns first where the form has them."""
        async with contextlib.aclosing(self._making.deltas()) as deltas:
            async for delta in deltas:
                if delta.rows:
                    text = await asyncio.to_thread(self._text, join(delta.rows), not self._sent)
                    if not self._sent:
                        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    await self._send(send, text)

    def _text(self, table: Table, first: bool) -> str:
        return csv_of(table, header=first) if self._form == "csv" else jsonl_of(table)


def columns_of(table: Table) -> list[dict[str, str]]:
    """Return name and kind of each column, ready for JSON."""
    return [{"name": column.name, "kind": column.kind} for column in table.schema.columns]
