"""The loop that makes tokens: sequences of many requests step through one model, joining and leaving at any step.

`Engine` (engine.py) and `Batcher` (batcher.py) are the ways in; this file knows nothing of prompts as text or of
defaults. A sequence's tokens are the same alone and among others (see `Engine.dtype`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from bottega.core.errors import BottegaError
from bottega.core.request import Alternative, Step
from bottega.generation.constrain import Constraint
from bottega.generation.detokenise import Detokeniser
from bottega.generation.runner import Reading, Runner
from bottega.generation.sampling import History, Settings, adjust, draw, nothing_left, stages, uniform

Finish = Literal["stop", "length", "end"]
Inside: TypeAlias = tuple[tuple[Alternative, ...], tuple[str, ...]]  # alternatives, what the controls changed


@dataclass(frozen=True)
class Vocabulary:
    """What the loop must know of a codec.

    Attributes:
        pieces: bytes of each token, empty for reserved ones.
        ends: ids that end an output.
        drawable: bool [V], false for reserved ids other than the ends.
    """

    pieces: list[bytes]
    ends: tuple[int, ...]
    drawable: Tensor

    def text(self, token: int) -> str:
        """Return a token's text, lossy where it is no whole character."""
        return self.pieces[token].decode("utf-8", "replace") if token < len(self.pieces) else ""


@dataclass(eq=False)
class Sequence:
    """One output under way.

    Attributes:
        output: which of its request's outputs.
        prompt: ids that were read.
        budget: at most this many new tokens.
        logprobs: the model's own log-probability of each token.
        steps: what was made so far.
        error: why it could not go on; it has left the loop then.
    """

    output: int
    prompt: list[int]
    settings: Settings
    seed: int
    budget: int
    text: Detokeniser
    constraint: Constraint | None = None
    alternatives: int = 0
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    finish: Finish | None = None
    error: BottegaError | None = None
    history: History | None = None

    @property
    def over(self) -> bool:
        """Whether no more tokens will come."""
        return self.finish is not None or self.error is not None


class Decoder:
    """Sequences under way in one model.

    Args:
        runner: the model.
        vocabulary: see there.

    Attributes:
        alive: sequences that will get another token, in the order of the model's rows.
    """

    def __init__(self, runner: Runner, vocabulary: Vocabulary) -> None:
        self._vocabulary, self._rows = vocabulary, runner.rows()
        self.alive: list[Sequence] = []
        self._joining: list[tuple[Reading, list[Sequence]]] = []

    def add(self, reading: Reading, sequences: list[Sequence]) -> None:
        """Let sequences of one finished reading join at the next round."""
        self._joining.append((reading, sequences))

    def drop(self, gone: set[int]) -> None:
        """Forget sequences, given by `id`."""
        self._joining = [(reading, left) for reading, sequences in self._joining
                         if (left := [sequence for sequence in sequences if id(sequence) not in gone])]
        self._keep([row for row, sequence in enumerate(self.alive) if id(sequence) not in gone])

    @torch.inference_mode()
    def round(self) -> list[Sequence]:
        """Make one token of every sequence and return them; a new step is the last of `Sequence.steps`.

        A sequence that is `over` has left, either with `finish` set or with `error` (then without a new step).
        """
        parts: list[Tensor] = []
        if self.alive:
            parts.append(self._rows.step(torch.tensor([sequence.tokens[-1] for sequence in self.alive])))
        for reading, sequences in self._joining:
            logits = self._rows.add(reading, len(sequences), sequences[0].budget)
            parts.append(logits.expand(len(sequences), -1))
            for sequence in sequences:
                if sequence.settings.penalised:
                    sequence.history = History(sequence.prompt, logits.shape[0])
            self.alive = self.alive + sequences
        self._joining = []
        if not self.alive:
            return []
        worked = self.alive
        _draw_all(torch.cat(parts) if len(parts) > 1 else parts[0], worked, self._vocabulary)
        self._keep([row for row, sequence in enumerate(worked) if not sequence.over])
        return worked

    def _keep(self, rows: list[int]) -> None:
        if len(rows) < len(self.alive):
            self._rows.keep(rows)
            self.alive = [self.alive[row] for row in rows]


def _draw_all(logits: Tensor, alive: list[Sequence], vocabulary: Vocabulary) -> None:
    """Draw a token for each sequence from logits [B, V]; sequences with equal settings are drawn together."""
    groups: dict[Settings, list[int]] = {}
    for row, sequence in enumerate(alive):
        groups.setdefault(sequence.settings, []).append(row)
    for settings, rows in groups.items():
        part = logits if len(rows) == len(alive) else logits[rows]
        _draw_group(part, settings, [alive[row] for row in rows], vocabulary)


