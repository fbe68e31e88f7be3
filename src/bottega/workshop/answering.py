"""The same questions to two models, through the one path of every request; `bottega compare A B` asks here.

The first few are asked one at a time, the two models in turn, which tells latency; the rest together. Every finished
answer is kept, so that a stop loses none and going on makes none twice.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bottega.core.energy import Cost, CostMeter
from bottega.core.errors import ContextError, InputError, Interrupted, RefusedError
from bottega.core.files import digest_json
from bottega.core.progress import say
from bottega.core.request import Controls, Message, Request
from bottega.data.questions import Question
from bottega.evaluation.paired import SIDES
from bottega.training.interrupt import stop_requests
from bottega.workshop.job import Order
from bottega.workshop.ledger import Ledger
from bottega.workshop.models import Served
from bottega.workshop.together import together
from bottega.workshop.workshop import Workshop

DOOR = "compare"
ALONE = 7      # questions asked one at a time: the first warms up, and fewer than six others show nothing
_AT_ONCE = 32
_SEEDS = 100_003


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        output: its id in the store; text: as the guard let it out.
        tokens: made; prompt_tokens: read; alone: nothing else was made meanwhile, so that the times mean something.
        seconds, first_token_seconds, cpu_seconds: of the request.
    """

    output: str
    text: str
    tokens: int
    prompt_tokens: int
    alone: bool
    seconds: float
    first_token_seconds: float
    cpu_seconds: float


@dataclass
class Answers:
    """Both models' answers.

    Attributes:
        by_side: question digest → answer, for `champion` and `challenger`.
        missing: question digest → why one of the models gave none; it counts for neither.
        batch: what answering together cost each side, and the tokens it made.
    """

    by_side: dict[str, dict[str, Answer]] = field(default_factory=lambda: {side: {} for side in SIDES})
    missing: dict[str, str] = field(default_factory=dict)
    batch: dict[str, tuple[Cost, int]] = field(default_factory=dict)

    def pair(self, question: Question) -> tuple[Answer, Answer] | None:
        """Return the champion's and the challenger's answer, None where one of them is missing."""
        found = [self.by_side[side].get(question.digest) for side in SIDES]
        return (found[0], found[1]) if found[0] and found[1] else None

    @property
    def reasons(self) -> dict[str, int]:
        """Why answers are missing → how many questions."""
        return dict(Counter(self.missing.values()))


def ask(workshop: Workshop, models: Sequence[Served], questions: Sequence[Question], folder: Path, *,
        controls: Controls, seed: int = 0, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> Answers:
    """Ask every question of both models.

    Args:
        workshop: whose commission makes the answers.
        models: champion and challenger.
        questions: different ones.
        folder: where finished answers are kept.
        controls: laid over each model's own; the seed is the question's.
        seed: of the sampling.
        run: runs a coroutine to its end in the event loop that the workshop lives in.

    Raises:
        Interrupted: Ctrl-C; what was finished is kept.
        BottegaError: a model failed.
    """
    asker = _Asker(workshop, models, questions, folder, controls, seed)
    with stop_requests() as stopping:
        asker.stopping = stopping
        run(asker.one_at_a_time())
        for side in SIDES:
            run(asker.together(side))
    if stopping:
        kept = sum(len(ledger) for ledger in asker.ledgers.values())
        raise Interrupted(f"stopped by you: {kept} of {2 * len(questions)} answers are kept", where=str(folder),
                          fix="run the same command again: it goes on")
    return asker.answers


class _Asker:
    def __init__(self, workshop: Workshop, models: Sequence[Served], questions: Sequence[Question], folder: Path,
                 controls: Controls, seed: int) -> None:
        self._workshop, self._models = workshop, dict(zip(SIDES, models, strict=True))
        self._questions, self._controls, self._seed = questions, controls, seed
        self.stopping: list[int] = []
        self.answers = Answers()
        self.ledgers = {side: Ledger(folder / f"answers-{model.digest[:16]}.jsonl")
                        for side, model in self._models.items()}

    async def one_at_a_time(self) -> None:
        """Ask the first questions, the two models in turn."""
        for number in range(min(ALONE, len(self._questions))):
            for side in SIDES[::1 if number % 2 else -1]:
                if not self.stopping and self._kept(side, number) is None:
                    await self._workshop.models.maker(self._models[side])  # loading is not the answer's time
                    await self._one(side, number, alone=True)

    async def together(self, side: str) -> None:
        """Ask the rest of one model."""
        left = [number for number in range(len(self._questions)) if self._kept(side, number) is None
                and self._questions[number].digest not in self.answers.missing]
        done, meter = 0, CostMeter()

        async def one(number: int) -> None:
            nonlocal done
            await self._one(side, number, alone=False)
            done += 1
            if done % max(1, len(left) // 10) == 0:
                say(f"{self._models[side].name}: {done} of {len(left)} answers")

        await together([partial(one, number) for number in left], _AT_ONCE, self.stopping)
        made = sum(self.answers.by_side[side][self._questions[number].digest].tokens for number in left
                   if self._questions[number].digest in self.answers.by_side[side])
        self.answers.batch[side] = (meter.read(), made)

    def _key(self, number: int) -> str:
        controls = self._controls.model_dump(mode="json", exclude_none=True)
        return digest_json([self._questions[number].digest, controls, self._seed * _SEEDS + number])

    def _kept(self, side: str, number: int) -> Answer | None:
        """Return an answer of this or an earlier run."""
        kept = self.ledgers[side].get(self._key(number))
        if kept is None:
            return None
        answer = Answer(**kept)
        self.answers.by_side[side][self._questions[number].digest] = answer
        return answer

    async def _one(self, side: str, number: int, *, alone: bool) -> None:
        question = self._questions[number]
        controls = self._controls.model_copy(update={"seed": self._seed * _SEEDS + number, "n": 1})
        request = Request(messages=[Message.model_validate(turn) for turn in question.messages], controls=controls)
        busy = time.process_time()
        try:
            done = await self._workshop.commission.make(Order(self._models[side].id, request, door=DOOR))
        except ContextError:
            self.answers.missing[question.digest] = "the question does not fit the context"
            return
        except RefusedError:
            self.answers.missing[question.digest] = "the guard refused the question"
            return
        work, output = done.work, done.result.outputs[0]
        if work.status != "done":
            return
        answer = Answer(f"{work.id}.0", output.text, work.new_tokens, work.prompt_tokens, alone, work.seconds,
                        work.first_token_seconds or work.seconds, time.process_time() - busy)
        self.ledgers[side].put(self._key(number), asdict(answer))
        self.answers.by_side[side][question.digest] = answer


def asked(questions: Sequence[Question]) -> list[Question]:
    """Return the different questions that can be asked, in order; texts are none.

    Raises:
        InputError: there are none.
    """
    unique = {question.digest: question for question in reversed(questions) if question.messages}
    found = [question for question in questions if question.messages and unique.get(question.digest) is question]
    if not found:
        raise InputError("there is nothing to ask in it", where="source",
                         fix='give rows such as {"prompt": "…"} or {"messages": […]}, a dataset or a built-in set')
    return found
