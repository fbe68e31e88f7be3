"""`POST /v1/tables/generations`: rows of a table, whole, streamed, or as a file; and what can be asked of a model.

`pytest tests/server/test_tables.py` asks for some.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bottega.codecs.table import TableCodec
from bottega.core.errors import NotFoundError
from bottega.core.table import CODED, ORDERED, Column, Table, join
from bottega.core.table_text import csv_of, jsonl_of, rows_of
from bottega.generation.table_conditions import show
from bottega.generation.tables import TableEngine
from bottega.server.answers import SchemaAnswer, TableAnswer, described
from bottega.server.errors import ApiError, answer
from bottega.server.image_links import link
from bottega.server.making import ClientGone, Making, unless_gone
from bottega.server.state import Doors, doors, principal
from bottega.server.table_bodies import TableBody
from bottega.server.table_stream import MEDIA, TableStream, TextStream, columns_of
from bottega.workshop import settings
from bottega.workshop.models import Served
from bottega.workshop.table_lane import PARQUET

router = APIRouter(prefix="/v1/tables", tags=["generation"])


@router.post("/generations", response_model=None, responses=described(
    TableAnswer, streams=True, files=("text/csv", "application/jsonl", PARQUET)))
async def generate(body: TableBody, request: Request) -> Response:
    """Make rows of a table that keep its rules and the conditions of the request."""
    state, wish, form = doors(request), body.wish(), body.response_format or "json"

    async def opened() -> Making:
        making = await Making.open(state, body.model, [wish], body.bottega.door, principal(request), medium="table")
        try:
            # a model may have a number of its own, and rows that are counted by their entities
            codec = await _codec(state, making.jobs[0].served)
            body.bounded(making.jobs[0].controls.rows or 0, codec.rows / codec.entities if codec.layout else 1.0)
        except ApiError:
            await making.cancel()
            raise
        return making

    async def whole() -> Response:
        making = await opened()
        table, notes = await _rows(making)
        if form != "json":
            name = f"{making.jobs[0].id}.0.{form}"
            content = await asyncio.to_thread(_file, making, table, form)
            return Response(content, media_type=MEDIA.get(form, PARQUET), headers={
                "content-disposition": f'attachment; filename="{name}"', "x-content-type-options": "nosniff"})
        data, last = await asyncio.to_thread(rows_of, table), await _last(making, state, str(request.base_url))
        job = making.jobs[0]
        return await asyncio.to_thread(answer, {"created": job.created, "model": job.served.id, "columns": columns_of(
            table), "data": data, "notes": notes, **last})

    if body.stream:
        making, left = await opened(), state.metrics.cancelled.inc
        if form != "json":
            return TextStream(making, form, f"{making.jobs[0].id}.0.{form}", left)
        return TableStream(making, lambda: _last(making, state, str(request.base_url)), left)
    try:
        return await unless_gone(request.receive, whole())
    except ClientGone:
        state.metrics.cancelled.inc()
        return Response(status_code=499)  # nobody reads it


@router.get("/{model:path}/schema", response_model=None, responses=described(SchemaAnswer))
async def schema(model: str, request: Request) -> Response:
    """Describe the columns of a model: what can be asked of each, and which rules every row keeps."""
    models = doors(request).workshop.models
    try:
        served = await asyncio.to_thread(models.resolve, model, "table")
    except NotFoundError as error:
        raise ApiError(404, f"{error.problem}; {error.fix}", param="model", code="model_not_found") from None
    codec = await _codec(doors(request), served)
    return answer({"model": served.id, "model_digest": served.digest, **schema_facts(codec)})


async def _codec(state: Doors, served: Served) -> TableCodec:
    """Return the codec of a model of a table; loads the model at first use."""
    engine = (await state.workshop.models.maker(served)).engine
    assert isinstance(engine, TableEngine)
    return engine.codec


def schema_facts(codec: TableCodec) -> dict[str, Any]:
    """Return what can be asked of a model of a table, ready for JSON.

    Only what the model can make is told: rare levels and the outermost values of the data stay where they are. Of a
    model of sequences it is about entities, and `entity` says how their rows come.
    """
    layout = codec.layout
    columns = codec.schema.columns if layout is None else [codec.schema.column(name) for name in layout.of_entity]
    entity = None if layout is None else {
        "name": layout.entity, "order": layout.order or None, "count": layout.count, "rows": codec.rows,
        "parent": layout.parent, "child": layout.child if layout.parent else []}
    return {"rows": codec.entities if layout else codec.rows, "columns": [column_facts(one, codec) for one in columns],
            "entity": entity, "rules": [rule.text for rule in codec.rules]}


def column_facts(column: Column, codec: TableCodec) -> dict[str, Any]:
    """Return what can be asked of a column.

    Returns:
        `name`, `kind`, `arrow` type, whether it is `learned` (conditions need that), the `levels` that can be made,
        `low` and `high` that can be made (times after ISO 8601; None without any), and the share `missing`.
    """
    ends: list[float | str | None] = [None, None]
    if column.kind in ORDERED and column.low is not None:
        ends = [None if math.isnan(value) else value if column.kind != "datetime" else show(value, column)
                for value in codec.reach(column.name)]
    return {"name": column.name, "kind": column.kind, "arrow": column.arrow,
            "learned": column.kind in ORDERED + CODED, "low": ends[0], "high": ends[1], "missing": column.missing,
            "levels": codec.made_levels(column.name) if column.kind in CODED else []}


async def _rows(making: Making) -> tuple[Table, list[str]]:
    """Follow a making to its end and return its rows and what is to be known of them."""
    tables, notes = list[Table](), list[str]()
    try:
        async with contextlib.aclosing(making.deltas()) as deltas:
            async for delta in deltas:
                tables += delta.rows
                notes += delta.notes
    finally:
        await making.cancel()
    return join(tables), notes


def _file(making: Making, table: Table, form: str) -> bytes:
    """Return the rows as a file; a Parquet file is the one that is recorded, and says how it was made."""
    if form == "parquet":
        content: bytes = making.jobs[0].done.result.outputs[0].steps[0].data
        return content
    return (csv_of(table) if form == "csv" else jsonl_of(table)).encode()


async def _last(making: Making, state: Doors, base: str) -> dict[str, Any]:
    """Return what is told once all rows are there: the link to the kept file, the totals, how to make them again."""
    usage, store, output = making.usage(), state.workshop.store, making.jobs[0].done.work.outputs[0]
    url = None
    if output.file is not None and await asyncio.to_thread(settings.get, store, "retention_days") != 0:
        secret = await asyncio.to_thread(settings.secret, store)
        url = link(base.rstrip("/"), secret, output.id, time.time(), table=True)
    return {"url": url, "usage": {**usage, "rows": usage["completion_tokens"]}, "bottega": making.extension()}
