"""A few works at once, some that wait, and what those who leave give back."""

import asyncio
import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from bottega.core.errors import BusyError
from bottega.guard.guard import Guard
from bottega.guard.verdict import Verdict
from bottega.server import moderations
from bottega.server.app import create_app
from bottega.server.places import Places
from bottega.workshop.workshop import Workshop


def test_as_many_run_as_there_are_places() -> None:
    async def crowd() -> None:
        places, running, most = Places(queue=100, running=3), 0, 0

        async def work() -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1
            return most

        assert len(await asyncio.gather(*(places.run(work) for _ in range(20)))) == 20
        assert most == 3

    asyncio.run(crowd())


def test_who_finds_the_queue_full_is_told_to_come_back() -> None:
    async def crowd() -> None:
        places, end = Places(queue=1, running=1), asyncio.Event()
        tasks = [asyncio.create_task(places.run(end.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await places.run(end.wait)
        tasks[1].cancel()  # who waits and leaves makes room for the next
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(places.run(end.wait)))
        end.set()
        assert await tasks[0]
        assert await tasks[2]

    asyncio.run(crowd())


def test_moderations_stop_at_the_next_text_and_keep_their_place_until_then() -> None:
    class Slow(Guard):
        began, go = 0, threading.Event()

        def moderate(self, text: str) -> list[Verdict]:
            self.began += 1
            self.go.wait(10)
            return super().moderate(text)

    async def leave() -> None:
        places, guard = Places(queue=1, running=1), Slow()
        first = asyncio.create_task(places.run(lambda: moderations._results(guard, ["a", "b", "c"])))
        while not guard.began:
            await asyncio.sleep(0.001)
        first.cancel()
        second = asyncio.create_task(places.run(lambda: moderations._results(guard, ["d"])))
        await asyncio.sleep(0.05)
        assert guard.began == 1
        guard.go.set()
        assert len(await second) == 1
        assert first.cancelled()
        assert guard.began == 2

    asyncio.run(leave())


def test_a_failure_is_told_and_frees_the_place() -> None:
    async def crowd() -> None:
        places = Places(queue=1, running=1)

        async def fail() -> None:
            raise ValueError("no")

        for _ in range(3):
            with pytest.raises(ValueError, match="no"):
                await places.run(fail)

    asyncio.run(crowd())


def test_routes_that_fill_threads_take_places(tmp_path: Path) -> None:
    workshop = Workshop.open(tmp_path / "home", scan=False)
    app = create_app(workshop, keys_required=False, allowed_hosts=["*"])
    app.state.doors.places = Places(queue=0, running=0)
    for path in ("embeddings", "moderations"):
        answer = TestClient(app).post(f"/v1/{path}", json={"input": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
        assert answer.headers["retry-after"] == "1"
    workshop.store.close()
