"""Many at once, clients that leave, a full queue: nobody waits for the dead, everybody gets the same text as alone."""

import asyncio
import concurrent.futures
import threading
from typing import Any

import httpx
import openai
import pytest

from bottega.workshop import works
from tests.server.conftest import Serve
from tests.server.running import Running, wait_for
from tests.workshops import SmallWorkshop

QUESTION: list[Any] = [{"role": "user", "content": "Where is my order?"}]
LONG = {"prompt": "Return a new array", "n": 48, "max_tokens": 200, "stream": True}  # some seconds of work


def test_async_client(server: Running) -> None:
    async def ask() -> tuple[str, str]:
        async with server.async_client() as client:
            whole = await client.chat.completions.create(model="assistant", messages=QUESTION, seed=2, max_tokens=20)
            stream = await client.chat.completions.create(model="assistant", messages=QUESTION, seed=2, max_tokens=20,
                                                          stream=True)
            return whole.choices[0].message.content or "", "".join(
                [chunk.choices[0].delta.content or "" async for chunk in stream])

    whole, streamed = asyncio.run(ask())
    assert whole == streamed


def test_many_at_once_get_the_same_text_as_alone(server: Running) -> None:
    client = server.client()

    def ask(seed: int) -> str:
        chunks = client.chat.completions.create(model="assistant", messages=QUESTION, seed=seed, max_tokens=20,
                                                stream=seed % 2 == 0)
        if seed % 2:
            return chunks.choices[0].message.content or ""  # type: ignore[union-attr]
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)  # type: ignore[union-attr]

    alone = [ask(seed) for seed in range(40)]
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        assert list(pool.map(ask, range(40))) == alone
    assert server.figure("bottega_outputs_running") == 0


def test_a_client_that_leaves_a_stream_frees_its_places(server: Running, small_workshop: SmallWorkshop) -> None:
    made, gone = server.figure("bottega_outputs_running"), server.figure("bottega_requests_cancelled_total")
    assert made == 0
    stream = server.client().completions.create(**{**LONG, "model": small_workshop.lm})  # type: ignore[call-overload]
    next(iter(stream))
    assert server.figure("bottega_outputs_running") == 48
    stream.close()
    wait_for(lambda: server.figure("bottega_outputs_running") == 0, 2)
    wait_for(lambda: server.figure("bottega_requests_cancelled_total") == gone + 1)
    assert_cut_short(server)


def test_a_client_that_gives_up_waiting_frees_its_places(server: Running, small_workshop: SmallWorkshop) -> None:
    gone = server.figure("bottega_requests_cancelled_total")
    options = {**LONG, "stream": False, "model": small_workshop.lm, "timeout": 0.3}
    with pytest.raises(openai.APITimeoutError):
        server.client().completions.create(**options)  # type: ignore[call-overload]
    wait_for(lambda: server.figure("bottega_requests_cancelled_total") == gone + 1)
    wait_for(lambda: server.figure("bottega_outputs_running") == 0, 2)
    assert_cut_short(server)


def assert_cut_short(server: Running) -> None:
    """The newest work was begun, and ended long before its own end."""
    with server.store() as store:
        work = works.works(store, limit=1)[0]
    assert work.status == "cancelled"
    assert len(work.outputs) == 48
    assert 0 < work.new_tokens < 48 * 150


def test_leaving_while_waiting_in_the_queue(serve: Serve, small_workshop: SmallWorkshop) -> None:
    with serve("--slots", "48") as server:
        body = {**LONG, "model": small_workshop.lm}
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as running:
            lines = running.iter_lines()  # kept: an iterator that is dropped closes the connection
            next(lines)
            with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60):
                wait_for(lambda: server.figure("bottega_queue_length") == 1)
            wait_for(lambda: server.figure("bottega_queue_length") == 0, 2)
            assert server.figure("bottega_outputs_running") == 48
        wait_for(lambda: server.figure("bottega_outputs_running") == 0, 2)


def test_a_full_queue_says_when_to_come_back(serve: Serve, small_workshop: SmallWorkshop) -> None:
    with serve("--slots", "48", "--queue", "1") as server:
        body = {**LONG, "model": small_workshop.lm}
        threads = [threading.Thread(target=server.post, args=("/v1/completions", {**body, "stream": False}))
                   for _ in range(2)]
        threads[0].start()
        wait_for(lambda: server.figure("bottega_outputs_running") == 48, 30)
        threads[1].start()
        wait_for(lambda: server.figure("bottega_queue_length") == 1)
        answer = server.post("/v1/completions", {**body, "n": 1, "stream": False})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["code"] == "queue_full"
        patient = server.client(max_retries=20)  # the client waits as long as it is told
        assert patient.completions.create(model=small_workshop.lm, prompt="The", max_tokens=3).choices[0].text
        assert server.figure("bottega_requests_total", status="429") >= 1
        for thread in threads:
            thread.join()
        assert server.post("/v1/completions", {**body, "n": 49}).status_code == 400  # more than ever fits
