"""Tables through the one commission: recorded, read back, made again, cancelled, forgotten or never kept."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bottega.core.errors import ControlError, NotFoundError
from bottega.core.request import Controls, Request
from bottega.core.table import join
from bottega.workshop import settings, works
from bottega.workshop.job import Order
from bottega.workshop.table_lane import PARQUET, facts_of
from bottega.workshop.workshop import Workshop
from tests.table_models import make_table_model


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_table_model(tmp_path)
    return tmp_path


def within(home: Path, work: Callable[[Workshop], Awaitable[None]]) -> None:
    async def run() -> None:
        workshop = Workshop.open(home)
        try:
            await asyncio.wait_for(work(workshop), 60)
        finally:
            await workshop.close(grace=5)

    asyncio.run(run())


def ask(**controls: object) -> Order:
    return Order(None, Request(prompt="", controls=Controls.parse(controls)), "api", medium="table")


def test_what_is_delivered_is_what_is_kept_and_can_be_made_again(home: Path) -> None:
    async def work(workshop: Workshop) -> None:
        job = await workshop.commission.open(ask(rows=300, conditions=["age > 60"]))
        deltas = [delta async for delta in job]
        rows = join([table for delta in deltas for table in delta.rows])
        id = f"{job.id}.0"
        media_type, content = works.file(workshop.store, id)
        kept = pq.read_table(io.BytesIO(content))
        assert media_type == PARQUET
        assert kept.to_pylist() == rows.data.to_pylist()
        assert kept.num_rows == 300
        found = works.work(workshop.store, job.id)
        assert found.lineage["files"] == [hashlib.sha256(content).hexdigest()]
        assert (found.new_tokens, found.seed) == (300, job.seed)
        facts = facts_of(content)
        assert facts is not None
        assert facts["id"] == id
        again = await workshop.commission.make(ask(**facts["controls"]))
        assert pq.read_table(io.BytesIO(again.result.outputs[0].steps[0].data)).equals(kept)
        other = await workshop.commission.make(ask(**{**facts["controls"], "seed": job.seed + 1}))
        assert not pq.read_table(io.BytesIO(other.result.outputs[0].steps[0].data)).equals(kept)

    within(home, work)


def test_what_is_left_is_cancelled_and_what_cannot_be_is_refused(home: Path) -> None:
    async def work(workshop: Workshop) -> None:
        job = await workshop.commission.open(ask(rows=10_000_000))
        await asyncio.sleep(0.1)
        await job.cancel()
        assert works.work(workshop.store, job.id).status == "cancelled"
        with pytest.raises(NotFoundError):
            works.file(workshop.store, f"{job.id}.0")
        with pytest.raises(ControlError, match="no such record"):
            await workshop.commission.open(ask(conditions=["age > 500"]))

    within(home, work)


def test_nothing_is_kept_with_a_retention_of_no_days(home: Path) -> None:
    async def work(workshop: Workshop) -> None:
        settings.put(workshop.store, "retention_days", 0, actor="ada")
        done = await workshop.commission.make(ask(rows=5, conditions=["city = Rome"]))
        found = works.work(workshop.store, done.work.id)
        assert found.new_tokens == 5
        assert "Rome" not in json.dumps([found.request, found.lineage])
        with pytest.raises(NotFoundError):
            works.file(workshop.store, found.outputs[0].id)

    within(home, work)
