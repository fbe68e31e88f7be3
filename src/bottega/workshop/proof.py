"""Is the challenger better than the champion, and what did it cost? `bottega compare A B` is this file.

    home/comparisons/<id>/answers-….jsonl    finished answers of each model, by what was asked
                          verdicts-….jsonl   verdicts of a model that judges
                          report-….json, report-….html   named by their content: what was approved stays

The same questions, seeds and cases for both. A judge's win rate says what became better; held-out loss, suites of known
skills, latency and contamination say what that is worth. The verdict follows a stated rule (`verdict`); a person
decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bottega.core.errors import InputError
from bottega.core.files import digest_json, sha256_file, write_json
from bottega.core.progress import say, timed
from bottega.core.request import Controls
from bottega.data import contamination, questions
from bottega.data.questions import Question
from bottega.evaluation import compare_report
from bottega.evaluation.paired import LEAST_PROMPTS, SIDES, mcnemar, paired, win_rate
from bottega.evaluation.statistics import rate
from bottega.workshop import improvements, rounds
from bottega.workshop.answering import ask, asked
from bottega.workshop.compare import likelihoods, skills
from bottega.workshop.improvements import Improvement
from bottega.workshop.judges import Duel, Ruling
from bottega.workshop.judging import Run, ready
from bottega.workshop.learnt import learnt_from
from bottega.workshop.models import Served
from bottega.workshop.regress import loss, speed
from bottega.workshop.workshop import Workshop

PEOPLE = "people"
_SHOWN = 12    # questions with both answers in the report


@dataclass(frozen=True)
class Plan:
    """What is to be compared, and how.

    Attributes:
        champion, challenger: the two models.
        sources: where the questions come from (see `data.questions`); empty: held out of the challenger's own data.
        judges: checks (`answer`, `exact`, `json[:FILE]`, `regex:…`), `people`, a model's name, or an endpoint.
        suites: of known skills.
        held_out: texts and right answers whose loss is compared, beside the right answers of the questions.
        cases: questions at most, and cases a suite.
        seed: which questions, and of the sampling.
        controls: laid over each model's own.
    """

    champion: Served
    challenger: Served
    sources: list[str] = field(default_factory=list)
    judges: list[str] = field(default_factory=list)
    suites: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    cases: int = 100
    seed: int = 0
    controls: Controls = field(default_factory=Controls)

    @property
    def models(self) -> tuple[Served, Served]:
        """Both, champion first."""
        return self.champion, self.challenger


def prove(workshop: Workshop, plan: Plan, run: Run, *, actor: str) -> dict[str, Any]:
    """Compare two models and write the report.

    Args:
        workshop: that serves both (`Models.add`).
        plan: what to do.
        run: runs a coroutine to its end in the workshop's event loop.
        actor: who wants it.

    Returns:
        What the report says, JSON-ready: `models`, `questions`, `judges`, `pairs` with what belongs to it, `held_out`,
        `suites`, `speed`, `contamination`, `round`, `verdict`, `sentence`, `report`.

    Raises:
        InputError: nothing to ask, the same model twice, or a judge that does not fit.
        Interrupted: Ctrl-C; finished answers and verdicts are kept.
    """
    if plan.champion.digest == plan.challenger.digest:
        raise InputError(f"{plan.champion.name} and {plan.challenger.name} are the same model", fix="name two")
    sources = plan.sources or _own(workshop, plan)
    items = _drawn(asked([question for source in sources for question in questions.read(source)]), plan)
    held_out = _held_out(plan.held_out)
    chosen = {spec: ready(workshop, spec, items, run) for spec in plan.judges if spec != PEOPLE}
    name = digest_json([[model.digest for model in plan.models], sorted(one.digest for one in items),
                        plan.controls.model_dump(mode="json", exclude_none=True), plan.seed])[:16]
    folder = workshop.home / "comparisons" / name
    answers = ask(workshop, plan.models, items, folder, controls=plan.controls, seed=plan.seed, run=run)
    answered = [(one, pair) for one in items if (pair := answers.pair(one))]
    if not answered:
        raise InputError("neither question got an answer of both models", where=str(answers.reasons),
                         fix="give shorter questions")
    duels = [Duel(one, before.text, after.text) for one, (before, after) in answered]
    found: dict[str, Any] = {
        "models": {side: {"name": model.name, "digest": model.digest, "objective": model.objective}
                   for side, model in zip(SIDES, plan.models, strict=True)},
        "made": datetime.now(UTC).isoformat(timespec="seconds"), "actor": actor, "seed": plan.seed,
        "controls": plan.controls.model_dump(mode="json", exclude_none=True),
        "questions": {"asked": len(items), "answered": len(answered), "sources": sources,
                      "missing": answers.reasons},
        "judges": {}, "speed": speed(items, answers)}
    if PEOPLE in plan.judges:
        found["round"] = rounds.begin(workshop.home, workshop.store, plan.models, [
            {"question": one.digest, "messages": one.messages, "outputs": [before.output, after.output]}
            for one, (before, after) in answered], comparison=name, actor=actor).id
    rulings: dict[str, Ruling] = {}
    for spec, judge in chosen.items():
        with timed(f"judging by {spec}"):
            rulings[spec] = judge(duels, folder)
        found["judges"][spec] = judged(rulings[spec], duels)
    engines = [run(workshop.models.engine(model)).engine for model in plan.models]
    preferences = [{"messages": one.messages, "chosen": one.reference, "rejected": one.rejected}
                   for one in items if one.reference and one.rejected]
    if preferences:
        try:
            found |= likelihoods(engines, preferences)[0]
        except InputError as error:  # none fits a context: the rest of the comparison stands
            say(f"the questions' preferences are left out: {error.problem}")
    known = {one.digest: one for one in (*items, *held_out) if one.reference}
    found["held_out"] = loss(engines, [one.text for one in held_out if one.text], list(known.values()))
    with timed("asking the suites"):
        found["suites"] = skills(engines, plan.suites, cases=plan.cases)
    learnt = learnt_from([model.path for model in plan.models], workshop.home)
    found["contamination"] = {**contamination.find(learnt.questions(), items).plain(), "lost": learnt.lost}
    found["verdict"], found["sentence"] = verdict(found)
    return _written(found, folder, rulings, duels)


def _own(workshop: Workshop, plan: Plan) -> list[str]:
    """Return the datasets whose held-out split nobody of the two learnt from, nearest to the challenger first."""
    found = [str(folder) for folder in learnt_from([plan.challenger.path], workshop.home).folders]
    kept = [folder for folder in found if any(one.messages for one in questions.read(folder))][:1]
    if not kept:
        raise InputError(f"the data of {plan.challenger.name} holds no question that was held out", where="--on",
                         fix="name a file with questions: --on questions.jsonl")
    return kept


def _held_out(sources: Sequence[str]) -> list[Question]:
    """Return what sources hold whose loss can be compared: texts, and questions with what is right.

    Raises:
        InputError: a source holds nothing of it.
    """
    found = []
    for source in sources:
        known = [one for one in questions.read(source) if one.text or one.reference]
        if not known:
            raise InputError(f"'{source[:200]}' holds neither texts nor right answers, so it has no loss",
                             where="--held-out", fix="give texts, or conversations that end with the right answer")
        found += known
    return found


def _drawn(items: list[Question], plan: Plan) -> list[Question]:
    """Return at most `cases` questions; which ones depends on their words and the seed alone."""
    key = str(plan.seed).encode()
    drawn = sorted(items, key=lambda one: hashlib.blake2b(one.digest.encode(), key=key, digest_size=8).digest())
    return drawn[:plan.cases]


# ---- judging --------------------------------------------------------------------------------------------------------


def judged(ruling: Ruling, duels: Sequence[Duel]) -> dict[str, Any]:
    """Return a judge's win rate with its facts; of a check also both sides' shares of right answers, in pairs.

    Raises:
        InputError: it could judge nothing.
    """
    kept = [(outcome, duel.question.digest) for outcome, duel in zip(ruling.outcomes, duels, strict=True)
            if outcome is not None]
    if not kept:
        reasons = "; ".join(f"{reason} ({count})" for reason, count in ruling.missing.items())
        raise InputError(f"the judge '{ruling.judge}' could judge none of the {len(duels)} pairs: {reasons}",
                         where="--judge", fix="choose another judge; where they are too long, ask for shorter answers "
                                              "(--max-tokens)")
    found: dict[str, Any] = {"kind": ruling.kind, "left_out": len(duels) - len(kept), "missing": ruling.missing,
                             **ruling.facts,
                             "win_rate": dict(win_rate([one for one, _ in kept], [owner for _, owner in kept]))}
    if ruling.right:
        before, after = zip(*ruling.right, strict=True)
        found["right"] = {"champion": rate(sum(before), len(before)), "challenger": rate(sum(after), len(after)),
                          "change": paired((before, after), range(len(before)))["change"], **mcnemar(before, after)}
    return found


# ---- the verdict ----------------------------------------------------------------------------------------------------


def verdict(found: dict[str, Any]) -> tuple[str, str]:
    """Return the verdict and its reason.

    worse: a judge's interval lies below one half, or held-out loss or a suite fell by more than chance explains.
    better: the interval of at least one judge lies above one half over at least six prompts, and nothing of that.
    """
    judged_ = {name: judge["win_rate"] for name, judge in found["judges"].items()}
    said = "; ".join(f"{name}: {one['rate']['value']:.0%} [{one['rate']['low']:.0%}, {one['rate']['high']:.0%}] of "
                     f"{one['prompts']} prompts, {one['ties']} ties" for name, one in judged_.items())
    fell = [f"held-out loss of the {name} rose by {one['change']['value']:.3f} bits per byte"
            for name, one in found["held_out"].items() if one["fell"]]
    fell += [f"{suite} ({name}) fell from {one['champion']['value']:.2f} to {one['challenger']['value']:.2f}"
             for suite, figures in found["suites"].items() for name, one in figures.items() if one["fell"]]
    lost = [name for name, one in judged_.items() if one["better"] == "champion"]
    won = [name for name, one in judged_.items() if one["better"] == "challenger"]
    if lost or fell:
        return "worse", f"Worse: {'; '.join([*fell, *([said] if said else [])])}."
    if won:
        return "better", f"Better: {said}; nothing that was measured fell beyond chance."
    few = " (fewer than six prompts show nothing)" if any(one["prompts"] < LEAST_PROMPTS
                                                          for one in judged_.values()) else ""
    return "not shown to be better", f"Not shown to be better: {said or 'no judge has spoken'}{few}."


def _written(found: dict[str, Any], folder: Path, rulings: Mapping[str, Ruling],
             duels: Sequence[Duel]) -> dict[str, Any]:
    """Write the report as JSON and as a page, and return the whole with where the page is."""
    shown = [{"question": duel.question.asked, "champion": duel.champion, "challenger": duel.challenger,
              "reference": duel.question.reference,
              "outcomes": {spec: ruling.outcomes[number] for spec, ruling in rulings.items()}}
             for number, duel in enumerate(duels[:_SHOWN])]
    stem = f"report-{digest_json([found, shown])[:16]}"
    write_json(folder / f"{stem}.json", {**found, "examples": shown})
    page = compare_report.write_page(found, shown, folder / f"{stem}.html")
    return {**found, "report": {"comparison": folder.name, "file": page.name, "path": str(page),
                                "sha256": sha256_file(page)}}


def propose(workshop: Workshop, alias: str, plan: Plan, found: dict[str, Any], actor: str) -> Improvement:
    """Let a person decide on a comparison: `bottega approve` and `bottega reject` take it from here.

    Raises:
        InputError: the champion is not what the alias stands for.
    """
    if not plan.champion.alias or plan.champion.id != alias:
        raise InputError(f"'{alias}' is no alias, so nobody can decide what it stands for", where="--propose",
                         fix="compare an alias with a model: bottega compare assistant MODEL --propose")
    made = improvements.create(workshop.store, alias=alias, champion=plan.champion.name,
                               champion_digest=plan.champion.digest, challenger=plan.challenger.name, actor=actor)
    dataset = {"questions": found["questions"]["answered"], "report": found["report"]["sha256"]}
    return improvements.update(workshop.store, made.id, actor=actor, status="waiting", dataset=dataset,
                               challenger_digest=plan.challenger.digest, comparison=_plain(found))


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """Return a comparison as the pages about improvements read it."""
    together = found["speed"]["together"]
    seconds = {side: 1 / together[side]["tokens_a_second"] if side in together else 0.0 for side in SIDES}
    return {**found, "length": found["speed"]["length"], "seconds_per_token": seconds}

