"""What a stream says when it fails on the way, and when there is nothing to say for long."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from bottega.codecs.text import TextCodec
from bottega.core.request import Step
from bottega.server import streams
from bottega.server.shapes import ChatShape, TextShape
from bottega.workshop.lane import Delta
from tests.server.running import Running
from tests.workshops import SmallWorkshop


def test_a_failure_in_the_stream_is_told_in_the_stream(server: Running, small_workshop: SmallWorkshop) -> None:
    codec = TextCodec.load(server.home / "models" / small_workshop.lm)
    forbidden = {str(codec.encode("^")[0]): -100}
    client, pieces = server.client(), []
    with pytest.raises(openai.APIError, match="forbid every token"):  # noqa: PT012
        for chunk in client.completions.create(model=small_workshop.lm, prompt="x", max_tokens=20, stream=True,
                                               logit_bias=forbidden,  # type: ignore[arg-type]
                                               extra_body={"response_format": {"type": "regex",
                                                                               "regex": "[a-z]{3}\\^"}}):
            pieces.append(chunk.choices[0].text)
    assert len("".join(pieces)) == 3


class Slow:
    """A making that thinks before each word."""

    cancelled = 0

    async def deltas(self) -> AsyncIterator[Delta]:
        for finish in (None, "end"):
            await asyncio.sleep(0.25)
            yield Delta(0, "word", (Step(0, 0, text="word", token=1, token_text="word", logprob=0.0),), finish)

    async def cancel(self) -> None:
        self.cancelled += 1

    def extension(self) -> dict[str, Any]:
        return {}


def follow(making: Slow, leave_after: float) -> tuple[list[bytes], int]:
    """Send a slow making's events to a client that leaves after some seconds; return what came, and how often left."""
    sent: list[bytes] = []
    left: list[None] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    async def receive() -> Any:
        await asyncio.sleep(leave_after)
        return {"type": "http.disconnect"}

    response = streams.ChunkStream(making, ChatShape(None, lambda _: b""), {"id": "x"}, False,  # type: ignore[arg-type]
                                   lambda: left.append(None))
    asyncio.run(response({"type": "http", "state": {"request_id": "req"}}, receive, send))
    return sent, len(left)


def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE", 0.1)
    sent, left = follow(Slow(), 60)
    assert left == 0
    assert sent.count(b": keep-alive\n\n") == 4
    assert sent[-2] == b"data: [DONE]\n\n"
    monkeypatch.setattr(streams, "KEEP_ALIVE", 15.0)
    assert b": keep-alive\n\n" not in follow(Slow(), 60)[0]


def test_a_client_that_leaves_ends_the_making() -> None:
    making = Slow()
    sent, left = follow(making, 0.3)
    assert left == making.cancelled == 1
    assert b"data: [DONE]\n\n" not in sent


def test_steps_are_told_alike_alone_and_together() -> None:
    steps = [Step(place, 0, text=text, token=place, token_text=text, logprob=-float(place))
             for place, text in enumerate(("one", " two", " three", " four"))]
    end = Step(4, 0, text="", token=4, token_text="", logprob=-1.0, finish="stop")

    def told(shape: ChatShape | TextShape, parts: list[list[Step]]) -> list[Any]:
        logs = [json.loads(f"{{{shape.part(0, ''.join(step.text for step in part), tuple(part), None)}}}")["logprobs"]
                for part in parts]
        if isinstance(shape, ChatShape):
            return [entry for log in logs for entry in log["content"]]
        return [row for log in logs for row in zip(log["tokens"], log["token_logprobs"], log["text_offset"],
                                                   log["top_logprobs"], strict=True)]

    together, alone = [[*steps[:1]], [*steps[1:3]], [*steps[3:], end]], [[step] for step in steps]
    for shape in (lambda: ChatShape(1, lambda token: b"x"), lambda: TextShape(1)):
        assert told(shape(), together) == told(shape(), alone)
    assert [row[2] for row in told(TextShape(1), together)] == [0, 3, 7, 13]
