"""What GRPO and PPO share: rounds of sampled answers, held-out checks, monitors and stop rules, state to resume from.

An objective of this kind makes its own data with the weights of now, so `batch(step)` is a function of (weights, seed,
step). A round of answers serves `epochs x minibatches` optimiser steps; a checkpoint inside a round holds the round, so
that a resumed run equals an uninterrupted one to the bit (`pytest tests/training/test_rl_resume.py`).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bottega.core.errors import CorruptError
from bottega.core.progress import say
from bottega.data.order import Permutation
from bottega.families.adapters import changing, is_adapted
from bottega.families.base import Batch, Loss, TokenGenerator
from bottega.families.score import token_logprobs
from bottega.objectives import monitors
from bottega.objectives.rewards import Reward, Rewards
from bottega.objectives.rollout import (
    Floats,
    Line,
    Rollouts,
    Round,
    batches,
    columns_of,
    flatten,
    line_of,
    seed_of,
    unflatten,
)
from bottega.objectives.rollout_settings import RolloutSettings
from bottega.objectives.samples import ChatCodec, Chats, Sampler, Scorer, prompts_of

_ROUND, _BEST, _STATE = "round.", "best.", "state"
_ROUNDS_KEPT = 8


class Reinforcement:
    """One policy, its rewards and its rounds; a subclass turns a round into rows and scores them.

    Args:
        generator: the policy.
        reference: a frozen copy of the model it starts from, or None where nothing asks how far it has gone.
        codec: encodes conversations.
        dataset: chats of both splits; the turns before the last answer are prompts.
        sampler: draws answers from `generator`.
        context: longest prompt with answer, in tokens; also the length of packed rows.
        micro_batch: rows a forward pass.
        seed: of prompts and draws.
        settings: see `RolloutSettings`.
        scorer: for the reward `model`.
        extra: rewards of the caller's own.

    Raises:
        DataError: no prompt of a split can be used.
        RecipeError: a reward is unknown.
    """

    kind = ""

    def __init__(self, generator: TokenGenerator, reference: TokenGenerator | None, codec: ChatCodec, dataset: Chats,
                 sampler: Sampler, *, context: int, micro_batch: int, seed: int, settings: RolloutSettings,
                 scorer: Scorer | None = None, extra: Mapping[str, Reward] | None = None) -> None:
        self.generator, self.reference, self.sampler, self.settings = generator, reference, sampler, settings
        self.context, self.micro_batch, self.seed, self.pad = context, micro_batch, seed, codec.pad
        room = {"context": context, "max_tokens": settings.max_tokens}
        self.rollouts = Rollouts(prompts_of(dataset.rows("train"), codec, what="train", **room), sampler,
                                 Rewards(settings.rewards, scorer, extra), count=settings.prompts,
                                 copies=settings.group, max_tokens=settings.max_tokens, seed=seed)
        held_out = prompts_of(dataset.rows("validation"), codec, what="validation", **room)
        count = min(len(held_out), settings.held_out)
        self._held_out = [held_out[number * len(held_out) // count] for number in range(count)]
        check = settings.check
        self._check = Rewards({str(check): settings.rewards.get(str(check), 1.0)}, scorer, extra) if check else None
        self._number, self._lines = -1, list[Line]()  # the round under way
        self._figures: dict[str, float] = {}
        self._recent: deque[dict[str, float]] = deque(maxlen=_ROUNDS_KEPT)
        self._looks: list[dict[str, float]] = []  # the best validation and the latest
        self._best: dict[str, Tensor] = {}
        self._reason = ""

    def prepare(self, made: Round) -> tuple[list[Line], dict[str, float]]:
        """Return the rows of a round with all columns the loss needs, and more figures for the log."""
        raise NotImplementedError

    def policy_loss(self, batch: Batch, player: str) -> Loss:
        """Score one micro-batch of a round."""
        raise NotImplementedError

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Return the generator's players."""
        return self.generator.players()

    def batch(self, step: int) -> list[Batch]:
        """Return the micro-batches of a step; none when no answer of its part tells anything.

        The first step of a round draws its answers.
        """
        number, inner = divmod(step, self.settings.updates)
        if number != self._number:
            self._begin(number)
        epoch, part = divmod(inner, self.settings.minibatches)
        lines = self._lines
        if self.settings.minibatches > 1:
            order = Permutation(len(lines), self.seed, number * self.settings.epochs + epoch)
            lines = [lines[order[place]] for place in range(part, len(lines), self.settings.minibatches)]
        self._figures = self._recent[-1] if inner == 0 and self._recent else {}
        return batches(lines, self.context, self.micro_batch, self.pad) if lines else []

    def _begin(self, number: int) -> None:
        self.generator.eval()
        made = self.rollouts.round(number)
        self._lines, more = self.prepare(made)
        self._number = number
        self._recent.append({**made.figures(), **more})
        self._stop(monitors.reason_to_stop(self.settings.stop, list(self._recent)))

    def reference_columns(self, lines: Sequence[Line]) -> tuple[list[Floats] | None, dict[str, float]]:
        """Return the reference's log-probabilities of lines, and the figure `kl`: nats a token (mean of log p/p_ref).

        None, and no figure, without a reference or without lines.
        """
        if self.reference is None or not lines:
            return None, {}
        model = self.reference
        found = columns_of(lambda batch: token_logprobs(model, batch), lines, self.context, self.micro_batch, self.pad,
                           next(model.parameters()).device)
        apart = sum(float((line.columns["old"] - own).sum()) for line, own in zip(lines, found, strict=True))
        return found, {"kl": apart / sum(line.row.weight for line in lines)}

    @staticmethod
    def lines_of(made: Round) -> list[Line]:
        """Return a line for each sample."""
        return [line_of(sample) for sample in made.samples]

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        """Score a micro-batch of a round, or pass on the figures of a held-out one (see `validation`)."""
        if "owners" in batch:
            return self.policy_loss(batch, player)
        figures = {name: values.sum() for name, values in batch.items()}
        total = len(batch["reward"]) - figures["check"] if "check" in batch else -figures["reward"]
        return Loss(total, torch.tensor(len(batch["reward"])), figures)

    def validation(self) -> Iterator[Batch]:
        """Yield one batch: what greedy answers to the held-out prompts earn, fp32 [prompts] a figure."""
        drawn = self.sampler(self._held_out, copies=1, max_tokens=self.settings.max_tokens, greedy=True,
                             seeds=[seed_of("held-out", self.seed, index) for index in range(len(self._held_out))])
        samples = [group[0] for group in drawn]
        figures = {"reward": self.rollouts.rewards(samples).total,
                   "length": [float(len(sample.tokens)) for sample in samples],
                   "finished": [float(sample.finished) for sample in samples]}
        if self._check is not None:
            figures["check"] = next(iter(self._check(samples).parts.values()))
        yield {name: torch.tensor(values) for name, values in figures.items()}

    def summarise(self, totals: dict[str, float], weight: float) -> dict[str, float]:
        """Return `loss` (1 - check, or the reward's negative), check, reward, length, finished, and their number."""
        means = {name: value / weight for name, value in totals.items()}
        names = [name for name in ("loss", "check", "reward", "length", "finished") if name in means]
        figures: dict[str, float] = {name: means[name] for name in names}
        figures["prompts"] = weight
        self._look(figures)
        return figures

    def _look(self, figures: dict[str, float]) -> None:
        """Compare a validation with the best one, whose weights are kept when there is a rule to stop."""
        if not self._looks or figures["loss"] < self._looks[0]["loss"]:
            self._looks = [figures]
            if self.settings.stop.any:
                self._best = {name: tensor.detach().clone() for name, tensor in self._weights().items()}
        self._looks = [self._looks[0], figures]
        if self.settings.stop.hacking:
            self._stop(monitors.hacking(self._looks))

    def _weights(self) -> dict[str, Tensor]:
        """Return what training changes of the policy, by name: all of it, or its adapter."""
        return changing(self.generator) if is_adapted(self.generator) else self.generator.state_dict()

    def _stop(self, reason: str) -> None:
        if reason and not self._reason:
            self._reason = reason
            say(f"stopping: {reason}; the weights of the best validation are kept")

    @property
    def settled(self) -> bool:
        """Whether a stop rule ended the run."""
        return bool(self._reason)

    def finish(self) -> dict[str, float]:
        """Put the weights of the best validation back after a stop, and return its figures; else do nothing."""
        if not self._reason or not self._best:
            return {}
        with torch.no_grad():
            for name, tensor in self._weights().items():
                tensor.copy_(self._best[name])
        return self._looks[0]

    def figures(self) -> dict[str, float]:
        """Return the figures of the round that began with the latest step, empty within a round."""
        return self._figures

    def warnings(self, history: Sequence[dict[str, Any]]) -> list[str]:
        """Return advice on a run that goes wrong; see `monitors.advice`."""
        return monitors.advice(history)

    def tokens(self, batch: Batch) -> int:
        """Return how many tokens (padding included) a micro-batch holds."""
        return batch["tokens"].numel()

    def facts(self) -> dict[str, Any]:
        """Return the JSON state of the objective; a subclass adds its own."""
        return {"number": self._number, "recent": list(self._recent), "looks": self._looks, "reason": self._reason}

    def restore_facts(self, facts: dict[str, Any]) -> None:
        """Take back what `facts` gave."""
        self._number, self._looks, self._reason = facts["number"], facts["looks"], facts["reason"]
        self._recent = deque(facts["recent"], maxlen=_ROUNDS_KEPT)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state besides the generator's weights, for a checkpoint: the round under way among it."""
        state = torch.tensor(list(json.dumps(self.facts()).encode()), dtype=torch.uint8)
        return {_STATE: state, **{_BEST + name: tensor for name, tensor in self._best.items()},
                **{_ROUND + name: tensor for name, tensor in flatten(self._lines).items()}}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave.

        Raises:
            CorruptError: the checkpoint holds no such state.
        """
        if _STATE not in tensors:
            raise CorruptError("the checkpoint holds no state of a reinforcement-learning run",
                               fix="train again without --resume")
        self.restore_facts(json.loads(bytes(tensors[_STATE].tolist())))
        self._best = {name[len(_BEST):]: tensor for name, tensor in tensors.items() if name.startswith(_BEST)}
        self._lines = unflatten({name[len(_ROUND):]: tensor for name, tensor in tensors.items()
                                 if name.startswith(_ROUND)})
