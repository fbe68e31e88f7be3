"""From a request to signed text: `bottega generate MODEL "…"`. Prompts, controls and seeds are settled here.

Controls are the request's over the bundle's over the family's. A prompt that does not fit is refused with the numbers,
never cut. Equal requests with equal seeds give equal bytes, alone or among others (see `Engine.dtype`).
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from bottega.codecs.text import TextCodec
from bottega.core.bundle import ANSWERING, Bundle
from bottega.core.errors import ContextError, ControlError, InputError
from bottega.core.files import digest_json
from bottega.core.lineage import code_digest
from bottega.core.request import Controls, Message, Output, Request, Result, Step
from bottega.families.base import TokenGenerator
from bottega.generation import decode
from bottega.generation.backends.transformers import PretrainedGenerator
from bottega.generation.constrain import Grammars
from bottega.generation.detokenise import Detokeniser
from bottega.generation.runner import Reading, make_runner
from bottega.generation.sampling import Settings
from bottega.generation.signature import origin

FAMILY_DEFAULTS = Controls(temperature=1.0, n=1)
_SLOTS = 64  # sequences stepped together; more waits its turn


@dataclasses.dataclass(frozen=True)
class Plan:
    """A request with everything settled: `outputs` sequences are made, the best `wanted` of them returned."""

    request: Request
    controls: Controls
    prompt: list[int]
    budget: int
    seed: int
    outputs: int
    wanted: int


class Engine:
    """One model, ready to make text.

    Args:
        generator: the model; its weights are copied into the form that decodes fastest.
        codec: its text codec.
        controls: defaults that came with the model.
        model_digest: digest of the bundle.
        lineage: where the model came from; goes into every result.
        dtype: see `runner.make_runner`; with `fp16` and `int8` outputs do not depend on their batch or on the number
            of threads, bit for bit; with `fp32` they may where two candidates tie to the sixth digit.
        answers: whether the model was tuned to answer conversations.

    Raises:
        InputError: the dtype does not fit the model, or codec and model have different vocabularies.
    """

    def __init__(self, generator: TokenGenerator, codec: TextCodec, *, controls: Controls, model_digest: str,
                 lineage: dict[str, Any], dtype: str = "auto", answers: bool = False) -> None:
        vocab = generator.head_weight.shape[0]
        if codec.vocab_size > vocab:
            raise InputError(f"the codec has {codec.vocab_size} tokens, the model only {vocab}",
                             fix="use the codec that the model was trained with")
        self.codec, self.model_digest, self.lineage, self.answers = codec, model_digest, lineage, answers
        self.family, self.context = generator.family, int(generator.config.context)
        self._understands = generator.understands
        self.controls = controls.over(FAMILY_DEFAULTS)
        self.controls.require(self._understands, self.family)
        ends = codec.ends
        pieces = [codec.token_bytes(number) for number in range(codec.vocab_size)]
        drawable = torch.tensor([bool(piece) for piece in pieces] + [False] * (vocab - len(pieces)))
        drawable[list(ends)] = True
        self._vocabulary = decode.Vocabulary(pieces, ends, drawable)
        self._grammars = Grammars(codec, ends)
        self._runner = make_runner(generator, dtype)
        self.dtype = self._runner.dtype

    def renew(self, generator: TokenGenerator) -> None:
        """Take the weights of a generator of the same shape: those of now, of a model that is being trained."""
        self._runner = make_runner(generator, self.dtype)

    @classmethod
    def open(cls, model: Path | str | Bundle, dtype: str = "auto") -> Engine:
        """Verify a bundle and load it.

        Raises:
            InputError: no such folder, not a bundle, or not a model of text.
            CorruptError: a file does not match the manifest.
        """
        from bottega.families.bases import open_generator

        bundle = model if isinstance(model, Bundle) else Bundle.open(Path(model))
        if bundle.meta.get("codec", "text") != "text":
            raise InputError(f"{bundle.path} is a model of {bundle.meta['codec']}, not of text",
                             fix="choose a text model; see 'bottega models'")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        generator = PretrainedGenerator.load(bundle.path).to(device) \
            if bundle.meta["family"] == PretrainedGenerator.family else \
            cast(TokenGenerator, open_generator(bundle, device))
        lineage = origin(bundle)
        answers = bool(bundle.meta.get("answers", bundle.meta.get("objective") in ANSWERING))
        return cls(generator, TextCodec.load(bundle.path), controls=bundle.controls, model_digest=bundle.digest,
                   lineage=lineage, dtype=dtype, answers=answers)

    def generate(self, request: Request) -> Result:
        """Make one request's outputs, best first.

        Raises:
            ControlError: a control is not understood, or the controls contradict each other.
            InputError: the prompt does not fit the context.
        """
        return self.generate_many([request])[0]

    def generate_many(self, requests: Sequence[Request]) -> list[Result]:
        """Make many requests together, up to 64 sequences at a time; results in the order given.

        Raises:
            ControlError, InputError: as in `generate`; what can be found out before anything is made, is.
        """
        results = dict(self.generate_each(requests))
        return [results[index] for index in range(len(requests))]

    def generate_each(self, requests: Sequence[Request]) -> Iterator[tuple[int, Result]]:
        """Yield the results of `generate_many` as they are finished, each with its request's place.

        Raises:
            ControlError, InputError: as in `generate_many`.
        """
        plans = [self.plan(request) for request in requests]
        made = [self.sequences(plan) for plan in plans]
        waiting = deque(sorted(range(len(plans)), key=lambda i: -len(plans[i].prompt) - plans[i].budget))
        decoder, running = self.decoder(), dict[int, float]()
        while waiting or running:
            while waiting and (not running or sum(plans[i].outputs for i in (*running, waiting[0])) <= _SLOTS):
                index = waiting.popleft()
                running[index] = time.perf_counter()
                decoder.add(self.read(plans[index]), made[index])
            decoder.round()
            for index in [index for index in running if all(sequence.over for sequence in made[index])]:
                yield index, self.result(plans[index], made[index], time.perf_counter() - running.pop(index))

    def stream(self, request: Request) -> Iterator[Step]:
        """Yield the steps of a request as they are made; with `best_of` above `n`, of the winners once all are made.

        Raises:
            ControlError, InputError: as in `generate`, before the first step where possible.
        """
        plan = self.plan(request)
        sequences = self.sequences(plan)
        if plan.outputs > plan.wanted:
            seeded = request.controls.model_copy(update={"seed": plan.seed})
            ranked = self.generate(request.model_copy(update={"controls": seeded}))
            return (step for output in ranked.outputs for step in output.steps)
        return self._stream(plan, sequences)

    def _stream(self, plan: Plan, sequences: list[decode.Sequence]) -> Iterator[Step]:
        decoder = self.decoder()
        decoder.add(self.read(plan), sequences)
        while worked := decoder.round():
            for sequence in worked:
                if sequence.error is not None:
                    raise sequence.error
                yield sequence.steps[-1]

    def decoder(self) -> decode.Decoder:
        """Return an empty loop over this model."""
        return decode.Decoder(self._runner, self._vocabulary)

    def begin(self, plan: Plan) -> Reading:
        """Begin to read a plan's prompt."""
        return self._runner.read(plan.prompt)

    def read(self, plan: Plan) -> Reading:
        """Read a plan's whole prompt."""
        reading = self.begin(plan)
        while reading.remaining:
            self.advance([reading])
        return reading

    def advance(self, readings: Sequence[Reading]) -> None:
        """Read the next piece of unfinished readings."""
        self._runner.advance(readings)

    def embed(self, text: str) -> tuple[list[float], int]:
        """Return the mean of the model's final hidden states over a text, scaled to length 1, and its tokens.

        A by-product of a model trained to predict, not a model trained to embed: near texts lie nearer, no more.

        Raises:
            InputError: the text is empty or does not fit the context.
        """
        tokens = self.codec.encode(text)
        if not tokens:
            raise InputError("there is no text to embed", fix="give at least one character")
        self._check_room(len(tokens))
        whole = [*self.codec.start, *tokens]
        mean = self._runner.pooled(whole)
        return torch.nn.functional.normalize(mean, dim=0).tolist(), len(whole)

    def score(self, prompt: str | Sequence[Message], text: str, alternatives: int = 0) -> Output:
        """Read a given continuation as the model would have made it: each token's probability and alternatives.

        Args:
            prompt: text before it, or the conversation that it answers.
            text: the continuation.
            alternatives: other candidates shown at each token.

        Raises:
            InputError: the two together do not fit the context, or the text is empty.
        """
        before = self._encode(Request(prompt=prompt) if isinstance(prompt, str) else Request(messages=list(prompt)))
        tokens = self.codec.encode(text)
        if not tokens:
            raise InputError("there is no text to score", fix="give at least one character")
        self._check_room(len(before) + len(tokens) - 1)
        logits = self._runner.all_logits([*before, *tokens[:-1]])[len(before) - 1:]
        shown, steps = Detokeniser(), list[Step]()
        logprobs = logits.log_softmax(-1).gather(1, torch.tensor(tokens).unsqueeze(1)).squeeze(1).tolist()
        for index, (token, logprob) in enumerate(zip(tokens, logprobs, strict=True)):
            others, _ = decode.look_inside(logits[index:index + 1], Settings(), None, self._vocabulary.drawable, token,
                                           alternatives, self._vocabulary, False) if alternatives else ((), ())
            last = index + 1 == len(tokens)
            piece = shown.push(self._vocabulary.pieces[token]) + (shown.finish() if last else "")
            steps.append(Step(output=0, index=index, text=piece, token=token,
                              token_text=self._vocabulary.text(token), logprob=logprob,
                              probability=float(torch.tensor(logprob).exp()), alternatives=others))
        return Output(text=text, tokens=tokens, steps=steps, finish="", score=sum(logprobs) / len(logprobs))

    def _encode(self, request: Request) -> list[int]:
        """Return the prompt's ids: a conversation up to the assistant's turn, a gap, or text after its start."""
        if request.messages is not None:
            return self.codec.encode_chat(request.messages, add_generation_prompt=True)
        assert request.prompt is not None
        if request.suffix is not None:
            return self.codec.encode_fim(request.prompt, request.suffix)
        return [*self.codec.start, *self.codec.encode(request.prompt)] or [self.codec.bos]

    def _check_room(self, tokens: int) -> None:
        if tokens >= self.context:
            raise ContextError(
                f"the prompt has {tokens} tokens, the model's context is {self.context} and the output needs at least "
                "one", fix=f"shorten the prompt by {tokens - self.context + 1} tokens or more, or train a model with "
                "a larger training.context")

    def plan(self, request: Request) -> Plan:
        """Settle controls, seed, prompt and budget of a request.

        Raises:
            ControlError, InputError: as in `generate`.
        """
        if request.of_pictures:
            raise InputError("a model of text takes no picture and no second prompt", where=request.of_pictures,
                             fix=f"leave '{request.of_pictures}' out, or ask a model of pictures")
        request.controls.require(self._understands, self.family)
        controls = request.controls.over(self.controls)
        prompt = self._encode(request)
        self._check_room(len(prompt))
        room = self.context - len(prompt)
        seed = secrets.randbits(53) if controls.seed is None else controls.seed
        wanted = controls.n or 1
        controls = controls.model_copy(update={"seed": seed, "max_tokens": min(controls.max_tokens or room, room)})
        assert controls.max_tokens is not None
        return Plan(request, controls, prompt, controls.max_tokens, seed, controls.best_of or wanted, wanted)

    def sequences(self, plan: Plan) -> list[decode.Sequence]:
        """Return the outputs to make of a settled request.

        Raises:
            ControlError: `logit_bias` or `format` cannot be used with this model.
        """
        settings = Settings.of(plan.controls, self._token_of)
        constraint = self._grammars.compile(plan.controls.format) if plan.controls.format else None
        return [decode.Sequence(
            output=output, prompt=plan.prompt, settings=settings, seed=plan.seed, budget=plan.budget,
            text=Detokeniser(plan.controls.stop), alternatives=plan.request.alternatives,
            constraint=constraint.fork() if constraint else None) for output in range(plan.outputs)]

    def _token_of(self, key: str) -> int:
        """Return the token of a `logit_bias` key: an id in digits, else a text that is exactly one token."""
        if key.isascii() and key.isdigit():
            if int(key) >= self.codec.vocab_size:
                raise ControlError(f"logit_bias: there is no token {key}", fix=f"use 0 to {self.codec.vocab_size - 1}")
            return int(key)
        tokens = self.codec.encode(key)
        if len(tokens) != 1:
            parts = " · ".join(repr(self._vocabulary.text(token)) for token in tokens)
            raise ControlError(f"logit_bias: {key!r} is {len(tokens)} tokens, not one", where=parts,
                               fix="give one of these parts, or a token id")
        return tokens[0]

    def result(self, plan: Plan, sequences: list[decode.Sequence], seconds: float) -> Result:
        """Rank finished sequences and sign them.

        Raises:
            ControlError: a sequence could not go on.
        """
        for sequence in sequences:
            if sequence.error is not None:
                raise sequence.error
        outputs = [_output(sequence) for sequence in sequences]
        made = sum(len(output.tokens) for output in outputs)
        if len(outputs) > 1:
            outputs = sorted(outputs, key=lambda output: -output.score)[:plan.wanted]
            for rank, output in enumerate(outputs):
                output.steps = [dataclasses.replace(step, output=rank) for step in output.steps]
        return Result(outputs=outputs, prompt_tokens=len(plan.prompt), new_tokens=made, seed=plan.seed,
                      seconds=seconds, model=self.model_digest, lineage=self.sign(plan))

    def sign(self, plan: Plan) -> dict[str, Any]:
        """Return what makes a request's outputs again: model, request, settled controls, arithmetic and code."""
        request = plan.request.model_dump(mode="json", exclude_none=True, exclude={"controls", "alternatives"})
        controls = plan.controls.model_dump(mode="json", exclude_none=True)
        return {**self.lineage, "model": self.model_digest, "request": digest_json({**request, "controls": controls}),
                "controls": controls, "seed": plan.seed, "dtype": self.dtype, "code": code_digest(),
                "torch": str(torch.__version__)}


def _output(sequence: decode.Sequence) -> Output:
    """Collect a finished sequence; the score is the mean log-probability of its tokens under the model."""
    return Output(text="".join(step.text for step in sequence.steps), tokens=sequence.tokens, steps=sequence.steps,
                  finish=sequence.finish or "", score=sum(sequence.logprobs) / len(sequence.logprobs))