def _draw_group(logits: Tensor, settings: Settings, some: list[Sequence], vocabulary: Vocabulary) -> None:
    """Draw a token for sequences of equal settings from logits [B, V]; what has no token left fails alone."""
    allowed = _allowed(some, vocabulary)
    histories = [sequence.history for sequence in some if sequence.history is not None] or None
    adjusted = adjust(logits, settings, histories, allowed)
    if bool((stuck := adjusted.amax(-1).isneginf()).any()):
        for row in stuck.nonzero().flatten().tolist():
            some[row].error = nothing_left()
        left = (~stuck).nonzero().flatten()
        some, logits, adjusted = [some[row] for row in left.tolist()], logits[left], adjusted[left]
        allowed = allowed[left] if allowed.dim() == 2 else allowed
        if not some:
            return
    chances = torch.tensor([uniform(s.seed, s.output, len(s.tokens)) for s in some], dtype=torch.float64) \
        if settings.temperature else torch.empty(0)
    tokens, probabilities = draw(adjusted, settings, chances)
    logprobs = logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - logits.logsumexp(-1)
    picked = zip(some, tokens.tolist(), probabilities.tolist(), logprobs.tolist(), strict=True)
    for place, (sequence, token, probability, logprob) in enumerate(picked):
        others: Inside = ((), ())
        if sequence.alternatives:
            history = [sequence.history] if sequence.history is not None else None
            mask = allowed[place:place + 1] if allowed.dim() == 2 else allowed
            others = look_inside(logits[place:place + 1], settings, history, mask, token, sequence.alternatives,
                                 vocabulary, sequence.constraint is not None)
        try:
            _take(sequence, token, logprob, probability, others, vocabulary)
        except BottegaError as error:
            sequence.error = error


def _allowed(some: list[Sequence], vocabulary: Vocabulary) -> Tensor:
    """Return which tokens may come, bool [V], or [B, V] when a format narrows them."""
    if all(sequence.constraint is None for sequence in some):
        return vocabulary.drawable
    masks = vocabulary.drawable.repeat(len(some), 1)
    for row, sequence in enumerate(some):
        if sequence.constraint is not None:
            mask = torch.from_numpy(sequence.constraint.allowed(sequence.budget - len(sequence.tokens)))
            masks[row, :len(mask)] &= mask
            masks[row, len(mask):] = False
    return masks


def _take(sequence: Sequence, token: int, logprob: float, probability: float,
          others: Inside, vocabulary: Vocabulary) -> None:
    """Append a token and its step to a sequence and decide whether it ends there."""
    index = len(sequence.tokens)
    sequence.tokens.append(token)
    sequence.logprobs.append(logprob)
    if sequence.history is not None:
        sequence.history.add(token)
    text = ""
    if token in vocabulary.ends:
        sequence.finish = "end"
    else:
        text = sequence.text.push(vocabulary.pieces[token])
        if sequence.text.stopped:
            sequence.finish = "stop"
        else:
            if sequence.constraint is not None:
                sequence.constraint.accept(token)
                if sequence.constraint.finished:
                    sequence.finish = "end"
            if sequence.finish is None and index + 1 >= sequence.budget:
                sequence.finish = "length"
    if sequence.finish in ("end", "length"):
        text += sequence.text.finish()
        if sequence.text.stopped:
            sequence.finish = "stop"
    sequence.steps.append(Step(
        output=sequence.output, index=index, text=text, token=token, token_text=vocabulary.text(token),
        logprob=logprob, probability=probability, alternatives=others[0], changes=others[1], finish=sequence.finish))


def look_inside(logits: Tensor, settings: Settings, histories: list[History] | None, allowed: Tensor, chosen: int,
                count: int, vocabulary: Vocabulary, has_format: bool) -> Inside:
    """Say what else could have come and what each control did, for one row.

    Args:
        logits: fp32 [1, V] of the model.
        settings, histories, allowed: as they were for the draw.
        chosen: the token that was drawn.
        count: how many other candidates.
        vocabulary: for their text.
        has_format: whether `allowed` comes from a format (else only from reserved tokens).

    Returns:
        alternatives by the model's own probability, most probable first; one sentence for each control that changed
        something.
    """
    before, changes = logits, list[str]()
    for name, after in stages(logits, settings, histories, allowed):
        if (sentence := _change(name if name != "format" or has_format else "reserved", before, after, settings)):
            changes.append(sentence)
        before = after
    raw, final = logits.log_softmax(-1)[0], before.softmax(-1)[0]
    top = [token for token in raw.topk(min(count + 1, raw.shape[0])).indices.tolist() if token != chosen][:count]
    return tuple(Alternative(token, vocabulary.text(token), float(raw[token]), float(final[token])) for token in top), \
        tuple(changes)


def _change(name: str, before: Tensor, after: Tensor, settings: Settings) -> str:
    """Return one sentence about one control, empty when it changed nothing worth telling."""
    was, now = before.softmax(-1)[0], after.softmax(-1)[0]
    gone = (was > 0) & (now == 0)
    removed, mass = int(gone.sum()), float(was[gone].sum())
    values = {"top_k": settings.top_k, "min_p": settings.min_p, "top_p": settings.top_p,
              "temperature": settings.temperature}
    title = settings.penalties if name == "penalties" else f"{name} {values[name]:g}" if name in values else name
    if name == "temperature" and settings.temperature:
        return f"{title}: entropy {_entropy(was):.2f} → {_entropy(now):.2f} bits"
    if name == "reserved":
        return f"reserved tokens: never made, held {mass:.1%}" if mass >= 0.001 else ""
    if removed:
        return f"{title}: removed {removed} tokens that held {mass:.1%} of the probability"
    moved = int(((before != after) & (was > 0)).sum())
    if moved:
        return f"{title}: changed {moved} tokens, moved {float((was - now).abs().sum()) / 2:.1%} of the probability"
    return ""


def _entropy(chance: Tensor) -> float:
    """Return the entropy in bits of probabilities [V]."""
    return float(-(chance * chance.clamp_min(1e-45).log()).sum()) / math.log(2)
