"""The whole packed losses of GRPO and PPO beside slow ones: a sequence at a time, in fp64, loops as in the papers."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from bottega.codecs.text import TextCodec
from bottega.data.order import Permutation
from bottega.families.base import TokenGenerator
from bottega.objectives.rollout import Round
from bottega.objectives.samples import Sample
from tests.objectives.test_chat import codec  # noqa: F401
from tests.objectives.test_grpo import objective_of, talks  # noqa: F401

CLOSE = 1e-5
ROUND = {"rewards": {"length": {"weight": -1.0, "target": 4}, "format": {"pattern": "5.*5"}}, "minibatches": 1,
         "max_tokens": 37}
Gradients = dict[str, Tensor]


@dataclass
class Answer:
    """One sampled answer with what the papers' formulas need of it, a number a token."""

    prompt: list[int]
    tokens: list[int]
    old: list[float]  # log-probabilities when it was drawn
    reference: list[float]
    reward: float
    gain: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    wanted: list[float] = field(default_factory=list)


def in_fp64(model: Any) -> Any:
    return copy.deepcopy(model).double().eval()


def said(model: TokenGenerator, answer: Answer) -> Tensor:
    """Return the log-probability of each token of an answer, alone in its row, from plain logits."""
    ids = [*answer.prompt, *answer.tokens]
    logits = model(torch.tensor([ids[:-1]]))[0].double()
    return torch.stack([logits[place].log_softmax(-1)[ids[place + 1]]
                        for place in range(len(answer.prompt) - 1, len(ids) - 1)])


def worth(critic: Any, policy: TokenGenerator, answer: Answer) -> Tensor:
    """Return the value of the state before each token of an answer, alone in its row."""
    ids = [*answer.prompt, *answer.tokens]
    hidden = (policy if critic.trunk is None else critic.trunk).hidden(torch.tensor([ids[:-1]]))[0]
    return torch.stack([hidden[place] @ critic.head.weight[0] + critic.head.bias[0]
                        for place in range(len(answer.prompt) - 1, len(ids) - 1)])


def reward_of(sample: Sample) -> float:
    """Return what ROUND's rewards give: 1 for two fives in a line, less the share of tokens beyond four."""
    fives = max(line.count("5") for line in sample.text.split("\n"))
    return float(fives >= 2) - max(0.0, len(sample.tokens) / 4 - 1)


def answers_of(made: Round, reference: TokenGenerator | None) -> list[Answer]:
    found = []
    for sample in made.samples:
        answer = Answer(sample.prompt.tokens, sample.tokens, sample.logprobs, [], reward_of(sample))
        if reference is not None:
            with torch.no_grad():
                answer.reference = said(reference, answer).tolist()
        found.append(answer)
    return found


def parts(answers: list[Answer], objective: Any) -> Iterator[list[Answer]]:
    """Yield the answers of each optimiser step of a round: a new order each epoch, dealt out in turn."""
    settings = objective.settings
    for epoch in range(settings.epochs):
        order = list(range(len(answers)))
        if settings.minibatches > 1:
            mixed = Permutation(len(answers), objective.seed, epoch)
            order = [mixed[place] for place in order]
        for part in range(settings.minibatches):
            yield [answers[number] for number in order[part::settings.minibatches]]


def group_advantages(answers: list[Answer], size: int, scale: bool) -> list[Answer]:
    """Give each answer its advantage over its group; leave out groups in which all earned the same (DAPO §3.2)."""
    kept = []
    for first in range(0, len(answers), size):
        group = answers[first:first + size]
        mean = sum(answer.reward for answer in group) / size
        deviation = math.sqrt(sum((answer.reward - mean) ** 2 for answer in group) / size)
        if deviation == 0:
            continue
        for answer in group:
            answer.gain = [(answer.reward - mean) / (deviation if scale else 1.0)] * len(answer.tokens)
        kept += group
    return kept


def slow_grpo(policy: TokenGenerator, answers: list[Answer], settings: Any) -> Tensor:
    """Return the loss of DeepSeekMath's equation 3, or with the means of DAPO (§3.3) and Dr. GRPO (§3.2)."""
    sums, lengths = [], []
    for answer in answers:
        total = torch.zeros((), dtype=torch.float64)
        for token, log in enumerate(said(policy, answer)):
            ratio, gain = torch.exp(log - answer.old[token]), answer.gain[token]
            kept = min(max(float(ratio.detach()), 1 - settings.clip_low), 1 + settings.clip_high)
            inside = kept == float(ratio.detach())
            clipped = ratio * gain if inside else torch.tensor(kept * gain, dtype=torch.float64)
            surrogate = clipped if float(clipped.detach()) < float((ratio * gain).detach()) else ratio * gain
            loss = -surrogate
            if settings.beta:
                apart = answer.reference[token] - log
                loss = loss + settings.beta * (torch.exp(apart) - apart - 1)
            total = total + loss
        sums.append(total)
        lengths.append(len(answer.tokens))
    if settings.mean == "token":
        return sum(sums, torch.zeros(())) / sum(lengths)
    if settings.mean == "constant":
        return sum((total / settings.max_tokens for total in sums), torch.zeros(())) / len(answers)
    return sum((total / length for total, length in zip(sums, lengths, strict=True)), torch.zeros(())) / len(answers)


