"""Many requests through one model: same bytes as alone, places freed at once, a full queue says so."""

import queue
import random
import threading
import time

import pytest

from bottega.codecs.text import TextCodec
from bottega.core.errors import BottegaError, BusyError, ControlError, InputError, Interrupted
from bottega.core.request import Controls, Format, Request, Result, Step
from bottega.generation.batcher import Batcher, Ticket
from bottega.generation.linear import supports_fp16
from tests.generation.small import engine_of, model

half = pytest.mark.skipif(not supports_fp16(), reason="fp32 rows may differ in the last digit between batches")


class Mail:
    """Collects what a batcher delivers for one request."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.ends: queue.Queue[Result | BottegaError] = queue.Queue()
        self.sizes: list[int] = []

    def __call__(self, steps: list[Step], end: Result | BottegaError | None) -> None:
        self.sizes.append(len(steps))
        self.steps += steps
        if end is not None:
            self.ends.put(end)

    def result(self) -> Result:
        end = self.ends.get(timeout=60)
        assert isinstance(end, Result), end
        return end


def ask(prompt: str = "The cat", **controls: object) -> Request:
    return Request(prompt=prompt, controls=Controls(**controls))


@half
def test_requests_that_come_at_any_time_get_the_bytes_they_get_alone(codec: TextCodec) -> None:
    """Lengths cross several arenas (64, 128, 192 tokens), prompts several pieces, rows come and go."""
    engine = engine_of(model(codec, context=420), codec)
    draw = random.Random(0)
    options: list[dict[str, object]] = [{}, {"top_p": 0.9}, {"temperature": 0}, {"n": 3}, {"n": 1, "best_of": 3},
                                        {"repetition_penalty": 1.3}, {"format": Format(regex="[a-z]{5,90}")}]
    requests = [ask("one two " * draw.choice([1, 5, 20, 90]), seed=seed, max_tokens=draw.randrange(1, 110),
                    **options[seed % len(options)]) for seed in range(28)]
    batcher, mails = Batcher(engine, slots=8), [Mail() for _ in requests]

    def later(place: int) -> None:
        time.sleep(draw.random() * 0.5)
        batcher.submit(batcher.prepare(requests[place], mails[place]))

    threads = [threading.Thread(target=later, args=(place,)) for place in range(len(requests))]
    for thread in threads:
        thread.start()
    for request, mail in zip(requests, mails, strict=True):
        result, alone = mail.result(), engine.generate(request)
        assert result.outputs == alone.outputs
        assert result.lineage == alone.lineage
        shown = ["".join(step.text for step in mail.steps if step.output == i) for i in range(len(alone.outputs))]
        assert sorted(shown) == sorted(output.text for output in alone.outputs)
    batcher.close()
    assert batcher.running == batcher.waiting == 0


def queued(batcher: Batcher, request: Request, mail: Mail) -> Ticket:
    ticket = batcher.prepare(request, mail)
    batcher.submit(ticket)
    return ticket


def test_the_first_step_comes_at_once_and_the_rest_in_few_deliveries(codec: TextCodec) -> None:
    batcher, mail = Batcher(engine_of(model(codec), codec)), Mail()
    queued(batcher, ask(max_tokens=20, seed=1, logit_bias={str(codec.eos): -100, str(codec.end_of_turn): -100}), mail)
    mail.result()
    assert len(mail.steps) == 20
    assert mail.sizes[0] == 1
    assert 2 <= len(mail.sizes) <= 20
    batcher.close()


def test_a_cancelled_request_frees_its_place(codec: TextCodec) -> None:
    forever = {str(codec.eos): -100.0, str(codec.end_of_turn): -100.0}
    batcher = Batcher(engine_of(model(codec, context=4000), codec), slots=1)
    long, short = Mail(), Mail()
    ticket = queued(batcher, ask(max_tokens=3900, logit_bias=forever), long)
    waiting = queued(batcher, ask(max_tokens=3900), Mail())
    queued(batcher, ask(max_tokens=2), short)
    while not long.steps:
        time.sleep(0.01)
    batcher.cancel(waiting)
    batcher.cancel(ticket)
    assert isinstance(long.ends.get(timeout=60), Interrupted)
    assert len(long.steps) < 3900
    short.result()
    batcher.close()


def test_a_full_queue_refuses_with_a_time(codec: TextCodec) -> None:
    batcher = Batcher(engine_of(model(codec, context=4000), codec), slots=1, queue=2)
    tickets: list[Ticket] = []
    with pytest.raises(BusyError) as caught:
        tickets.extend(queued(batcher, ask(max_tokens=3900), Mail()) for _ in range(10))
    assert len(tickets) in (2, 3)
    assert caught.value.retry_after >= 1
    batcher.close(drain=False)
    with pytest.raises(BusyError):
        queued(batcher, ask(), Mail())


def test_what_one_request_cannot_do_harms_no_other(codec: TextCodec) -> None:
    batcher, good = Batcher(engine_of(model(codec), codec), slots=8), Mail()
    queued(batcher, ask(max_tokens=40, seed=3), good)
    bad = Mail()
    letters = {str(number): -100.0 for number in range(codec.vocab_size)}
    queued(batcher, ask(max_tokens=5, n=2, logit_bias=letters), bad)
    assert isinstance(bad.ends.get(timeout=60), ControlError)
    with pytest.raises(InputError, match="more than are made at a time"):
        queued(batcher, ask(n=9), Mail())
    with pytest.raises(InputError, match="context"):
        queued(batcher, ask("word " * 500), Mail())
    assert good.result().outputs[0].finish
    batcher.close()


def test_a_receiver_at_fault_harms_no_other(codec: TextCodec) -> None:
    def broken(steps: list[Step], end: Result | BottegaError | None) -> None:
        raise ValueError("a receiver at fault")

    batcher, good = Batcher(engine_of(model(codec), codec), slots=8), Mail()
    batcher.submit(batcher.prepare(ask(max_tokens=30), broken))
    queued(batcher, ask(max_tokens=30), good)
    good.result()
    again = Mail()
    queued(batcher, ask(max_tokens=3), again)
    again.result()
    batcher.close()
    assert batcher.running == 0


def test_closing_finishes_what_is_under_way(codec: TextCodec) -> None:
    batcher, mails = Batcher(engine_of(model(codec), codec), slots=2), [Mail() for _ in range(6)]
    for mail in mails:
        queued(batcher, ask(max_tokens=20), mail)
    batcher.close()
    assert all(mail.result().outputs for mail in mails)
