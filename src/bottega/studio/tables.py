"""The Create page for tables, and the files of finished ones; `bottega serve`, then /tables.

What a model can be asked comes from `GET /v1/tables/{model}/schema`, the rows from `POST /v1/tables/generations`.
"""

from __future__ import annotations

import io
import itertools
from typing import Any

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from bottega.core.errors import NotFoundError
from bottega.core.table import Column, Schema, Table
from bottega.core.table_text import csv_of, jsonl_of, rows_of
from bottega.studio.studio import Studio
from bottega.workshop import release
from bottega.workshop.table_lane import PARQUET

SHOWN = 50  # rows of a kept file that a page shows
_MEDIA = {"parquet": PARQUET, "csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}


def first_rows(content: bytes, count: int = SHOWN) -> tuple[list[str], list[list[Any]], int]:
    """Return the names of the columns, the first rows of a Parquet file as plain values, and how many it holds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(io.BytesIO(content))
    head = _table(pa.Table.from_batches(itertools.islice(file.iter_batches(batch_size=count), 1), file.schema_arrow))
    return head.schema.names, [list(row.values()) for row in rows_of(head)], int(file.metadata.num_rows)


def _table(data: Any) -> Table:
    """Return an Arrow table whose columns are only to be shown."""
    return Table(Schema(columns=[Column(name=name, kind="text", arrow=str(kind)) for name, kind in
                                 zip(data.schema.names, data.schema.types, strict=True)]), data)


def asked_of(controls: dict[str, Any]) -> list[str]:
    """Return the conditions of a request as people would write them."""
    wish = controls.get("conditions") or []
    return [f"{name}: {value}" for name, value in wish.items()] if isinstance(wish, dict) else list(map(str, wish))


def routes(studio: Studio) -> APIRouter:
    """Return the page, and the files of finished tables."""
    router, workshop = studio.router(), studio.workshop

    @router.get("/tables")
    def page() -> HTMLResponse:
        served = [one for one in workshop.models.served() if one.medium == "table"]
        refused = {one.id: found.reasons for one in served
                   if (found := release.standing(workshop.store, workshop.home, one.digest)).refused}
        return studio.page("tables.html", active="create", medium="table", models=served, refused=refused)

    @router.get("/studio/tables/{output_id}.{ending}")
    def file(output_id: str, ending: str) -> Response:
        media_type, data = release.file(workshop.store, workshop.home, output_id)
        if media_type != PARQUET or ending not in _MEDIA:
            raise NotFoundError(f"output '{output_id[:100]}' has no file of this kind",
                                fix=f"ask for {', '.join(_MEDIA)}")
        if ending != "parquet":
            import pyarrow.parquet as pq

            table = _table(pq.read_table(io.BytesIO(data)))
            data = (csv_of(table) if ending == "csv" else jsonl_of(table)).encode()
        return Response(data, media_type=_MEDIA[ending], headers={
            "Cache-Control": "private, max-age=3600",
            "Content-Disposition": f'attachment; filename="{output_id}.{ending}"'})

    return router
