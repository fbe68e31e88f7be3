"""The training loop: one function for every family, objective and budget. `bottega train RECIPE` runs it.

Resuming is an equality: data order, dropout and schedule are functions of (seed, step), so that a killed and resumed
run ends with the same weights to the bit as one that was left alone (same machine, steps or tokens budget).
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bottega.core.energy import Cost, CostMeter
from bottega.core.errors import BottegaError, DivergedError, Interrupted, RecipeError
from bottega.core.files import read_json, write_json
from bottega.core.journal import differences
from bottega.core.progress import say
from bottega.core.recipe import TrainingSpec
from bottega.objectives.base import Lively, Objective
from bottega.training import checkpoint
from bottega.training.choices import Choices, choose, optimisers, signature
from bottega.training.compilation import compiled_loss, compiler_cache
from bottega.training.display import ITEMS, Display, duration
from bottega.training.interrupt import stop_requests
from bottega.training.metrics import HISTORY, MetricsLog, read_history
from bottega.training.optim import Optimiser
from bottega.training.peak import Notebook
from bottega.training.schedule import Clock, rate
from bottega.training.step import LossFunction, Outcome, autocast, seed_step, take, to_device

RESOLVED = "resolved.json"
_CHECKPOINT_SECONDS = 60.0
_OBJECTIVE = "objective"  # owner, in a checkpoint, of what is neither model nor optimiser
_DIVERGED = 3.0  # a smoothed loss this many times the first one (plus 1) has left the ground


@dataclass(slots=True)
class TrainResult:
    """A finished run.

    Attributes:
        steps, tokens: work done over all its lives; seconds: wall clock of the loop.
        cost: time and energy of all lives; cost_before: the part spent before this process.
        metrics: the last validation, the figure to watch first.
        history: path of `metrics.jsonl`.
        choices: precision, compile and learning rates that were used.
        tokens_per_second: work over all time, validation and checkpoints included.
    """

    steps: int
    tokens: int
    seconds: float
    cost: Cost
    metrics: dict[str, float]
    history: Path
    cost_before: Cost = field(default_factory=Cost)
    choices: dict[str, Any] = field(default_factory=dict)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of work a second of wall clock."""
        return self.tokens / self.seconds if self.seconds else 0.0