def estimate_advantages(answers: list[Answer], objective: Any, policy: TokenGenerator, critic: Any) -> None:
    """Give each answer values, returns and whitened advantages: sums of GAE's equation 16 by their definition."""
    settings = objective.settings
    for answer in answers:
        with torch.no_grad():
            answer.value = worth(critic, policy, answer).tolist()
        last = len(answer.tokens) - 1
        earned = [answer.reward if place == last else 0.0 for place in range(last + 1)]
        if settings.kl:
            earned = [reward - settings.kl * (answer.old[place] - answer.reference[place])
                      for place, reward in enumerate(earned)]
        ahead = [*answer.value[1:], 0.0]
        errors = [earned[place] + settings.discount * ahead[place] - answer.value[place] for place in range(last + 1)]
        answer.gain = [sum((settings.discount * settings.trace) ** (later - place) * errors[later]
                           for later in range(place, last + 1)) for place in range(last + 1)]
        answer.wanted = [gain + value for gain, value in zip(answer.gain, answer.value, strict=True)]
    every = [gain for answer in answers for gain in answer.gain]
    mean = sum(every) / len(every)
    deviation = math.sqrt(sum((gain - mean) ** 2 for gain in every) / len(every))
    for answer in answers:
        answer.gain = [(gain - mean) / deviation for gain in answer.gain]


def slow_ppo(policy: TokenGenerator, answers: list[Answer], settings: Any) -> Tensor:
    """Return equation 7 of PPO as a mean over tokens."""
    terms = []
    for answer in answers:
        for token, log in enumerate(said(policy, answer)):
            ratio, gain = torch.exp(log - answer.old[token]), answer.gain[token]
            clipped = torch.clamp(ratio, 1 - settings.clip, 1 + settings.clip)
            terms.append(-torch.min(ratio * gain, clipped * gain))
    return torch.stack(terms).mean()


def slow_value(critic: Any, policy: TokenGenerator, answers: list[Answer], clip: float) -> Tensor:
    """Return half the squared error of values, the worse of the value and the value held near its old one."""
    terms = []
    for answer in answers:
        for token, value in enumerate(worth(critic, policy, answer)):
            old, wanted = answer.value[token], answer.wanted[token]
            moved = max(-clip, min(clip, float(value.detach()) - old))
            near = value if moved == float(value.detach()) - old else torch.tensor(old + moved, dtype=torch.float64)
            errors = [(value - wanted) ** 2, (near - wanted) ** 2]
            terms.append(max(errors, key=lambda error: float(error.detach())) / 2)
    return torch.stack(terms).mean()


def gradients_of(loss: Tensor, *models: torch.nn.Module) -> list[Gradients]:
    for model in models:
        model.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    return [{name: parameter.grad.double() for name, parameter in model.named_parameters()
             if parameter.grad is not None} for model in models]


def packed(objective: Any, step: int, player: str) -> Tensor:
    """Return the objective's mean loss over the packed micro-batches of a step."""
    found = [objective.loss(batch, player) for batch in objective.batch(step)]
    weight = sum(float(part.weight) for part in found)
    return sum((part.total for part in found), torch.zeros(())) / weight


def check(found: Tensor, wanted: Tensor, ours: list[Gradients], theirs: list[Gradients], scale: float = 0.0) -> None:
    """Losses and whole gradients agree to `CLOSE`; a loss near zero is held to `scale`, the size of its terms."""
    found, wanted = found.detach(), wanted.detach()
    assert abs(float(found) - float(wanted)) <= CLOSE * max(abs(float(wanted)), scale)
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        apart = math.sqrt(sum(float((one[name] - other[name]).square().sum()) for name in one))
        size = math.sqrt(sum(float(tensor.square().sum()) for tensor in other.values()))
        assert size > 0
        assert apart <= CLOSE * size


def move(model: torch.nn.Module, gradients: Gradients, rate: float) -> None:
    """Take a plain step of a fixed length, so that the next losses are of another model than the one that drew."""
    size = math.sqrt(sum(float(tensor.square().sum()) for tensor in gradients.values()))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in gradients:
                parameter.sub_(gradients[name].float(), alpha=rate / size)


def away(model: TokenGenerator) -> None:
    """Move a model a little, so that it is no longer its own reference."""
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=chance) * 0.01)


