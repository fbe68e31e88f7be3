"""`bottega distil`: let a stronger model answer prompts, and keep its answers as conversations to learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bottega.commands.common import Json, emit, model_path, open_engine, start

_FIX = 'write {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]} on each line'


def distil(
    prompts: Annotated[Path, typer.Argument(help="JSONL with 'prompt' or 'messages' on each line.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSONL to write: a conversation a line.")],
    teacher: Annotated[str | None, typer.Option(help="Model that answers: of this workshop, or by its name at --url. "
                                                     "Default: the newest.")] = None,
    url: Annotated[str | None, typer.Option(help="OpenAI-compatible address of a served model, up to /v1.")] = None,
    key_variable: Annotated[str, typer.Option(help="Environment variable that holds the key.")] = "OPENAI_API_KEY",
    temperature: Annotated[float, typer.Option(min=0, max=2, help="Of its answers.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Of the first answer; each further one takes the next.")] = 0,
    licence: Annotated[str, typer.Option(help="SPDX name of what the teacher's terms allow.")] = "unknown",
    as_json: Json = False,
) -> None:
    """Answer prompts with any model and write conversations to tune on (sequence-level distillation).

    The turns after the last question of a line are left out; empty answers are too. FILE.lineage.json beside the output
    says who answered what, with which controls. Look at the teacher's terms before you train on its answers.

    Examples:

      bottega distil questions.jsonl --teacher python-assistant-dpo -o answers.jsonl

      bottega distil questions.jsonl --url https://api.example.com/v1 --teacher large-model -o answers.jsonl

      bottega train recipes/python-assistant.yaml name=student data.sources=[answers.jsonl]
    """
    from bottega.core.bundle import Bundle
    from bottega.core.energy import CostMeter
    from bottega.core.errors import DataError, InputError
    from bottega.core.files import sha256_file, write_atomic, write_json
    from bottega.core.lineage import Licence, Lineage, Parent
    from bottega.core.progress import timed
    from bottega.core.request import Controls, Message, Request

    start(as_json)
    meter, talks = CostMeter(), _questions(prompts)
    controls: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    parents: list[Parent] = []
    licences = [Licence(spdx=licence, evidence="given with --licence")]
    if url is not None:
        from bottega.generation.served import ServedModel

        if teacher is None:
            raise InputError("an address serves many models and none is named", where="--teacher",
                             fix="add --teacher NAME, as the address calls it")
        served = ServedModel(url, teacher, key_variable)
        who = {"teacher": teacher, "host": served.host}
        with timed(f"asking {teacher} at {served.host} {len(talks):,} questions"):
            answers = served.answers(talks, seed=seed, **controls)
    else:
        bundle, engine = Bundle.open(model_path(teacher, "text")), open_engine(teacher)
        who = {"teacher": bundle.name, "digest": bundle.digest}
        parents = [Parent(kind="model", name=bundle.name, digest=bundle.lineage.digest)]
        licences = licences if licence != "unknown" else list(bundle.lineage.licences)
        requests = [Request(messages=[Message.model_validate(turn) for turn in turns],
                            controls=Controls(seed=seed + number, n=1, **controls))
                    for number, turns in enumerate(talks)]
        with timed(f"asking {bundle.name} {len(talks):,} questions"):
            answers = [result.outputs[0].text for result in engine.generate_many(requests)]
    rows = [{"messages": [*turns, {"role": "assistant", "content": answer}]}
            for turns, answer in zip(talks, answers, strict=True) if answer.strip()]
    if not rows:
        raise DataError(f"all {len(answers)} answers are empty", where=who["teacher"],
                        fix="raise --max-tokens, or choose another teacher")
    write_atomic(output, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    lineage = Lineage(kind="dataset", name=output.stem, content=sha256_file(output), parents=parents, step="distil",
                      parameters={**who, "controls": controls, "prompts": sha256_file(prompts)}, seed=seed,
                      licences=licences, cost=meter.read())
    beside = output.with_suffix(".lineage.json")
    write_json(beside, lineage.model_dump(mode="json"))
    found = {"conversations": len(rows), "empty": len(answers) - len(rows), "output": str(output),
             "lineage": str(beside), **who}
    if as_json:
        emit(found)
        return
    typer.echo(f"{len(rows):,} conversations in {output}, {found['empty']} empty answers left out; {beside} says who "
               "answered")


def _questions(path: Path) -> list[list[dict[str, str]]]:
    """Return the conversations of a file, each up to its last question.

    Raises:
        InputError: the file cannot be read.
        DataError: a line is malformed, or there is none; the message names it.
    """
    from bottega.core.errors import DataError, InputError
    from bottega.data.record import check_payload

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}", fix="give a JSONL file") from None
    talks = []
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
        while turns and turns[-1]["role"] == "assistant":
            turns = turns[:-1]
        if not turns:
            raise DataError("the line asks nothing: all its turns are the assistant's", where=where, fix=_FIX)
        talks.append(turns)
    if not talks:
        raise DataError(f"{path} holds no questions", where=str(path), fix=_FIX)
    return talks


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(distil)
