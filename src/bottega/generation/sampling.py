"""From logits to a drawn token, in one stated order. `pytest tests/generation` checks each control by chi-square.

Order: format and reserved tokens → logit_bias → repetition, presence and frequency penalties → temperature → top_k →
min_p → top_p → draw by inverse CDF. The uniform number of a draw is a function of (seed, output, position) alone, and
every operation treats each row by itself, so a draw does not depend on the batch it is made in.

`draw` is the fast form (no full sort, nothing reported), `stages` the plain one, which says what each control changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from bottega.core.errors import ControlError
from bottega.core.request import Controls

FORBID, FORCE = -100.0, 100.0  # logit_bias at these ends is absolute
_CANDIDATES = (64, 512)  # top_p looks among so many first; 512 were 4-16 times cheaper than a full sort, 64 again 2.5
_GOLDEN, _MASK64 = 0x9E3779B97F4A7C15, (1 << 64) - 1


def uniform(seed: int, output: int, position: int) -> float:
    """Return the number in [0, 1) that decides one draw; equal arguments give equal numbers everywhere.

    SplitMix64's finaliser over the three counters (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number
    generators", fig. 17); 53 bits.
    """
    state = seed
    for counter in (0, output + 1, position + 1):
        state = (state + _GOLDEN * (counter + 1)) & _MASK64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK64
        state ^= state >> 31
    return (state >> 11) * 2.0**-53


@dataclass(frozen=True, slots=True)
class Settings:
    """The sampling controls of one request, all set; equal settings are sampled together."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    bias: tuple[tuple[int, float], ...] = ()

    @property
    def penalised(self) -> bool:
        """Whether a history of tokens is needed."""
        return self.repetition != 1.0 or self.presence != 0.0 or self.frequency != 0.0

    @property
    def penalties(self) -> str:
        """The penalties that are set, in words."""
        parts = (("repetition_penalty", self.repetition, 1.0), ("presence_penalty", self.presence, 0.0),
                 ("frequency_penalty", self.frequency, 0.0))
        return ", ".join(f"{name} {value:g}" for name, value, off in parts if value != off)

    @staticmethod
    def of(controls: Controls, token_of: Callable[[str], int]) -> Settings:
        """Read resolved controls.

        Args:
            controls: unset ones mean no effect.
            token_of: token id of a `logit_bias` key.

        Raises:
            ControlError: a `logit_bias` key is not one token.
        """
        def pick(value: float | None, default: float) -> float:
            return default if value is None else value

        bias = {token_of(key): value for key, value in (controls.logit_bias or {}).items()}
        return Settings(
            temperature=pick(controls.temperature, 1.0), top_k=controls.top_k or 0, top_p=pick(controls.top_p, 1.0),
            min_p=pick(controls.min_p, 0.0), repetition=pick(controls.repetition_penalty, 1.0),
            presence=pick(controls.presence_penalty, 0.0), frequency=pick(controls.frequency_penalty, 0.0),
            bias=tuple(sorted(bias.items())))


class History:
    """Which tokens a sequence holds: `seen` bool [V] in prompt or output, `counts` fp32 [V] in the output."""

    def __init__(self, prompt: list[int], vocab: int) -> None:
        self.seen = torch.zeros(vocab, dtype=torch.bool)
        self.seen[torch.tensor(prompt, dtype=torch.int64)] = True
        self.counts = torch.zeros(vocab)

    def add(self, token: int) -> None:
        """Note a new token of the output."""
        self.seen[token] = True
        self.counts[token] += 1


@lru_cache(maxsize=64)
def _dense_bias(bias: tuple[tuple[int, float], ...], vocab: int) -> Tensor:
    """Return what to add to each logit, fp32 [V]."""
    forced = any(value >= FORCE for _, value in bias)
    added = torch.full((vocab,), -math.inf if forced else 0.0)
    for token, value in bias:
        if value <= FORBID:
            added[token] = -math.inf
        elif not forced or value >= FORCE:
            added[token] = 0.0 if forced else value
    return added


def apply_bias(logits: Tensor, bias: tuple[tuple[int, float], ...]) -> Tensor:
    """Add to the logits [B, V] of single tokens; -100 forbids, 100 leaves nothing but the tokens that have it."""
    return logits + _dense_bias(bias, logits.shape[1])


def apply_penalties(logits: Tensor, settings: Settings, histories: list[History]) -> Tensor:
    """Lower the logits [B, V] of tokens that were there before.

    repetition: divide positive, multiply negative logits of tokens in prompt or output (Keskar et al. 2019,
    arXiv 1909.05858, §4.1). presence and frequency: subtract once, and for each time, for tokens in the output.
    """
    counts = torch.stack([history.counts for history in histories])
    if settings.repetition != 1.0:
        seen = torch.stack([history.seen for history in histories])
        scaled = torch.where(logits > 0, logits / settings.repetition, logits * settings.repetition)
        logits = torch.where(seen, scaled, logits)
    return logits - (counts > 0) * settings.presence - counts * settings.frequency


