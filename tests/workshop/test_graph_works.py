"""Graphs through the one commission: recorded, made again, cancelled, or never kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bottega.core.errors import ControlError
from bottega.core.request import Controls, Request
from bottega.generation.graphs import GraphEngine
from bottega.workshop import settings, works
from bottega.workshop.job import Order
from bottega.workshop.workshop import Workshop
from tests.graph_models import make_graph_model


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_graph_model(tmp_path)
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
    return Order(None, Request(prompt="", controls=Controls.parse(controls)), "api", medium="graph")


def test_what_is_delivered_is_what_is_kept_and_can_be_made_again(home: Path) -> None:
    async def work(workshop: Workshop) -> None:
        job = await workshop.commission.open(ask(rows=150, seed=7))
        deltas = [delta async for delta in job]
        graphs = [graph for delta in deltas for step in delta.steps for graph in step.data]
        assert len(deltas) > 1
        assert graphs == GraphEngine.open(home / "models" / "small-graphs").sample(150, seed=7)
        found = works.work(workshop.store, job.id)
        assert (found.new_tokens, found.seed, found.status) == (150, 7, "done")
        _, output = works.output(workshop.store, f"{job.id}.0")
        assert (output.text, output.finish) == ("".join(delta.text for delta in deltas), "end")
        again = await workshop.commission.make(ask(**found.lineage["controls"]))
        assert again.result.outputs[0].text == output.text
        other = await workshop.commission.make(ask(rows=150, seed=8))
        assert other.result.outputs[0].text != output.text

    within(home, work)


def test_what_is_left_is_cancelled_and_what_cannot_be_is_refused(home: Path) -> None:
    async def work(workshop: Workshop) -> None:
        job = await workshop.commission.open(ask(rows=1_000_000))
        await asyncio.sleep(0.1)
        await job.cancel()
        assert works.work(workshop.store, job.id).status == "cancelled"
        with pytest.raises(ControlError, match="largest graph"):
            await workshop.commission.open(ask(nodes=200))

    within(home, work)


def test_nothing_is_kept_with_a_retention_of_no_days(home: Path) -> None:
    async def work(workshop: Workshop) -> None:
        settings.put(workshop.store, "retention_days", 0, actor="ada")
        done = await workshop.commission.make(ask(rows=5))
        assert len(done.result.outputs[0].text.splitlines()) == 5
        found = works.work(workshop.store, done.work.id)
        assert found.new_tokens == 5
        assert found.outputs[0].text is None

    within(home, work)
