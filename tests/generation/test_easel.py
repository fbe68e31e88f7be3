"""Many requests at one model of pictures: turns, cancelling, a full queue, a model that fails, closing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from bottega.codecs.pixels import Pixels
from bottega.core.errors import BottegaError, BusyError, InputError, Interrupted
from bottega.core.request import Controls, Request, Result, Step
from bottega.generation.easel import Easel, EaselTicket
from bottega.generation.pictures import PictureEngine


class Counting(PictureEngine):
    """A model whose pictures show how many steps they took; slow enough to be left on the way."""

    family, understands, size = "counting", frozenset({"n", "seed", "steps"}), (2, 2)

    def check(self, request: Request, controls: Controls) -> None:
        if request.prompt == "refused":
            raise InputError("refused")

    def frames(self, request: Request, controls: Controls, numbers: range) -> Iterator[list[Pixels | None]]:
        for step in range(1, (controls.steps or 1) + 1):
            if request.prompt == "breaks" and step == 2:
                raise RuntimeError("broken")
            time.sleep(0.002)
            yield [np.full((1, 2, 2), step, np.uint8) for _ in numbers]


class Heard:
    """Everything that was told of one request."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.times: list[float] = []
        self.end: Result | BottegaError | None = None
        self.over = threading.Event()

    def __call__(self, steps: list[Step], end: Result | BottegaError | None) -> None:
        self.steps += steps
        self.times += [time.perf_counter()] * len(steps)
        if end is not None:
            assert self.end is None, "the end is told once"
            self.end = end
            self.over.set()


@pytest.fixture
def easel() -> Iterator[Easel]:
    easel = Easel(Counting(controls=Controls(), model_digest="0" * 64, lineage={}), slots=8, queue=2)
    yield easel
    easel.close(drain=False)


def ask(easel: Easel, prompt: str = "", **controls: int) -> tuple[Heard, EaselTicket]:
    heard = Heard()
    ticket = easel.prepare(Request(prompt=prompt, controls=Controls(**controls)), heard)  # type: ignore[arg-type]
    easel.submit(ticket)
    return heard, ticket


def test_previews_come_and_the_result_holds_the_pictures(easel: Easel) -> None:
    heard, _ = ask(easel, n=3, steps=4)
    assert heard.over.wait(10)
    assert isinstance(heard.end, Result)
    assert len(heard.steps) == 12
    assert [output.steps[-1].data[0, 0, 0] for output in heard.end.outputs] == [4, 4, 4]
    assert [len(output.steps) for output in heard.end.outputs] == [1, 1, 1]


def test_a_short_request_is_not_kept_waiting_by_a_long_one(easel: Easel) -> None:
    long, _ = ask(easel, steps=400)
    short, _ = ask(easel, steps=3)
    assert short.over.wait(10)
    assert long.end is None


def test_a_request_that_is_left_ends_soon_and_frees_its_place(easel: Easel) -> None:
    heard, ticket = ask(easel, n=8, steps=1000)
    waits, _ = ask(easel, n=8, steps=2)
    time.sleep(0.05)
    assert waits.end is None
    easel.cancel(ticket)
    assert heard.over.wait(10)
    assert isinstance(heard.end, Interrupted)
    assert waits.over.wait(10)
    assert isinstance(waits.end, Result)


def test_too_many_are_told_to_come_back(easel: Easel) -> None:
    for _ in range(3):
        ask(easel, n=8, steps=1000)
        time.sleep(0.02)
    with pytest.raises(BusyError, match="2 requests wait"):
        ask(easel, n=8)
    with pytest.raises(InputError, match="9 pictures are more"):
        ask(easel, n=9)


def test_a_fault_ends_one_request_only(easel: Easel) -> None:
    broken, _ = ask(easel, "breaks", steps=3)
    whole, _ = ask(easel, steps=3)
    assert broken.over.wait(10)
    assert whole.over.wait(10)
    assert isinstance(broken.end, BottegaError)
    assert "RuntimeError" in broken.end.problem
    assert isinstance(whole.end, Result)
    with pytest.raises(InputError, match="refused"):
        ask(easel, "refused")


def test_closing_finishes_what_is_at_hand() -> None:
    easel = Easel(Counting(controls=Controls(), model_digest="0" * 64, lineage={}))
    heard, _ = ask(easel, steps=20)
    easel.close()
    assert isinstance(heard.end, Result)
    with pytest.raises(BusyError):
        ask(easel)