def adjust(logits: Tensor, settings: Settings, histories: list[History] | None, allowed: Tensor | None) -> Tensor:
    """Return logits [B, V] after format, bias and penalties; `allowed` is bool, broadcastable to [B, V], or None."""
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -math.inf)
    if settings.bias:
        logits = apply_bias(logits, settings.bias)
    if histories is not None and settings.penalised:
        logits = apply_penalties(logits, settings, histories)
    return logits


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k largest logits of each row [B, V]; the rest becomes -inf (Fan et al. 2018, arXiv 1805.04833)."""
    if not 0 < k < logits.shape[-1]:
        return logits
    values, ids = logits.topk(k)
    return torch.full_like(logits, -math.inf).scatter(1, ids, values)


def keep_min_p(logits: Tensor, share: float) -> Tensor:
    """Keep tokens at least `share` as probable as the best (Nguyen et al. 2024, arXiv 2407.01082)."""
    if share <= 0:
        return logits
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(share), -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set whose probability reaches p (Holtzman et al. 2019, arXiv 1904.09751, eq. 2); full sort."""
    if p >= 1:
        return logits
    values, ids = logits.sort(dim=-1, descending=True, stable=True)
    chance = values.double().softmax(-1)
    dropped = chance.cumsum(-1) - chance >= p
    dropped[:, 0] = False
    return torch.empty_like(logits).scatter(1, ids, values.masked_fill(dropped, -math.inf))


def stages(logits: Tensor, settings: Settings, histories: list[History] | None,
           allowed: Tensor | None) -> Iterator[tuple[str, Tensor]]:
    """Yield name and logits [B, V] after each control that is set, in the order of the module; exact and slow."""
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -math.inf)
        yield "format", logits
    if settings.bias:
        logits = apply_bias(logits, settings.bias)
        yield "logit_bias", logits
    if histories is not None and settings.penalised:
        logits = apply_penalties(logits, settings, histories)
        yield "penalties", logits
    if settings.temperature == 0:
        yield "temperature", keep_top_k(logits, 1)
        return
    if settings.temperature != 1:
        logits = logits / settings.temperature
        yield "temperature", logits
    if settings.top_k:
        logits = keep_top_k(logits, settings.top_k)
        yield "top_k", logits
    if settings.min_p:
        logits = keep_min_p(logits, settings.min_p)
        yield "min_p", logits
    if settings.top_p < 1:
        yield "top_p", keep_top_p(logits, settings.top_p)


def nothing_left() -> ControlError:
    """Return the error of a sequence that may not go on with any token."""
    return ControlError("the controls together forbid every token",
                        fix="check logit_bias against the format: one forbids what the other needs")


def draw(logits: Tensor, settings: Settings, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Take one token a row.

    Args:
        logits: fp32 [B, V] after `adjust`, each row with at least one token left.
        settings: temperature and filters.
        uniforms: fp64 [B] in [0, 1), one a row; not looked at when the temperature is 0.

    Returns:
        tokens int64 [B], and fp32 [B] the probability of each after all controls.
    """
    if settings.temperature == 0:
        return logits.argmax(-1), torch.ones(logits.shape[0])
    scaled = logits / settings.temperature if settings.temperature != 1 else logits
    if settings.top_k or settings.top_p < 1:
        size = min(settings.top_k or _CANDIDATES[0], logits.shape[-1])
        return _draw_sorted(scaled, settings, uniforms, size)
    chance = keep_min_p(scaled, settings.min_p).softmax(-1)
    sums = chance.double().cumsum(-1)
    tokens = torch.searchsorted(sums, (uniforms * sums[:, -1]).unsqueeze(1), right=True)
    tokens = tokens.clamp_(max=logits.shape[-1] - 1)
    return tokens.squeeze(1), (chance.gather(1, tokens).double() / sums[:, -1:]).float().squeeze(1)


def _draw_sorted(logits: Tensor, settings: Settings, uniforms: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Draw among the `size` most probable tokens; rows whose top_p reaches further get more, in the end all."""
    values, ids = logits.topk(size)
    if settings.top_k:
        chance = keep_min_p(values, settings.min_p).double().softmax(-1)
    else:
        logits, values = keep_min_p(logits, settings.min_p), keep_min_p(values, settings.min_p)
        chance = (values - logits.logsumexp(-1, keepdim=True)).double().exp()
    sums = chance.cumsum(-1)
    kept = (sums - chance < settings.top_p) & (chance > 0)
    kept[:, 0] = True
    last = kept.sum(-1, keepdim=True) - 1
    mass = sums.gather(1, last)
    place = torch.searchsorted(sums, uniforms.unsqueeze(1) * mass, right=True).minimum(last)
    tokens, probability = ids.gather(1, place), chance.gather(1, place) / mass
    if not settings.top_k and settings.top_p < 1 and size < logits.shape[-1]:
        wide = (sums[:, -1] < settings.top_p).nonzero().flatten()
        if wide.numel():
            more = min([more for more in _CANDIDATES if more > size] or [logits.shape[-1]])
            more = min(more, logits.shape[-1])
            tokens[wide, 0], chances = _draw_sorted(logits[wide], settings, uniforms[wide], more)
            probability[wide, 0] = chances.double()
    return tokens.squeeze(1), probability.float().squeeze(1)
