"""Answers for reinforcement learning from our own engine, with the weights of now.

`pytest tests/objectives/test_grpo.py` compares its probabilities with the forward pass.

Draws are from the model's own distribution: temperature 1 and no filter; only reserved tokens, which no answer may
hold, are left out, and a token's log-probability is that of the distribution it was drawn from. Weights are decoded in
fp32, so that the sampler and the training step agree.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from bottega.codecs.text import TextCodec
from bottega.core.request import Controls, Message, Request
from bottega.families.base import TokenGenerator
from bottega.generation.decode import Sequence as Decoded
from bottega.generation.engine import Engine, Plan
from bottega.objectives.samples import Prompt, Sample

_SLOTS = 256  # answers stepped together


class EngineSampler:
    """Draws answers from a generator as it is at each call; see `objectives.samples.Sampler`.

    Args:
        generator: what is trained; in evaluation mode when called.
        codec: its text codec.
        slots: answers stepped together; more waits its turn.
    """

    def __init__(self, generator: TokenGenerator, codec: TextCodec, slots: int = _SLOTS) -> None:
        self._generator, self._codec, self._slots = generator, codec, slots
        self._engine: Engine | None = None
        self.drawn = 0  # tokens so far

    def __call__(self, prompts: Sequence[Prompt], *, copies: int, max_tokens: int, seeds: Sequence[int],
                 greedy: bool = False) -> list[list[Sample]]:
        """See `objectives.samples.Sampler`.

        Raises:
            InputError: a prompt does not fit the context.
        """
        engine = self._ready()
        plans = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            controls = Controls(temperature=0.0 if greedy else 1.0, n=copies, max_tokens=max_tokens, seed=seed)
            messages = [Message.model_validate(turn) for turn in prompt.messages]
            plans.append(engine.plan(Request(messages=messages, controls=controls)))
        made = self._decode(engine, plans)
        return [[self._sample(prompt, sequence) for sequence in group]
                for prompt, group in zip(prompts, made, strict=True)]

    def _ready(self) -> Engine:
        """Return the engine with the weights of now; its tables of the vocabulary are made once."""
        if self._engine is None:
            dtype = "fp32" if self._generator.head_weight.device.type == "cpu" else "auto"
            self._engine = Engine(self._generator, self._codec, controls=Controls(), model_digest="", lineage={},
                                  dtype=dtype, answers=True)
        else:
            self._engine.renew(self._generator)
        return self._engine

    def _decode(self, engine: Engine, plans: Sequence[Plan]) -> list[list[Decoded]]:
        made = [engine.sequences(plan) for plan in plans]
        waiting, decoder = deque(range(len(plans))), engine.decoder()
        while waiting or decoder.alive:
            taken, busy = [], len(decoder.alive)
            while waiting and (not busy or busy + len(made[waiting[0]]) <= self._slots):
                taken.append(waiting.popleft())
                busy += len(made[taken[-1]])
            readings = [engine.begin(plans[index]) for index in taken]
            while unread := [reading for reading in readings if reading.remaining]:
                engine.advance(unread)
            for index, reading in zip(taken, readings, strict=True):
                decoder.add(reading, made[index])
            for sequence in decoder.round():
                if sequence.error is not None:
                    raise sequence.error
        return made

    def _sample(self, prompt: Prompt, sequence: Decoded) -> Sample:
        """Return a finished sequence as a sample."""
        self.drawn += len(sequence.tokens)
        # a step's `probability` is that of the draw, its `logprob` the model's before reserved tokens were left out
        logs = [math.log(max(step.probability or 0.0, 1e-38)) for step in sequence.steps]
        return Sample(prompt, "".join(step.text for step in sequence.steps), sequence.tokens, logs,
                      sequence.finish == "end")
