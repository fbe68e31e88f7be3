"""Who answers for `bottega distil`: a model of this workshop, or one at an address; each answer is kept at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from bottega.commands.common import open_engine
from bottega.core.errors import BottegaError, Interrupted
from bottega.core.progress import say, timed, track

if TYPE_CHECKING:
    from bottega.core.energy import Cost
    from bottega.core.journal import Journal
    from bottega.generation.served import ServedModel
    from bottega.objectives.rejection import Kept
    from bottega.objectives.rewards import Rewards
    from bottega.objectives.samples import Prompt, Sample

# Draws the answers to the prompts of some numbers, and yields them by number as they are finished.
Draw: TypeAlias = "Callable[[Sequence[int]], Iterator[tuple[int, list[Sample]]]]"

_TOGETHER = 256  # answers made before they are judged


def own(name: str | None, asked: Sequence[Prompt], best_of: int, seed: int, controls: dict[str, Any]) -> Draw:
    """Return what draws `best_of` answers to each of some prompts from a model of this workshop."""
    from bottega.core.request import Controls, Message, Request
    from bottega.objectives.samples import Sample

    engine = open_engine(name)

    def draw(numbers: Sequence[int]) -> Iterator[tuple[int, list[Sample]]]:
        requests = [Request(messages=[Message.model_validate(turn) for turn in asked[number].messages],
                            controls=Controls(seed=seed + number, n=best_of, **controls)) for number in numbers]
        for place, result in engine.generate_each(requests):
            yield numbers[place], [Sample(asked[numbers[place]], one.text, one.tokens, [], one.finish != "length")
                                   for one in result.outputs]

    return draw


def served(model: ServedModel, asked: Sequence[Prompt], best_of: int, seed: int, controls: dict[str, Any]) -> Draw:
    """Return what draws `best_of` answers to each of some prompts from a model at an address."""
    from bottega.objectives.samples import Sample

    def draw(numbers: Sequence[int]) -> Iterator[tuple[int, list[Sample]]]:
        copies = [(number, copy) for number in numbers for copy in range(best_of)]
        made: dict[int, dict[int, Sample]] = {number: {} for number in numbers}
        for place, one in model.replies([asked[number].messages for number, _ in copies],
                                        seeds=[seed + number * best_of + copy for number, copy in copies], **controls):
            number, copy = copies[place]
            made[number][copy] = Sample(asked[number], one.text, [], [], one.finished)
            if len(made[number]) == best_of:
                answers = made.pop(number)
                yield number, [answers[copy] for copy in range(best_of)]

    return draw


def keep(asked: Sequence[Prompt], draw: Draw, journal: Journal, rewards: Rewards | None, at_least: float | None, *,
         best_of: int, cost: Callable[[], Cost], who: str) -> Kept:
    """Draw answers to the prompts that have none in the journal, judge all some at a time, and return what is kept.

    Args:
        asked: the prompts.
        draw: draws `best_of` answers to each.
        journal: takes what is answered.
        rewards, at_least: see `keep_best`.
        best_of: answers a prompt.
        cost: of the work so far, kept with each part.
        who: answers, in words.

    Raises:
        InputError: an address does not answer.
        DataError: a reward failed.
        Interrupted: stopped by the user; what was answered is in the journal.
    """
    from bottega.objectives.rejection import Kept, keep_best
    from bottega.objectives.samples import Sample

    known = {part["prompt"]: part["answers"] for part in journal.parts}
    if known:
        say(f"{len(known):,} of {len(asked):,} prompts are answered already")
    kept, size = Kept(), max(1, _TOGETHER // best_of)
    with timed(f"asking {who} {len(asked):,} questions"):
        for first in track(range(0, len(asked), size), "answers"):
            numbers = range(first, min(first + size, len(asked)))
            groups = {number: [Sample(asked[number], one["text"], one["tokens"], [], one["finished"])
                               for one in known.pop(number)] for number in numbers if number in known}
            for number, answers in draw([number for number in numbers if number not in groups]):
                said = [{"text": one.text, "tokens": one.tokens, "finished": one.finished} for one in answers]
                journal.add({"prompt": number, "answers": said, "cost": cost().model_dump()})
                groups[number] = answers
            # judged as in a run that was never stopped: the same answers together, in the same order
            keep_best([groups[number] for number in numbers], rewards, at_least, kept)
    return kept


@contextmanager
def told(journal: Journal, total: int) -> Iterator[None]:
    """Say of work on some prompts that ends early how it goes on; a journal without an answer is removed.

    Raises:
        Interrupted: in place of the one that came, with what is kept in it.
    """
    try:
        yield
    except BottegaError as error:
        # counted in the file: a stop may fall between the writing of a part and its being noted
        stopped, count = isinstance(error, Interrupted), journal.count()
        if not count:
            journal.remove()
            if stopped:
                raise Interrupted("stopped before the first answer", fix="run the same command again") from None
            raise
        kept = f"{count:,} of {total:,} prompts are answered and kept in {journal.path}"
        if stopped:
            raise Interrupted(f"stopped by you: {kept}", fix="run the same command with --resume to go on") from None
        say(f"{kept}; the same command with --resume goes on")
        raise
