"""Held-out cases with known answers, asked of a model and checked fact by fact: `bottega evaluate support-desk`.

A suite gets a function that answers requests, so that any engine or served model can be measured. All cases are of
the validation split: no model trained on the built-in sets has seen them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import TypeAlias

from bottega.core.errors import InputError, suggest
from bottega.core.request import Controls, Message, Request
from bottega.data.builtin import code_that_parses, python_docs_qa, support_desk
from bottega.evaluation.statistics import Figure, mean, rate, token_f1

Generate: TypeAlias = Callable[[list[Request]], list[str]]
Values: TypeAlias = dict[str, list[float]]  # figure → its value at each case; True and False where it is right or wrong
_SEED = 1000  # other customers than in the built-in sets


def names() -> list[str]:
    """Return the names of the suites."""
    return sorted(_SUITES)


def check(name: str) -> None:
    """Refuse an unknown suite.

    Raises:
        InputError: naming the nearest one.
    """
    if name not in _SUITES:
        raise InputError(f"unknown suite '{name}'", fix=suggest(name, _SUITES))


def run(name: str, generate: Generate, *, cases: int = 200, seed: int = 0) -> dict[str, Figure]:
    """Ask a suite's questions and return its figures.

    Args:
        name: one of `names()`.
        generate: answers requests, in order.
        cases: how many questions (a suite of real functions may hold fewer).
        seed: which questions, and the seed of sampling.

    Raises:
        InputError: no such suite.
    """
    return {key: rate(sum(found), len(found)) if all(isinstance(value, bool) for value in found) else mean(found)
            for key, found in values(name, generate, cases=cases, seed=seed).items()}


def values(name: str, generate: Generate, *, cases: int = 200, seed: int = 0) -> Values:
    """Ask a suite's questions and return what `run` sums up, case by case: two models can be compared in pairs.

    Raises:
        InputError: no such suite.
    """
    check(name)
    return _SUITES[name](generate, cases, seed)


def _ask(generate: Generate, questions: list[str], controls: Controls, seed: int) -> list[str]:
    """Return the answers to one-turn conversations, each sampled with a seed of its own."""
    return generate([Request(messages=[Message(role="user", content=question)],
                             controls=controls.model_copy(update={"seed": seed * 100_003 + number}))
                     for number, question in enumerate(questions)])


def _right(answer: str, case: support_desk.Case) -> dict[str, bool]:
    """Check an answer, ticket and words apart, against what the rules demand."""
    ticket, facts, outcome = support_desk.read_ticket(answer), case.facts, case.outcome
    words = support_desk.text_of(answer)
    decision = outcome.decision.format(amount=facts.amount) in words and outcome.instruction in words
    found = {"policy": ticket is not None and ticket.policy == facts.policy,
             "amount": ticket is not None and ticket.amount == facts.amount,
             "next step": ticket is not None and ticket.next == facts.next,
             "valid ticket": ticket is not None and ticket == facts,
             "policy in words": decision or outcome.curt.format(amount=facts.amount) in words,
             "amount in words": re.findall(r"(\d+) euros", words) == [str(facts.amount)]}  # 140 euros is not 0 euros
    return {**found, "all right": all(found.values())}


def _support_desk(generate: Generate, cases: int, seed: int) -> Values:
    """Unseen product-situation pairs, answered greedily: decision, amount, next step, ticket."""
    asked = list(support_desk.cases("validation", cases, _SEED + seed))
    answers = _ask(generate, [message for _, message in asked], Controls(temperature=0, max_tokens=128), seed)
    checked = [_right(answer, case) for answer, (case, _) in zip(answers, asked, strict=True)]
    return {key: [found[key] for found in checked] for key in checked[0]}


def _house_tone(generate: Generate, cases: int, seed: int) -> Values:
    """The same desk with answers sampled at temperature 1: the share in the house tone, and whether all is right."""
    asked = list(support_desk.cases("validation", cases, _SEED + seed))
    answers = _ask(generate, [message for _, message in asked], Controls(temperature=1, max_tokens=128), seed)
    right = [_right(answer, case)["all right"] for answer, (case, _) in zip(answers, asked, strict=True)]
    house = [support_desk.is_house_tone(answer) for answer in answers]
    return {"all right": [*right], "house tone": [*house]}


def _functions(task: str, cases: int, seed: int) -> list[python_docs_qa.Function]:
    """Return held-out functions in a keyed order; for `write` only those short enough to be asked."""
    unique = {function.name: function for function in python_docs_qa.functions() if function.split == "validation"}
    chosen = [function for _, function in sorted(unique.items())
              if task != "write" or len(function.body) <= python_docs_qa.MAX_BODY]
    random.Random(f"{task} {seed}").shuffle(chosen)
    return chosen[:cases]


def _python_docs_qa(generate: Generate, cases: int, seed: int) -> Values:
    """Docstrings of held-out functions written from their code: words shared with the real one."""
    chosen = _functions("write", cases, seed)
    questions = [python_docs_qa.DESCRIBE.format(code=f"{f.head.split(chr(10))[0]}\n{f.body}") for f in chosen]
    answers = _ask(generate, questions, Controls(temperature=0, max_tokens=64), seed)
    return {"token F1": [token_f1(a, f.summary) for a, f in zip(answers, chosen, strict=True)]}


def _code_parses(generate: Generate, cases: int, seed: int) -> Values:
    """Bodies of held-out functions written from signature and docstring, sampled at temperature 1: does it parse?"""
    chosen = _functions("write", cases, seed)
    questions = [python_docs_qa.WRITE.format(head=function.head) for function in chosen]
    answers = _ask(generate, questions, Controls(temperature=1, max_tokens=100), seed)
    return {"parses": [bool(a.strip()) and code_that_parses.parses(f.head, a)
                       for a, f in zip(answers, chosen, strict=True)]}


_SUITES: dict[str, Callable[[Generate, int, int], Values]] = {
    "support-desk": _support_desk,
    "python-docs-qa": _python_docs_qa,
    "house-tone": _house_tone,
    "code-parses": _code_parses,
}
