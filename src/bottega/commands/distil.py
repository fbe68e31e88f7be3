"""`bottega distil`: let a model answer prompts, and keep its answers, or the best ones, as conversations to tune on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bottega.commands.common import Json, emit, model_path, start

if TYPE_CHECKING:
    from bottega.core.bundle import Bundle
    from bottega.core.errors import DataError
    from bottega.core.journal import Journal
    from bottega.core.lineage import Parent
    from bottega.objectives.rejection import Kept
    from bottega.objectives.rewards import Rewards


def distil(
    prompts: Annotated[Path, typer.Argument(help="JSONL with 'prompt' or 'messages' on each line.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSONL to write: a conversation a line.")],
    teacher: Annotated[str | None, typer.Option(help="Model that answers: of this workshop, or by its name at --url. "
                                                     "Default: the newest.")] = None,
    url: Annotated[str | None, typer.Option(help="OpenAI-compatible address of a served model, up to /v1.")] = None,
    key_variable: Annotated[str, typer.Option(help="Environment variable that holds the key.")] = "OPENAI_API_KEY",
    best_of: Annotated[int, typer.Option(min=1, max=64, help="Answers to draw to a prompt; --reward chooses one.")] = 1,
    reward: Annotated[list[str] | None, typer.Option(
        help="What makes an answer good, as in a recipe's objective.rewards: answer, exact, json, format, length or "
             "tests, with =WEIGHT or ={settings}, or model=NAME of a reward model. Several are summed.")] = None,
    at_least: Annotated[float | None, typer.Option(help="Keep no answer whose reward is smaller.")] = None,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="Of its answers.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Of the first prompt; each further one takes the next.")] = 0,
    licence: Annotated[str, typer.Option(help="SPDX name of what the teacher's terms allow.")] = "unknown",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run that was stopped ended.")] = False,
    as_json: Json = False,
) -> None:
    """Answer prompts with any model and write conversations to tune on.

    Without --reward that is sequence-level distillation: one answer to each prompt. With --best-of and --reward it is
    rejection sampling: of several answers the best one is kept, or none where --at-least asks for more. A model can so
    learn from the best of its own answers.

    The turns after the last question of a line are left out (rewards compare with the answer that stood there, or with
    'reference'; 'meta' holds what else they ask for); empty answers are too, and how many end at --max-tokens is told.
    FILE.lineage.json beside the output says who answered what, judged by whom. Look at the teacher's terms before you
    train on its answers.

    Answers are kept in OUTPUT.unfinished as they come. After Ctrl-C or a crash the same command with --resume asks only
    what was not answered, and the output is that of a run that was never stopped. Rewards and --at-least may change
    then. The output itself is written whole at the end or not at all, and never over another one.

    Examples:

      bottega distil questions.jsonl --teacher python-assistant-dpo -o answers.jsonl

      bottega distil questions.jsonl --url https://api.example.com/v1 --teacher large-model -o answers.jsonl

      bottega distil sums.jsonl --best-of 8 --reward answer --at-least 1 -o right.jsonl

      bottega distil questions.jsonl --best-of 8 --reward model=my-judge --reward "length={weight: -0.1}" -o best.jsonl

      bottega train recipes/python-assistant.yaml name=student data.sources=[answers.jsonl]
    """
    from bottega.commands.questions import questions
    from bottega.commands.teachers import keep, own, served, told
    from bottega.core.bundle import Bundle
    from bottega.core.energy import Cost, CostMeter
    from bottega.core.errors import InputError
    from bottega.core.files import sha256_file, write_atomic, write_json
    from bottega.core.journal import Journal
    from bottega.core.lineage import Licence, Lineage, Parent
    from bottega.core.progress import say
    from bottega.generation.served import ServedModel

    start(as_json)
    meter, asked = CostMeter(), questions(prompts)
    spec = _rewards(reward, best_of, at_least, temperature, by_url=url is not None)
    judge, rewards = _judges(spec)
    controls: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    licences = [Licence(spdx=licence, evidence="given with --licence")]
    models, address = list[Bundle](), None
    if url is not None:
        if teacher is None:
            raise InputError("an address serves many models and none is named", where="--teacher",
                             fix="add --teacher NAME, as the address calls it")
        address = ServedModel(url, teacher, key_variable)
        who = {"teacher": teacher, "host": address.host}
    else:
        models = [Bundle.open(model_path(teacher, "text"))]
        who = {"teacher": models[0].name, "digest": models[0].digest}
        licences = licences if licence != "unknown" else list(models[0].lineage.licences)
    if judge is not None:
        models.append(judge)
        licences += judge.lineage.licences
    parents = [Parent(kind="model", name=one.name, digest=one.lineage.digest) for one in models]
    parameters = {**who, "controls": controls, "prompts": sha256_file(prompts),
                  **({"best_of": best_of, "rewards": spec, "at_least": at_least} if spec else {})}
    if not output.name:
        raise InputError(f"'{output}' is a folder, not a name to write to", where="--output", fix="give a file name")
    beside, unfinished = output.with_suffix(".lineage.json"), output.with_name(f"{output.name}.unfinished")
    identity = _identity(parents, parameters, seed)
    done = _finished(output, beside, identity)
    if done is not None:
        unfinished.unlink(missing_ok=True)  # of a run that was killed just before it did so itself
        _tell({"conversations": done, "output": str(output), "lineage": str(beside), **who, "unchanged": True}, as_json)
        return
    if resume and not unfinished.exists():
        say("nothing is kept of an earlier run: starting from the beginning")
    # what rewards and --at-least make of the answers is found anew
    journal = Journal(unfinished, {**who, **controls, "prompts": parameters["prompts"], "best_of": best_of,
                                   "seed": seed}, resume=resume)
    before = Cost(**journal.parts[-1]["cost"]) if journal.parts else Cost()
    with told(journal, len(asked)):
        draw = served(address, asked, best_of, seed, controls) if address else \
            own(teacher, asked, best_of, seed, controls)
        kept = keep(asked, draw, journal, rewards, at_least, best_of=best_of, cost=lambda: before + meter.read(),
                    who=" at ".join(who[key] for key in ("teacher", "host") if key in who))
        _finished(output, beside, identity)  # hours may have passed: refuses what somebody put there meanwhile
    if not kept.answers:
        raise _nothing(kept, who["teacher"], at_least, journal)
    rows = [{"messages": [*sample.prompt.messages, {"role": "assistant", "content": sample.text}],
             **({"meta": {"reward": earned}} if spec else {})} for sample, earned in kept.answers]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    content = lines.encode("utf-8", "backslashreplace")  # half a surrogate pair stays as JSON escapes it
    lineage = Lineage(kind="dataset", name=output.stem, content=hashlib.sha256(content).hexdigest(), step="distil",
                      parents=parents, parameters=parameters, seed=seed, licences=licences,
                      cost=before + meter.read())
    write_json(beside, lineage.model_dump(mode="json"))  # first, so that an output never stands without it
    write_atomic(output, content)
    journal.remove()
    cut = sum(not sample.finished for sample, _ in kept.answers)
    found = {"conversations": len(rows), "empty": kept.empty, "cut": cut, "output": str(output),
             "lineage": str(beside), **who}
    if spec:
        found |= {"below": kept.below, "drawn": sum(map(len, kept.drawn)), **kept.figures()}
    _tell(found, as_json)


def _tell(found: dict[str, Any], as_json: bool) -> None:
    """Print what came of it."""
    if as_json:
        emit(found)
        return
    count, output, beside = f"{found['conversations']:,} conversations", found["output"], found["lineage"]
    if found.get("unchanged"):
        typer.echo(f"{output} is finished already, with {count}: nothing was asked; {beside} says who answered")
        return
    typer.echo(f"{count} in {output}, {found['empty']} empty answers left out; {beside} says who answered")
    if found["cut"]:
        typer.secho(f"{found['cut']:,} of them end at --max-tokens, often in the middle of a sentence: who learns from "
                    "them learns to stop there. Raise it", fg="yellow")
    if "drawn" in found:
        typer.echo(f"{found['drawn']:,} answers drawn, of a mean reward of {found['reward_drawn']:.3g}; those kept "
                   f"have {found['reward_kept']:.3g}; {found['below']} prompts without an answer that is good enough")


def _nothing(kept: Kept, teacher: str, at_least: float | None, journal: Journal) -> DataError:
    """Return what is wrong when no answer is kept; good answers that earn too little stay in the journal."""
    from bottega.core.errors import DataError

    if not kept.below:
        journal.remove()
        return DataError(f"all answers to {kept.empty} prompts are empty", where=teacher,
                         fix="raise --max-tokens, or choose another teacher")
    best = max((max(group) for group in kept.drawn if group), default=0.0)
    return DataError(
        f"no answer to {kept.below} prompts earns {at_least} (the best {best:.3g}, the mean "
        f"{kept.figures()['reward_drawn']:.3g}), and all to {kept.empty} are empty", where=teacher,
        fix=f"lower --at-least with --resume, which judges the same answers again; or remove {journal.path} and raise "
            "--best-of or choose another teacher")


def _rewards(given: list[str] | None, best_of: int, at_least: float | None, temperature: float, *,
             by_url: bool) -> dict[str, Any]:
    """Return the rewards of the command line as a recipe has them.

    Raises:
        InputError: options that do not fit each other, or a reward that is not written as one.
        RecipeError: unknown reward, unknown key or bad value.
    """
    import yaml

    from bottega.core.errors import InputError
    from bottega.objectives.rewards import options_of

    if not given:
        if best_of > 1 or at_least is not None:
            raise InputError("nothing says which answer is best", where="--best-of" if best_of > 1 else "--at-least",
                             fix="add --reward answer, or --reward model=NAME")
        return {}
    if best_of > 1 and temperature == 0:
        raise InputError(f"at temperature 0 all {best_of} answers are the same", where="--temperature",
                         fix="raise it, or leave out --best-of")
    spec: dict[str, Any] = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            read = yaml.safe_load(value) if value.strip() else 1.0
        except yaml.YAMLError:
            raise InputError(f"the reward '{text}' cannot be read", where="--reward",
                             fix='write answer, answer=0.5, model=NAME or "length={weight: -0.1}"') from None
        name = name.strip()
        if name == "model" and not isinstance(read, dict):
            read = {"name": str(read)} if value.strip() else {}
        options_of(name, read)
        spec[name] = read
    if by_url and "length" in spec:
        raise InputError("an address does not tell the tokens of its answers, which the reward 'length' counts",
                         where="--reward", fix="use a model of this workshop, or another reward")
    return spec


def _judges(spec: dict[str, Any]) -> tuple[Bundle | None, Rewards | None]:
    """Return the reward model, where one judges, and all rewards; None and None where none are given.

    Raises:
        InputError, CorruptError: there is no such model, it is no reward model, or it is damaged.
    """
    from bottega.core.home import workshop
    from bottega.objectives.reward import reward_scorer
    from bottega.objectives.rewards import Rewards
    from bottega.training.text_objectives import judge_of

    if not spec:
        return None, None
    judge = judge_of(spec["model"]["name"], workshop(), "--reward") if "model" in spec else None
    return judge, Rewards(spec, reward_scorer(judge.path) if judge else None)


def _finished(output: Path, beside: Path, identity: dict[str, Any]) -> int | None:
    """Return how many conversations an output holds that this very command has made; None where there is none.

    Raises:
        InputError: there is an output that something else has made, or that was changed since.
    """
    from bottega.core.errors import BottegaError, InputError
    from bottega.core.files import read_json, sha256_file
    from bottega.core.journal import differences
    from bottega.core.lineage import Lineage
    from bottega.core.validate import validate

    if not output.exists():
        return None
    why = "and was not made by 'bottega distil'"
    if beside.is_file() and output.is_file():
        try:
            found = validate(Lineage, read_json(beside), where=str(beside))
            why = differences(_identity(found.parents, found.parameters, found.seed), identity)
            if not why and found.content == sha256_file(output):
                return output.read_bytes().count(b"\n")
            why = f"and was made otherwise: {why}" if why else "and was changed since it was made"
        except BottegaError:
            pass
    raise InputError(f"{output} exists already, {why}", where="--output", fix="give another name, or remove it")


def _identity(parents: list[Parent], parameters: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return what an output depends on, by the names of its options."""
    rest = {name: value for name, value in parameters.items() if name != "controls"}
    return {**rest, **parameters.get("controls", {}), "seed": seed,
            "models": {parent.name: parent.digest for parent in parents}}


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(distil)
