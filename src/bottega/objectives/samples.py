"""What reinforcement learning is made of: prompts, sampled answers, and the sampler that makes them.

An objective never imports a generator of text: it gets a `Sampler` (training/sampler.py makes one from our engine).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from bottega.core.errors import DataError
from bottega.core.progress import say

Turns: TypeAlias = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question with what is known of its answer.

    Attributes:
        messages: the turns before the answer.
        tokens: their ids, the assistant's role token last.
        reference: the answer in the data, for rewards that compare with it.
        facts: what the data knows besides, for rewards that ask for it.
    """

    messages: Turns
    tokens: list[int]
    reference: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled answer.

    Attributes:
        prompt: what it answers.
        text: the answer without its end token.
        tokens: the ids that were drawn, the end token among them.
        logprobs: log-probability (nats) of each under the distribution it was drawn from.
        finished: whether it ended by itself, not at the limit.
    """

    prompt: Prompt
    text: str
    tokens: list[int]
    logprobs: list[float]
    finished: bool


class Sampler(Protocol):
    """Draws answers from the model as it is now."""

    def __call__(self, prompts: Sequence[Prompt], *, copies: int, max_tokens: int, seeds: Sequence[int],
                 greedy: bool = False) -> list[list[Sample]]:
        """Return `copies` answers to each prompt, in order.

        Args:
            prompts: what to answer.
            copies: answers a prompt; answer k of a prompt is a function of weights, prompt, its seed and k.
            max_tokens: longest answer.
            seeds: one a prompt.
            greedy: the likeliest token each time; else a draw from the model's own distribution (temperature 1).
        """


class ChatCodec(Protocol):
    """What is needed of a codec; `codecs.text.TextCodec` keeps it."""

    pad: int

    def encode_chat(self, messages: Sequence[Any], add_generation_prompt: bool = False) -> list[int]:
        """Return the ids of a conversation."""


class Chats(Protocol):
    """What is needed of a dataset; `data.dataset.Dataset` keeps it."""

    def rows(self, split: Any) -> Iterator[dict[str, Any]]:
        """Yield rows with `messages` and `meta`."""


Scorer: TypeAlias = Callable[[Sequence[Turns]], list[float]]  # conversations ending in an answer → a score each


def prompts_of(rows: Iterable[dict[str, Any]], codec: ChatCodec, *, context: int, max_tokens: int,
               what: str) -> list[Prompt]:
    """Return the usable prompts of a split: the turns up to the last assistant turn, which is the reference.

    Args:
        rows: conversations.
        codec: encodes them.
        context: longest prompt with answer.
        max_tokens: room for the answer.
        what: the split, for messages.

    Raises:
        DataError: nothing is left; the message has the counts.
    """
    found, too_long, empty = list[Prompt](), 0, 0
    for row in rows:
        turns = list(row["messages"])
        last = max((place for place, turn in enumerate(turns) if turn["role"] == "assistant"), default=len(turns))
        before = turns[:last]
        if not before or not str(before[-1]["content"]).strip():
            empty += 1
            continue
        tokens = codec.encode_chat(before, add_generation_prompt=True)
        if len(tokens) + max_tokens > context:
            too_long += 1
            continue
        reference = str(turns[last]["content"]) if last < len(turns) else ""
        found.append(Prompt(before, tokens, reference, dict(row.get("meta") or {})))
    if not found:
        raise DataError(f"no {what} prompt can be used: {too_long} leave no room for {max_tokens} tokens in a context "
                        f"of {context}, {empty} ask nothing", where="training.context",
                        fix="raise training.context, lower objective.max_tokens, or give other data")
    if too_long or empty:
        say(f"{what}: {too_long} prompts too long for {max_tokens} tokens in a context of {context} and {empty} that "
            "ask nothing are left out")
    return found