def train(objective: Objective, spec: TrainingSpec, *, run: Path, seed: int, resume: bool = False,
          facts: dict[str, Any] | None = None, sample: Callable[[int], str] | None = None,
          cache: Path | None = None, notes: dict[str, Any] | None = None) -> TrainResult:
    """Train `objective.generator` in place until the budget is spent.

    Args:
        objective: what is minimised; supplies batches, loss and held-out batches.
        spec: budget, optimiser, schedule and the rest.
        run: folder of the run: checkpoints, log, resolved choices.
        seed: of everything random.
        resume: go on from the newest checkpoint that verifies; a finished run returns at once.
        facts: JSON identity of data, codec and recipe; a resume under other facts is refused.
        sample: makes a text to show every `spec.sample_every` of the budget, given the number of steps done.
        notes: JSON to keep in `run/resolved.json` beside the choices.
        cache: folder for measured peaks, timed choices and compiled code; default `run/cache`.

    Returns:
        What was done; the generator holds the final weights, in evaluation mode.

    Raises:
        DivergedError: the loss is not finite or far above its start; the weights are those of the last checkpoint.
        Interrupted: Ctrl-C or SIGTERM; a checkpoint was written.
        RecipeError: resuming under other facts.
        CorruptError: resuming, and no checkpoint verifies.
        ResourceError: the disk is full; earlier checkpoints are intact.
    """
    facts = facts or {}
    generator, folder = objective.generator, run / "checkpoints"
    lively = objective if isinstance(objective, Lively) else None
    device = next(generator.parameters()).device
    found = checkpoint.newest(folder) if resume else None
    if not resume:
        _set_aside(run)
    if found is not None:
        _same_facts(found[1].facts, facts)
        if found[1].finished:
            checkpoint.restore(found[0], generator)
            generator.eval()
            return _result(found[1], run, found[1].cost)
    start, meter = time.perf_counter(), CostMeter()
    notebook = Notebook(cache or run / "cache")
    choices = _choices(objective, spec, run, found[1] if found else None, resume, notebook, seed)
    players = optimisers(objective, spec, (choices.learning_rate, choices.learning_rate_rest), choices.precision)
    state = checkpoint.State(step=0, tokens=0, seconds=0.0, facts=facts, choices=choices.model_dump())
    if found is not None:
        state = found[1]
        kept = checkpoint.restore(found[0], generator)
        _restore_players(players, kept)
        if lively:
            lively.restore(_under(_OBJECTIVE, kept))
        say(f"resumed from {found[0].name}")
    elif resume:
        say("no checkpoint yet: starting from the beginning")

    step, tokens, metrics = state.step, state.tokens, dict(state.metrics)
    seconds_before, cost_before = state.seconds, state.cost
    clock = Clock(spec.budget)
    flops = 3 * generator.flops_per_item(spec.context)
    first_loss, smoothed, pace = math.nan, math.nan, 0.0

    def seconds() -> float:
        return seconds_before + time.perf_counter() - start

    def save(finished: bool = False) -> checkpoint.State:
        if not all(bool(torch.isfinite(p).all()) for p in generator.parameters()):
            _diverged(step, math.nan, folder, generator, choices)  # a bad checkpoint must not push out a good one
        log.sync()
        now = state.model_copy(update={"step": step, "tokens": tokens, "seconds": seconds(), "finished": finished,
                                       "cost": cost_before + meter.read(), "metrics": metrics,
                                       "choices": choices.model_dump()})
        own = {f"{_OBJECTIVE}/{name}": tensor for name, tensor in lively.tensors().items()} if lively else {}
        checkpoint.save(folder, now, generator, {**_player_tensors(players), **own}, spec.keep_checkpoints)
        return now

    with ExitStack() as stack:
        stack.enter_context(compiler_cache(notebook.path.parent))
        loss: LossFunction = objective.loss
        if choices.compiled:
            loss, compiled, reason = compiled_loss(objective, objective.batch(step)[0], choices.precision)
            if compiled:
                notebook.put(True, "compiled", signature(objective, choices.precision))
            choices = choices.model_copy(update={"compiled": compiled,
                                                 "reasons": {**choices.reasons, "compile": reason}})
        _announce(choices, run, notes or {})
        stopping = stack.enter_context(stop_requests())
        log = MetricsLog(run, step)
        stack.callback(log.close)
        items = ITEMS.get(objective.kind, "tokens")
        display = stack.enter_context(Display(run.name, peak=notebook.peak(choices.precision), flops=flops,
                                              items=items))

        def look(final: bool = False) -> dict[str, float]:
            began = time.perf_counter()
            figures = validate(objective, choices.precision, device, None if final else stopping)
            clock.reserve = time.perf_counter() - began
            if figures:
                display.note(f"step {step}: held-out " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
            return figures

        if step == 0:
            metrics = look()
            log.add(0, tokens=0, seconds=round(seconds(), 3), validation=metrics or None)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()  # the estimate is of the steps, not of trying out precisions
        start = last_save = time.perf_counter()  # timing, compiling and the first look are not the budget's
        progress = clock.progress(step, tokens, seconds())
        while progress < 1 and not stopping and not generator.settled and not (lively and lively.settled):
            began = time.perf_counter()
            batches = objective.batch(step)
            work = sum(objective.tokens(batch) for batch in batches)
            during = clock.during(progress, step=step, tokens=tokens, step_tokens=work)
            share = rate(during, spec)
            seed_step(seed, step)
            generator.before_step(during)
            if not generator.training:
                generator.train()
            outcomes: dict[str, Outcome] = {}
            for player, optimiser in players.items():
                outcomes[player] = take(loss, batches, player, optimiser, model=generator, share=share, clip=spec.clip,
                                        precision=choices.precision, device=device)
            outcome = next(iter(outcomes.values()))
            first_loss = outcome.loss if math.isnan(first_loss) else first_loss
            smoothed = outcome.loss if math.isnan(smoothed) else 0.9 * smoothed + 0.1 * outcome.loss
            if not _sane(outcomes, smoothed, first_loss):
                _diverged(step + 1, outcome.loss, folder, generator, choices)
            step, tokens = step + 1, tokens + work
            generator.after_step(step)
            now = work / (time.perf_counter() - began)
            pace = 0.9 * pace + 0.1 * now if pace else now
            before, progress = progress, clock.progress(step, tokens, seconds())

            figures: dict[str, float] = {}
            if progress >= 1 or (not stopping and _crossed(before, progress, spec.validate_every)):
                figures = look(final=progress >= 1)
                metrics = figures or metrics
            seen = {**outcome.metrics, **(lively.figures() if lively else {})}
            others = {name: o.loss for name, o in outcomes.items()} if len(outcomes) > 1 else None
            log.add(step, tokens=tokens, seconds=round(seconds(), 3), loss=outcome.loss,
                    lr=share * choices.learning_rate, grad_norm=outcome.norm, tokens_per_s=round(pace, 1),
                    peak_share=round(display.share(pace), 4),
                    metrics=seen or None, players=others, validation=figures or None)
            history = read_history(run) if figures else []
            for advice in [*generator.warnings(history), *(lively.warnings(history) if lively and history else ())]:
                display.note(f"warning: {advice}")
            display.update(step=step, progress=min(progress, 1.0), loss=outcome.loss, rate=pace, seconds=seconds(),
                           watt_hours=lambda: cost_before.energy_wh_high + meter.read().energy_wh_high)
            if sample and spec.sample_every and progress < 1 and _crossed(before, progress, spec.sample_every):
                display.note(f"step {step}: " + _sample(sample, step, generator))
            due = spec.checkpoint_every and step % spec.checkpoint_every == 0
            if due or (spec.checkpoint_every is None and time.perf_counter() - last_save >= _CHECKPOINT_SECONDS):
                save()
                last_save = time.perf_counter()
                progress = clock.progress(step, tokens, seconds()) if spec.budget.minutes else progress
        generator.eval()
        done = progress >= 1 or generator.settled or bool(lively and lively.settled)
        if lively and done:
            metrics = lively.finish() or metrics
        final = save(finished=done)
    if not final.finished:
        raise Interrupted(f"stopped after step {step}; everything is saved in {folder}",
                          fix="run the same command to go on, 'bottega train' with --resume")
    say(f"{run.name}: {step} steps, {tokens:,} {items} in {duration(final.seconds)}, "
        f"{final.cost.energy_wh_low:.2f}-{final.cost.energy_wh_high:.2f} Wh")
    return _result(final, run, cost_before)


@torch.no_grad()
def validate(objective: Objective, precision: str, device: torch.device,
             stopping: list[int] | None = None) -> dict[str, float]:
    """Return the objective's held-out metrics; empty when stopped in the middle or when nothing is held out."""
    generator = objective.generator
    generator.eval()
    totals: dict[str, float] = {"loss": 0.0}
    weight = 0.0
    for batch in objective.validation():
        if stopping:
            return {}
        with autocast(precision, device):
            part = objective.loss(to_device(batch, device), "model")
        totals["loss"] += float(part.total)
        weight += float(part.weight)
        for name, value in part.metrics.items():
            totals[name] = totals.get(name, 0.0) + float(value)
    return objective.summarise(totals, weight) if weight else {}


def _result(state: checkpoint.State, run: Path, cost_before: Cost) -> TrainResult:
    return TrainResult(steps=state.step, tokens=state.tokens, seconds=state.seconds, cost=state.cost,
                       metrics=dict(state.metrics), history=run / HISTORY, cost_before=cost_before,
                       choices=dict(state.choices))


def _choices(objective: Objective, spec: TrainingSpec, run: Path, state: checkpoint.State | None, resume: bool,
             notebook: Notebook, seed: int) -> Choices:
    """Return the recorded choices of a resumed run (from its checkpoint or from before the first), or new ones."""
    if state is not None:
        return Choices.model_validate(state.choices)
    if resume and (run / RESOLVED).is_file():
        recorded = read_json(run / RESOLVED).get("choices")
        if recorded:
            return Choices.model_validate(recorded)
    return choose(objective, spec, notebook, seed)


def _announce(choices: Choices, run: Path, notes: dict[str, Any]) -> None:
    """Write the choices into `resolved.json`, keeping what others wrote there, and print them."""
    path = run / RESOLVED
    known = read_json(path) if path.is_file() else {}
    write_json(path, {**known, **notes, "choices": choices.model_dump()})
    say(f"precision {choices.precision} ({choices.reasons['precision']}); "
        f"{'compiled' if choices.compiled else 'eager'} ({choices.reasons['compile']})")
    say(f"learning rates: {choices.learning_rate:.4g} matrices, {choices.learning_rate_rest:.4g} rest "
        f"({choices.reasons['learning rates']})")


def _same_facts(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse to go on under another identity, saying what changed."""
    if changed := differences(old, new):
        raise RecipeError(f"this is not the run that was stopped: {changed}", where="--resume",
                          fix="undo the change, or train again without --resume")


def _set_aside(run: Path) -> None:
    """Keep one earlier run of this name as NAME.previous instead of overwriting it."""
    if (run / "checkpoints").is_dir() or (run / HISTORY).is_file():
        previous = run.with_name(f"{run.name}.previous")
        shutil.rmtree(previous, ignore_errors=True)
        run.rename(previous)
    run.mkdir(parents=True, exist_ok=True)


def _player_tensors(players: dict[str, Optimiser]) -> dict[str, torch.Tensor]:
    return {f"{player}/{name}": tensor for player, optimiser in players.items()
            for name, tensor in optimiser.tensors().items()}


def _restore_players(players: dict[str, Optimiser], tensors: dict[str, torch.Tensor]) -> None:
    for player, optimiser in players.items():
        optimiser.restore(_under(player, tensors))


def _under(owner: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of one owner, by their own names."""
    prefix = f"{owner}/"
    return {name[len(prefix):]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _crossed(before: float, after: float, every: float) -> bool:
    """Return whether a multiple of `every` lies in (before, after]."""
    return math.floor(after / every + 1e-9) > math.floor(before / every + 1e-9)


def _sane(outcomes: dict[str, Outcome], smoothed: float, first: float) -> bool:
    finite = all(math.isfinite(o.loss) and math.isfinite(o.norm) for o in outcomes.values())
    return finite and smoothed <= _DIVERGED * (abs(first) + 1)


def _diverged(step: int, loss: float, folder: Path, generator: torch.nn.Module, choices: Choices) -> None:
    """Put the last good weights back and say what happened at `step` (counted from 1)."""
    found = checkpoint.newest(folder)
    if found is not None:
        checkpoint.restore(found[0], generator)
    kept = f"last good checkpoint: {found[0]}" if found else "no checkpoint was written yet"
    raise DivergedError(f"training diverged at step {step}: the loss is {loss:.4g}; {kept}",
                        where=str(folder.parent),
                        fix="lower the learning rate, for example "
                            f"training.learning_rate={choices.learning_rate / 3:.2g}")


def _sample(sample: Callable[[int], str], step: int, generator: torch.nn.Module) -> str:
    """Return a sample text; a sample that fails must not end the training."""
    generator.eval()
    try:
        return sample(step)
    except BottegaError as error:
        return f"(no sample: {error.problem})"
