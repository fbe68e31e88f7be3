"""Judges by their specification, made ready before anything is asked; `bottega compare --judge SPEC` looks here.

What is wrong with a judge is said at once, not after hours of answers. Whom a judge is, and how it judges: `judges`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from bottega.core.bundle import META, find_bundle
from bottega.core.errors import InputError
from bottega.core.files import digest_json, read_json
from bottega.core.request import Controls, Format, Message, Request
from bottega.data.questions import Question
from bottega.training.interrupt import stop_requests
from bottega.workshop import judges, registry, settings
from bottega.workshop.job import Order
from bottega.workshop.judges import CHECKS, Ask, Duel, Ruling
from bottega.workshop.ledger import Ledger
from bottega.workshop.models import Served
from bottega.workshop.together import in_thread
from bottega.workshop.workshop import Workshop

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]
Judge: TypeAlias = Callable[[list[Duel], Path], Ruling]  # pairs, and the folder where verdicts are kept


def serve(workshop: Workshop, name: str) -> Served:
    """Serve a model by its alias, its name or its folder.

    Raises:
        InputError: there is none, it makes no texts, or another of this name is served already.
    """
    alias = registry.aliases(workshop.store).get(name)
    path = find_bundle(alias.model if alias else name, workshop.home / "models")
    known = {served.id: served for served in workshop.models.served()}
    found = workshop.models.add(path, alias=alias.name if alias else None)
    if found.medium != "text":
        raise InputError(f"'{name}' makes no texts", fix="compare two models of texts")
    if found.id in known and known[found.id].digest != found.digest:
        raise InputError(f"two different models are called '{found.id}'", fix="rename one of the folders")
    return found


def ready(workshop: Workshop, spec: str, items: Sequence[Question], run: Run) -> Judge:
    """Return a judge: a check, a reward model, a model of this workshop, or one at an address.

    Args:
        workshop: that serves the judge, where it is a model of ours.
        spec: see `bottega compare --judge`.
        items: the questions that the pairs will be about.
        run: runs a coroutine to its end in the workshop's event loop.

    Raises:
        InputError: there is no such judge, or it cannot judge these questions.
    """
    if spec.partition(":")[0] in CHECKS:
        judges.by_check(spec, [Duel(one, "", "") for one in items])  # refuses what it will refuse
        return lambda duels, _: judges.by_check(spec, duels)
    if spec.startswith(("http://", "https://")):
        judge = judges.endpoint(spec)

        async def over_http(messages: list[Message]) -> str:
            turns = [{"role": turn.role, "content": turn.content} for turn in messages]
            return await in_thread(lambda: judge.answer(turns, temperature=0, max_tokens=8, seed=0))

        return _asked(workshop, spec, digest_json(spec), over_http, run)
    alias = registry.aliases(workshop.store).get(spec)
    path = find_bundle(alias.model if alias else spec, workshop.home / "models")
    if read_json(path / META).get("objective") == "reward":
        from bottega.objectives.reward import reward_scorer

        return lambda duels, _: judges.by_reward(spec, reward_scorer(path), duels)
    served = serve(workshop, spec)
    if not served.answers:
        raise InputError(f"'{spec}' continues text and answers nobody", where="--judge",
                         fix="name a reward model, or one made with 'objective: {kind: sft}' or dpo")
    controls = Controls(temperature=0, n=1, max_tokens=8, seed=0, format=Format(regex=judges.REPLY))

    async def of_ours(messages: list[Message]) -> str:
        made = await workshop.commission.make(Order(served.id, Request(messages=messages, controls=controls), "judge"))
        return made.result.outputs[0].text

    return _asked(workshop, spec, served.digest, of_ours, run)


def _asked(workshop: Workshop, spec: str, digest: str, ask: Ask, run: Run) -> Judge:
    """Return a judge that is a model: its verdicts are kept by its digest, so that a stop loses none."""
    def judge(duels: list[Duel], folder: Path) -> Ruling:
        ledger, secret = Ledger(folder / f"verdicts-{digest[:16]}.jsonl"), settings.secret(workshop.store)
        with stop_requests() as stopping:
            found: Ruling = run(judges.by_model(spec, ask, duels, ledger, secret, stopping))
        return found

    return judge
