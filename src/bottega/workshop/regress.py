"""What a challenger may have lost: held-out loss on the same texts, latency, cost. Part of `bottega compare`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bottega.core.errors import InputError
from bottega.core.request import Message
from bottega.data.questions import Question
from bottega.evaluation.paired import SIDES, compared
from bottega.generation.engine import Engine
from bottega.workshop.answering import Answer, Answers

_PIECES = 200  # of held-out text


def loss(engines: Sequence[Engine], texts: list[str], known: list[Question]) -> dict[str, Any]:
    """Return bits per byte of both on the same texts, and on the right answers after their questions."""
    found: dict[str, Any] = {}
    pieces: list[str] = []
    for text in texts:
        pieces += _pieces(text, engines)
    stride = max(1, len(pieces) // _PIECES)
    for name, given in (("text", [("", piece) for piece in pieces[::stride]][:_PIECES]),
                        ("right answers", [(one.messages, one.reference or "") for one in known])):
        bits = [bit for prompt, text in given if (bit := _bits(engines, prompt, text)) is not None]
        if bits:
            before, after = zip(*bits, strict=True)
            found[name] = compared(before, after, lower_is_better=True)
    return found


def _pieces(text: str, engines: Sequence[Engine]) -> Iterator[str]:
    """Yield a text in pieces that fit both contexts."""
    if all(len(engine.codec.encode(text)) + 2 < engine.context for engine in engines):
        if text.strip():
            yield text
        return
    middle = len(text) // 2
    cut = max(text.rfind("\n", 1, middle), text.rfind(" ", 1, middle))
    cut = cut if cut > middle // 2 else middle
    yield from _pieces(text[:cut], engines)
    yield from _pieces(text[cut:], engines)


def _bits(engines: Sequence[Engine], before: Any, text: str) -> tuple[float, float] | None:
    """Return both models' bits per byte of a text after a prompt; None where it does not fit one of them."""
    prompt = before if isinstance(before, str) else [Message.model_validate(turn) for turn in before]
    found = []
    for engine in engines:
        try:
            output = engine.score(prompt, text)
        except InputError:
            return None
        found.append(-output.score * len(output.tokens) / math.log(2) / len(text.encode()))
    return found[0], found[1]


def speed(items: Sequence[Question], answers: Answers) -> dict[str, Any]:
    """Return latency of the answers made alone (the first pair, which warms up, aside), and the cost of the rest."""
    alone = [pair for one in items if (pair := answers.pair(one)) and pair[0].alone and pair[1].alone][1:]
    pairs = [pair for one in items if (pair := answers.pair(one))]
    found: dict[str, Any] = {"length": {side: sum(pair[place].tokens for pair in pairs) / max(1, len(pairs))
                                        for place, side in enumerate(SIDES)}}
    measures: dict[str, Callable[[Answer], float]] = {
        "first_token_ms": lambda one: 1000 * one.first_token_seconds,
        "ms_a_token": lambda one: 1000 * one.seconds / max(1, one.tokens),
        "cpu_ms_a_token": lambda one: 1000 * one.cpu_seconds / max(1, one.tokens)}
    if alone:
        found |= {name: compared([of(pair[0]) for pair in alone], [of(pair[1]) for pair in alone],
                                 lower_is_better=True) for name, of in measures.items()}
    together = {side: {"tokens": tokens, "tokens_a_second": tokens / cost.seconds,
                       "wh_low_per_1000": 1000 * cost.energy_wh_low / tokens,
                       "wh_high_per_1000": 1000 * cost.energy_wh_high / tokens, "method": cost.method}
                for side, (cost, tokens) in answers.batch.items() if tokens}
    return {**found, "together": together}

