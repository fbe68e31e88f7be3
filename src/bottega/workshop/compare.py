"""Champion against challenger on what neither learnt from: the last stage of `bottega improve ALIAS`.

The same held-out pairs, prompts, seeds and cases for both, so that differences are paired. The verdict follows a
stated rule (`_verdict`); a person decides. `bottega compare` takes the figures of pairs and of suites from here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bottega.core.errors import InputError
from bottega.core.files import canonical_json
from bottega.core.request import Controls, Message, Request
from bottega.evaluation import suites
from bottega.evaluation.paired import LEAST_PROMPTS, SIDES, compared, paired
from bottega.evaluation.statistics import rate, token_f1
from bottega.generation.engine import Engine


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
    found, used, owners = likelihoods(engines, held_out)
    sampled = [_sample(engine, used, owners) for engine in engines]
    likeness = [[token_f1(answers[owner], row["chosen"]) - token_f1(answers[owner], row["rejected"])
                 for owner, row in zip(owners, used, strict=True)] for answers, _, _ in sampled]
    found |= {
        "likeness": paired(likeness, owners),
        "length": _sides([tokens / len(answers) for answers, tokens, _ in sampled]),
        "seconds_per_token": _sides([seconds / max(1, tokens) for _, tokens, seconds in sampled]),
        "suites": skills(engines, suite_names, cases=cases),
    }
    verdict, sentence = _verdict(found)
    return {**found, "verdict": verdict, "sentence": sentence}


def likelihoods(engines: Sequence[Engine], held_out: Sequence[Mapping[str, Any]]) -> tuple[
        dict[str, Any], list[Mapping[str, Any]], list[str]]:
    """Return what both models think of the held-out pairs: how likely the chosen and the rejected answers are.

    Args:
        engines: champion and challenger.
        held_out: `messages`, `chosen`, `rejected`.

    Returns:
        `pairs`, `prompts`, `left_out`, `choice_accuracy`, `margin` and `chosen_logprob` (see `compare`); the pairs that
        fit both contexts; and the prompt of each as canonical JSON.

    Raises:
        InputError: no held-out pair fits the models' context.
    """
    used, scores = list[Mapping[str, Any]](), []
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
    return {"pairs": len(used), "prompts": len(set(owners)), "left_out": len(held_out) - len(used),
            "choice_accuracy": _sides([rate(int((margin > 0).sum()), len(used)) for margin in margins]),
            "margin": paired(margins, owners), "chosen_logprob": paired(chosen, owners)}, used, owners


def skills(engines: Sequence[Engine], names: Sequence[str], *, cases: int) -> dict[str, Any]:
    """Return each suite's figures of both models side by side, case by case compared; unknown suites are passed over.

    `fell`: the challenger is worse beyond chance (see `paired.compared`).
    """
    found: dict[str, Any] = {}
    for name in names:
        if name not in suites.names():
            continue
        before, after = (suites.values(name, lambda requests, engine=engine: [  # type: ignore[misc]
            result.outputs[0].text for result in engine.generate_many(requests)], cases=cases) for engine in engines)
        found[name] = {key: compared(values, after[key]) for key, values in before.items()}
    return found


def _sides(values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(SIDES, values, strict=True))


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


def _verdict(found: Mapping[str, Any]) -> tuple[str, str]:
    """Return the verdict and its reason.

    worse: the 95 % interval of the margin's change lies below 0 over at least six prompts, or a suite fell by more than
    chance explains.
    better: that interval lies above 0 over at least six prompts, and the chosen answers did not become less likely.
    """
    change, likely = found["margin"]["change"], found["chosen_logprob"]["change"]
    said = (f"the preferred answers' lead changed by {change['value']:+.3f} "
            f"[{change['low']:+.3f}, {change['high']:+.3f}] over {change['n']} held-out prompts")
    fell = [f"{suite} ({name}) fell from {figure['champion']['value']:.2f} to {figure['challenger']['value']:.2f}"
            for suite, figures in found["suites"].items() for name, figure in figures.items() if figure["fell"]]
    if change["high"] < 0 and change["n"] >= LEAST_PROMPTS:
        return "worse", f"Worse: {said}."
    if fell:
        return "worse", f"Worse at what it could do: {'; '.join(fell)}; {said}."
    if change["n"] < LEAST_PROMPTS:
        return "not shown to be better", f"Not shown to be better: {said}, and fewer than {LEAST_PROMPTS} show nothing."
    if change["low"] <= 0:
        return "not shown to be better", f"Not shown to be better: {said}, which may be chance."
    if likely["high"] < 0:
        return "not shown to be better", (f"Not shown to be better: {said}, but the preferred answers themselves "
                                          f"became less likely ({likely['value']:+.3f} a token).")
    return "better", f"Better: {said}, and nothing that was measured fell beyond chance."