def shapes(made: Round, objective: Any) -> None:
    """The round has what could go wrong: answers of several lengths, some cut off, several in a packed row."""
    assert len({len(sample.tokens) for sample in made.samples}) > 3
    assert 0 < sum(sample.finished for sample in made.samples) < len(made.samples)
    rows = sum(len(batch["tokens"]) for batch in objective.batch(0))
    assert rows < len(objective._lines) / objective.settings.minibatches
    assert len(objective.batch(0)) > 1


@pytest.mark.parametrize("more", [
    {"beta": 0.0}, {"beta": 0.1, "epochs": 3}, {"beta": 0.04, "clip_high": 0.28, "minibatches": 2, "epochs": 2},
    {"beta": 0.1, "mean": "token", "clip_high": 0.28, "epochs": 3, "scale": False},
    {"beta": 0.0, "mean": "constant", "scale": False, "minibatches": 3, "epochs": 2},
], ids=["plain", "beta-epochs", "clip-higher-minibatches", "dapo", "dr-grpo"])
def test_grpo_equals_the_papers_formula(more: dict[str, Any], talks: TokenGenerator, codec: TextCodec) -> None:  # noqa: F811
    objective = objective_of("grpo", talks, codec, **{**ROUND, **more})
    objective.micro_batch = 2
    away(objective.generator)
    made, settings = objective.rollouts.round(0), objective.settings
    shapes(made, objective)
    reference = None if objective.reference is None else in_fp64(objective.reference)
    answers = group_advantages(answers_of(made, reference), settings.group, settings.scale)
    assert answers
    clipped = 0.0
    for step, part in enumerate(parts(answers, objective)):
        slow = in_fp64(objective.generator)
        wanted = slow_grpo(slow, part, settings)
        theirs = gradients_of(wanted, slow)
        found = packed(objective, step, "model")
        ours = gradients_of(found, objective.generator)
        gains = [abs(answer.gain[0]) for answer in part]
        check(found, wanted, ours, theirs, scale=sum(gains) / len(gains))
        clipped = max(clipped, max(float(objective.loss(batch).metrics["clipped"]) for batch in objective.batch(step)))
        move(objective.generator, ours[0], 0.5)
    assert clipped > 0 or settings.epochs * settings.minibatches == 1  # old probabilities were stale enough to matter


@pytest.mark.parametrize("more", [
    {"kl": 0.0, "epochs": 2}, {"kl": 0.1, "minibatches": 2, "epochs": 2, "discount": 0.98, "trace": 0.8},
    {"kl": 0.1, "clip": 0.1, "epochs": 3}, {"critic": "shared", "kl": 0.05, "epochs": 3, "value_weight": 0.5},
], ids=["plain", "minibatches-discount", "narrow-clip", "shared-critic"])
def test_ppo_equals_the_papers_formula(more: dict[str, Any], talks: TokenGenerator, codec: TextCodec) -> None:  # noqa: F811
    objective = objective_of("ppo", talks, codec, **{**ROUND, **more})
    objective.micro_batch = 2
    away(objective.generator)
    chance = torch.Generator().manual_seed(2)
    with torch.no_grad():  # at the start every value is 0, which would hide a mistake
        objective.critic.head.weight.copy_(torch.randn(objective.critic.head.weight.shape, generator=chance) * 0.2)
    made, settings, own = objective.rollouts.round(0), objective.settings, objective.critic.trunk is not None
    shapes(made, objective)
    reference = None if objective.reference is None else in_fp64(objective.reference)
    answers = answers_of(made, reference)
    estimate_advantages(answers, objective, in_fp64(objective.generator), in_fp64(objective.critic))
    clipped = 0.0
    held = 0
    for step, part in enumerate(parts(answers, objective)):
        slow, critic = in_fp64(objective.generator), in_fp64(objective.critic)
        value, wanted = slow_value(critic, slow, part, settings.clip), slow_ppo(slow, part, settings)
        held += sum(abs(float(now) - old) > settings.clip for answer in part
                    for now, old in zip(worth(critic, slow, answer).detach(), answer.value, strict=True))
        if own:
            wanted_value = gradients_of(value, critic)
            found_value = packed(objective, step, "value")
            moved_value = gradients_of(found_value, objective.critic)
            check(found_value, value, moved_value, wanted_value)
            models, ours_of = [slow], [objective.generator]
        else:
            wanted = wanted + settings.value_weight * value
            models, ours_of = [slow, critic], [objective.generator, objective.critic]
        theirs = gradients_of(wanted, *models)
        found = packed(objective, step, "model")
        ours = gradients_of(found, *ours_of)
        check(found, wanted, ours, theirs, scale=1.0)  # whitened advantages: terms are about 1, their mean about 0
        clipped = max(clipped, max(float(objective.loss(batch).metrics["clipped"]) for batch in objective.batch(step)))
        move(objective.generator, ours[0], 0.5)
        move(objective.critic, moved_value[0] if own else ours[1], 1.0)
    assert clipped > 0
    assert held > 0
