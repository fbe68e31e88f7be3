"""`bottega distil`: let a model answer prompts, and keep its answers, or the best ones, as conversations to tune on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bottega.commands.common import Json, emit, model_path, open_engine, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from bottega.core.bundle import Bundle
    from bottega.generation.served import ServedModel
    from bottega.objectives.rejection import Kept
    from bottega.objectives.rewards import Rewards
    from bottega.objectives.samples import Prompt, Sample

    Draw = Callable[[int, list[Prompt]], list[list[Sample]]]  # place of the first of some prompts, and these

_FIX = 'write {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]} on each line'
_TOGETHER = 256  # answers made before they are judged


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
    as_json: Json = False,
) -> None:
    """Answer prompts with any model and write conversations to tune on.

    Without --reward that is sequence-level distillation: one answer to each prompt. With --best-of and --reward it is
    rejection sampling: of several answers the best one is kept, or none where --at-least asks for more. A model can so
    learn from the best of its own answers.

    The turns after the last question of a line are left out (rewards compare with the answer that stood there, or with
    'reference'; 'meta' holds what else they ask for); empty answers are too, and how many end at --max-tokens is told.
    The output is written whole at the end or
    not at all. FILE.lineage.json beside it says who answered what, judged by whom. Look at the teacher's terms before
    you train on its answers.

    Examples:

      bottega distil questions.jsonl --teacher python-assistant-dpo -o answers.jsonl

      bottega distil questions.jsonl --url https://api.example.com/v1 --teacher large-model -o answers.jsonl

      bottega distil sums.jsonl --best-of 8 --reward answer --at-least 1 -o right.jsonl

      bottega distil questions.jsonl --best-of 8 --reward model=my-judge --reward "length={weight: -0.1}" -o best.jsonl

      bottega train recipes/python-assistant.yaml name=student data.sources=[answers.jsonl]
    """
    from bottega.core.bundle import Bundle
    from bottega.core.energy import CostMeter
    from bottega.core.errors import DataError, InputError
    from bottega.core.files import sha256_file, write_atomic, write_json
    from bottega.core.lineage import Licence, Lineage, Parent
    from bottega.generation.served import ServedModel

    start(as_json)
    meter, asked = CostMeter(), _questions(prompts)
    spec = _rewards(reward, best_of, at_least, temperature, by_url=url is not None)
    judge, rewards = _judges(spec)
    controls: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    licences = [Licence(spdx=licence, evidence="given with --licence")]
    models: list[Bundle] = []
    if url is not None:
        if teacher is None:
            raise InputError("an address serves many models and none is named", where="--teacher",
                             fix="add --teacher NAME, as the address calls it")
        served = ServedModel(url, teacher, key_variable)
        who, draw = {"teacher": teacher, "host": served.host}, _served(served, best_of, seed, controls)
    else:
        models = [Bundle.open(model_path(teacher, "text"))]
        who = {"teacher": models[0].name, "digest": models[0].digest}
        draw = _own(teacher, asked, best_of, seed, controls)
        licences = licences if licence != "unknown" else list(models[0].lineage.licences)
    kept = _keep(asked, draw, best_of, rewards, at_least, " at ".join(who[key] for key in ("teacher", "host")
                                                                      if key in who))
    if judge is not None:
        models.append(judge)
        licences += judge.lineage.licences
    if not kept.answers:
        figures = kept.figures()
        best = max((max(group) for group in kept.drawn if group), default=0.0)
        raise DataError(
            f"all answers to {kept.empty} prompts are empty" if not kept.below else
            f"no answer to {kept.below} prompts earns {at_least} (the best {best:.3g}, the mean "
            f"{figures['reward_drawn']:.3g}), and all to {kept.empty} are empty", where=who["teacher"],
            fix="lower --at-least, raise --best-of, or choose another teacher" if kept.below else
                "raise --max-tokens, or choose another teacher")
    rows = [{"messages": [*sample.prompt.messages, {"role": "assistant", "content": sample.text}],
             **({"meta": {"reward": earned}} if spec else {})} for sample, earned in kept.answers]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(output, lines.encode("utf-8", "backslashreplace"))  # half a surrogate pair stays as JSON escapes it
    judged = {"best_of": best_of, "rewards": spec, "at_least": at_least} if spec else {}
    lineage = Lineage(kind="dataset", name=output.stem, content=sha256_file(output), step="distil",
                      parents=[Parent(kind="model", name=one.name, digest=one.lineage.digest) for one in models],
                      parameters={**who, "controls": controls, "prompts": sha256_file(prompts), **judged}, seed=seed,
                      licences=licences, cost=meter.read())
    beside = output.with_suffix(".lineage.json")
    write_json(beside, lineage.model_dump(mode="json"))
    cut = sum(not sample.finished for sample, _ in kept.answers)
    found = {"conversations": len(rows), "empty": kept.empty, "cut": cut, "output": str(output),
             "lineage": str(beside), **who}
    if spec:
        found |= {"below": kept.below, "drawn": sum(map(len, kept.drawn)), **kept.figures()}
    if as_json:
        emit(found)
        return
    typer.echo(f"{len(rows):,} conversations in {output}, {found['empty']} empty answers left out; {beside} says who "
               "answered")
    if cut:
        typer.secho(f"{cut:,} of them end at --max-tokens {max_tokens}, often in the middle of a sentence: who learns "
                    "from them learns to stop there. Raise it", fg="yellow")
    if spec:
        typer.echo(f"{found['drawn']:,} answers drawn, of a mean reward of {found['reward_drawn']:.3g}; those kept "
                   f"have {found['reward_kept']:.3g}; {kept.below} prompts without an answer that is good enough")


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


def _own(name: str | None, asked: list[Prompt], best_of: int, seed: int,
         controls: dict[str, Any]) -> Draw:
    """Return what draws `best_of` answers to each of some prompts from a model of this workshop."""
    from bottega.core.request import Controls, Message, Request
    from bottega.objectives.samples import Sample

    engine = open_engine(name)
    requests = [Request(messages=[Message.model_validate(turn) for turn in prompt.messages],
                        controls=Controls(seed=seed + number, n=best_of, **controls))
                for number, prompt in enumerate(asked)]

    def draw(first: int, part: list[Prompt]) -> list[list[Sample]]:
        made = engine.generate_many(requests[first:first + len(part)])
        return [[Sample(prompt, one.text, one.tokens, [], one.finish != "length") for one in result.outputs]
                for prompt, result in zip(part, made, strict=True)]

    return draw


def _served(served: ServedModel, best_of: int, seed: int, controls: dict[str, Any]) -> Draw:
    """Return what draws `best_of` answers to each of some prompts from a model at an address."""
    from bottega.objectives.samples import Sample

    def draw(first: int, part: list[Prompt]) -> list[list[Sample]]:
        told = served.replies([prompt.messages for prompt in part for _ in range(best_of)],
                              seed=seed + first * best_of, **controls)
        samples = [Sample(part[place // best_of], one.text, [], [], one.finished) for place, one in enumerate(told)]
        return [samples[place:place + best_of] for place in range(0, len(samples), best_of)]

    return draw


def _keep(asked: list[Prompt], draw: Draw, best_of: int, rewards: Rewards | None, at_least: float | None,
          who: str) -> Kept:
    """Draw answers to all prompts, judge them some at a time, and return what is kept.

    Raises:
        InputError: an address does not answer.
        DataError: a reward failed.
    """
    from bottega.core.progress import timed, track
    from bottega.objectives.rejection import Kept, keep_best

    kept, size = Kept(), max(1, _TOGETHER // best_of)
    with timed(f"asking {who} {len(asked):,} questions"):
        for first in track(range(0, len(asked), size), "answers"):
            keep_best(draw(first, asked[first:first + size]), rewards, at_least, kept)
    return kept


def _questions(path: Path) -> list[Prompt]:
    """Return the conversations of a file, each up to its last question, with the answer that stood there.

    Raises:
        InputError: the file cannot be read.
        DataError: a line is malformed, or there is none; the message names it.
    """
    from bottega.core.errors import DataError, InputError
    from bottega.data.record import check_payload
    from bottega.objectives.samples import Prompt

    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines would break at U+2028 within a text
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}", fix="give a JSONL file") from None
    asked = []
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except ValueError:
            data = None
        if not isinstance(data, dict) or (data.get("prompt") is None and data.get("messages") is None):
            raise DataError("the line asks nothing", where=where, fix=_FIX)
        turns = check_payload("preference", {**{key: data.get(key) for key in ("prompt", "messages")}, "chosen": "a",
                                             "rejected": "b"}, where=where)["messages"]
        reference = data.get("reference")
        while turns and turns[-1]["role"] == "assistant":
            *turns, last = turns
            reference = last["content"] if reference is None else reference
        if not turns:
            raise DataError("the line asks nothing: all its turns are the assistant's", where=where, fix=_FIX)
        facts = data.get("meta")
        asked.append(Prompt(turns, [], "" if reference is None else str(reference),
                            facts if isinstance(facts, dict) else {}))
    if not asked:
        raise DataError(f"{path} holds no questions", where=str(path), fix=_FIX)
    return asked


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(distil)
