"""A server that is killed has lost nothing that it acknowledged."""

import threading
import time
from pathlib import Path

import httpx

from tests.server.conftest import Serve


def test_acknowledged_feedback_survives_a_kill(serve: Serve, fresh_home: Path) -> None:
    told: list[str] = []
    with serve() as server:
        output = server.post("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}).json()["bottega"]["outputs"][0]

        def rate(first: int) -> None:
            for number in range(first, first + 25):
                try:
                    told.append(server.post("/v1/feedback", {"kind": "comment", "output": output,
                                                             "text": f"comment {number}"}).json()["id"])
                except httpx.HTTPError:
                    return

        threads = [threading.Thread(target=rate, args=(25 * place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 60
        while len(told) < 40 and time.monotonic() < end and any(thread.is_alive() for thread in threads):
            time.sleep(0.001)
        server.process.kill()
        for thread in threads:
            thread.join()
    assert 40 <= len(told) < 100
    with serve() as again:
        kept = {row["id"] for row in again.get("/v1/feedback", params={"limit": 1000}).json()["data"]}
        assert set(told) <= kept
        assert len(kept) <= 100
