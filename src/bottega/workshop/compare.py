"""Champion against challenger on what neither learnt from: the last stage of `bottega improve ALIAS`.

The same held-out pairs, prompts, seeds and cases for both, so that differences are paired. The verdict follows a
stated rule (`_verdict`); a person decides.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bottega.core.errors import InputError
from bottega.core.files import canonical_json
from bottega.core.request import Controls, Message, Request
from bottega.evaluation import suites
from bottega.evaluation.statistics import Figure, mean, rate, token_f1
from bottega.generation.engine import Engine

LEAST_PROMPTS = 6  # of fewer, all could go one way by chance more than once in forty
_DRAWS = 2000
_Z = 1.96


def compare(champion: Path, challenger: Path, held_out: Sequence[Mapping[str, Any]],
            suite_names: Sequence[str] = (), *, cases: int = 40) -> dict[str, Any]:
    """Measure two models and say which is better.

    Args:
        champion: folder of the model in use.
        challenger: folder of the one made from it.
        held_out: pairs that nobody learnt from: `messages`, `chosen`, `rejected`.
        suite_names: suites of known skills, so that a loss is seen; unknown ones are passed over.
        cases: of each suite.

    Returns:
        JSON-ready: `choice_accuracy` (chosen likelier than rejected, by mean token log-probability), `margin` (how
        much), `chosen_logprob`, `likeness` (word F1 of a sampled answer with the chosen minus with the rejected one),
        each for both models and with its `change`; `length` and `seconds_per_token` of the sampled answers; `suites`
        with what `fell`; `verdict` (`better`, `not shown to be better`, `worse`) and the `sentence` that explains it.

    Raises:
        InputError: no held-out pair fits the models' context.
    """
    engines = [Engine.open(path) for path in (champion, challenger)]
    used, scores = [], []
    for row in held_out:
        try:
            scores.append([_scores(engine, row) for engine in engines])
            used.append(row)
        except InputError:
            continue  # longer than the context
    if not used:
        raise InputError(f"none of the {len(held_out)} held-out pairs fits the model's context",
                         fix="rate shorter answers, or improve a model with a longer training.context")
    owners = [canonical_json(row["messages"]) for row in used]
    chosen, rejected = np.array(scores).T  # each [models, pairs]
    margins = chosen - rejected
    sampled = [_sample(engine, used, owners) for engine in engines]
    likeness = [[token_f1(answers[owner], row["chosen"]) - token_f1(answers[owner], row["rejected"])
                 for owner, row in zip(owners, used, strict=True)] for answers, _, _ in sampled]
    found: dict[str, Any] = {
        "pairs": len(used), "prompts": len(set(owners)), "left_out": len(held_out) - len(used),
        "choice_accuracy": _sides([rate(int((margin > 0).sum()), len(used)) for margin in margins]),
        "margin": _paired(margins, owners), "chosen_logprob": _paired(chosen, owners),
        "likeness": _paired(likeness, owners),
        "length": _sides([tokens / len(answers) for answers, tokens, _ in sampled]),
        "seconds_per_token": _sides([seconds / max(1, tokens) for _, tokens, seconds in sampled]),
        "suites": {name: _suite(engines, name, cases) for name in suite_names if name in suites.names()},
    }
    verdict, sentence = _verdict(found)
    return {**found, "verdict": verdict, "sentence": sentence}


def _sides(values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(("champion", "challenger"), values, strict=True))


def _messages(row: Mapping[str, Any]) -> list[Message]:
    return [Message.model_validate(turn) for turn in row["messages"]]


def _scores(engine: Engine, row: Mapping[str, Any]) -> list[float]:
    """Return the mean token log-probability of the chosen and of the rejected answer.

    Raises:
        InputError: prompt and answer do not fit the context.
    """
    return [engine.score(_messages(row), row[answer]).score for answer in ("chosen", "rejected")]


def _sample(engine: Engine, rows: Sequence[Mapping[str, Any]],
            owners: Sequence[str]) -> tuple[dict[str, str], int, float]:
    """Answer each prompt once at the model's own controls; return answers by prompt, new tokens and seconds."""
    talks = {owner: _messages(row) for owner, row in zip(owners, rows, strict=True)}
    requests = [Request(messages=talk, controls=Controls(seed=seed, n=1)) for seed, talk in enumerate(talks.values())]
    began = time.perf_counter()
    results = engine.generate_many(requests)
    seconds = time.perf_counter() - began
    texts = [result.outputs[0].text for result in results]
    return (dict(zip(talks, texts, strict=True)), sum(len(result.outputs[0].tokens) for result in results), seconds)


def _paired(values: Sequence[Any], owners: Sequence[str]) -> dict[str, Figure]:
    """Return both means and the mean change; its interval is a bootstrap over prompts (Efron 1979), seeded.

    Pairs about one prompt are not independent: each prompt counts as the mean of its pairs.
    """
    prompts = sorted(set(owners))
    means = [np.array([np.mean([value for value, owner in zip(side, owners, strict=True) if owner == prompt])
                       for prompt in prompts]) for side in values]
    change = means[1] - means[0]
    draws = change[np.random.default_rng(0).integers(0, len(change), (_DRAWS, len(change)))].mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return {"champion": mean(means[0].tolist()), "challenger": mean(means[1].tolist()),
            "change": Figure(value=float(change.mean()), low=float(low), high=float(high), n=len(change))}


def _suite(engines: Sequence[Engine], name: str, cases: int) -> dict[str, Any]:
    """Return a suite's figures side by side; `fell`: by more than the 95 % interval of the difference."""
    before, after = (suites.run(name, lambda requests, engine=engine: [  # type: ignore[misc]
        result.outputs[0].text for result in engine.generate_many(requests)], cases=cases) for engine in engines)
    return {key: {**_sides([old, after[key]]), "fell": _fell(old, after[key])} for key, old in before.items()}


def _fell(old: Figure, new: Figure) -> bool:
    error = math.hypot(old["high"] - old["low"], new["high"] - new["low"]) / (2 * _Z)
    return old["value"] - new["value"] > _Z * error


def _verdict(found: Mapping[str, Any]) -> tuple[str, str]:
    """Return the verdict and its reason.

    worse: the 95 % interval of the margin's change lies below 0, or a suite fell by more than chance explains.
    better: that interval lies above 0 over at least six prompts, and the chosen answers did not become less likely.
    """
    change, likely = found["margin"]["change"], found["chosen_logprob"]["change"]
    said = (f"the preferred answers' lead changed by {change['value']:+.3f} "
            f"[{change['low']:+.3f}, {change['high']:+.3f}] over {change['n']} held-out prompts")
    fell = [f"{suite} ({name}) fell from {figure['champion']['value']:.2f} to {figure['challenger']['value']:.2f}"
            for suite, figures in found["suites"].items() for name, figure in figures.items() if figure["fell"]]
    if change["high"] < 0:
        return "worse", f"Worse: {said}."
    if fell:
        return "worse", f"Worse at what it could do: {'; '.join(fell)}; {said}."
    if change["low"] <= 0:
        return "not shown to be better", f"Not shown to be better: {said}, which may be chance."
    if change["n"] < LEAST_PROMPTS:
        return "not shown to be better", f"Not shown to be better: {said}, and fewer than {LEAST_PROMPTS} show nothing."
    if likely["high"] < 0:
        return "not shown to be better", (f"Not shown to be better: {said}, but the preferred answers themselves "
                                          f"became less likely ({likely['value']:+.3f} a token).")
    return "better", f"Better: {said}, and nothing that was measured fell beyond chance."
