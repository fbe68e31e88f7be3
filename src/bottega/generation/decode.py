"""The loop that makes tokens: many sequences, one model step at a time, finished ones dropped at once.

`Engine` (engine.py) is the way in; this file knows nothing of prompts as text or of defaults.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from bottega.core.request import Alternative, Step
from bottega.generation.constrain import Constraint
from bottega.generation.detokenise import Detokeniser
from bottega.generation.runner import Runner
from bottega.generation.sampling import History, Settings, adjust, draw, stages, uniform

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


@dataclass
class Sequence:
    """One output under way.

    Attributes:
        request: which request it belongs to; output: which of that request's outputs.
        prompt: ids that were read.
        budget: at most this many new tokens.
        logprobs: the model's own log-probability of each token.
    """

    request: int
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
    finish: Finish | None = None
    history: History | None = None


def decode(runner: Runner, vocabulary: Vocabulary, prompts: list[list[int]],
           sequences: list[Sequence]) -> Iterator[tuple[Sequence, Step]]:
    """Make all sequences to their ends, one token each a round.

    Args:
        runner: the model.
        vocabulary: see there.
        prompts: one a request; each is read once, whatever the number of outputs.
        sequences: in the order of their requests; `Sequence.request` is an index into `prompts`.

    Yields:
        a sequence and its new step; the step that ends it has `finish` set.

    Raises:
        ControlError: the controls of a sequence forbid every token.
    """
    capacity = max(len(sequence.prompt) + sequence.budget for sequence in sequences)
    with torch.inference_mode():
        cache = runner.new_cache(len(prompts), capacity)
        logits = runner.prefill(prompts, cache)
        rows = [sequence.request for sequence in sequences]
        if rows != list(range(len(prompts))):
            picked = torch.tensor(rows)
            logits, cache = logits[picked], cache.select(picked.to(cache.lengths.device))
        alive = sequences
        for sequence in alive:
            if sequence.settings.penalised:
                sequence.history = History(sequence.prompt, logits.shape[1])
    while True:
        with torch.inference_mode():
            steps = _round(logits, alive, vocabulary)
        yield from zip(alive, steps, strict=True)
        kept = [row for row, sequence in enumerate(alive) if sequence.finish is None]
        if not kept:
            return
        with torch.inference_mode():
            if len(kept) < len(alive):
                cache = cache.select(torch.tensor(kept, device=cache.lengths.device))
                alive = [alive[row] for row in kept]
            logits = runner.step(torch.tensor([sequence.tokens[-1] for sequence in alive]), cache)


def _round(logits: Tensor, alive: list[Sequence], vocabulary: Vocabulary) -> list[Step]:
    """Draw a token for each sequence from logits [B, V]; sequences with equal settings are drawn together."""
    groups: dict[Settings, list[int]] = {}
    for row, sequence in enumerate(alive):
        groups.setdefault(sequence.settings, []).append(row)
    steps: list[Step | None] = [None] * len(alive)
    for settings, rows in groups.items():
        some = [alive[row] for row in rows]
        part = logits if len(rows) == len(alive) else logits[rows]
        allowed = _allowed(some, vocabulary)
        histories = [sequence.history for sequence in some if sequence.history is not None] or None
        chances = torch.tensor([uniform(s.seed, s.output, len(s.tokens)) for s in some], dtype=torch.float64) \
            if settings.temperature else torch.empty(0)
        tokens, probabilities = draw(adjust(part, settings, histories, allowed), settings, chances)
        logprobs = part.gather(1, tokens.unsqueeze(1)).squeeze(1) - part.logsumexp(-1)
        picked = zip(some, tokens.tolist(), probabilities.tolist(), logprobs.tolist(), strict=True)
        for place, (sequence, token, probability, logprob) in enumerate(picked):
            others: Inside = ((), ())
            if sequence.alternatives:
                history = [sequence.history] if sequence.history is not None else None
                mask = allowed[place:place + 1] if allowed.dim() == 2 else allowed
                others = look_inside(part[place:place + 1], settings, history, mask, token, sequence.alternatives,
                                     vocabulary, sequence.constraint is not None)
            steps[rows[place]] = _take(sequence, token, logprob, probability, others, vocabulary)
    return [step for step in steps if step is not None]


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
          others: Inside, vocabulary: Vocabulary) -> Step:
    """Append a token to a sequence, decide whether it ends there, and return the step."""
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
    return Step(output=sequence.output, index=index, text=text, token=token, token_text=vocabulary.text(token),
                logprob=logprob, probability=probability, alternatives=others[0], changes=others[1],
                finish=sequence.finish)


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
