"""The verbs that use a model: `bottega generate`, `bottega chat`, `bottega explain`, `bottega reproduce`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bottega.commands.common import Json, ModelName, emit, start
from bottega.commands.controls import with_controls

if TYPE_CHECKING:
    from bottega.core.request import Controls, Request, Result

Prompt = Annotated[str, typer.Argument(help="What to continue or to answer; '-' reads standard input.")]
System = Annotated[str | None, typer.Option("--system", help="Instruction that goes before the conversation.")]
Suffix = Annotated[str | None, typer.Option("--suffix", help="Text that must follow (models with objective.fim).")]
_PICTURES: dict[str, Any] = {"rich_help_panel": "Pictures"}
Raw = Annotated[bool, typer.Option("--raw", help="Continue the text even with a model tuned to answer.")]


def generate(
    prompt: Prompt,
    model: ModelName = None,
    system: System = None,
    suffix: Suffix = None,
    raw: Raw = False,
    save: Annotated[Path | None, typer.Option("--save", help="Keep request and result for 'reproduce'.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help=(
        "PNG file to write; of tables Parquet, CSV or JSON Lines, of graphs SMILES or JSON Lines."),
        **_PICTURES)] = None,
    grid: Annotated[bool, typer.Option("--grid", help="Also all pictures of --n on one sheet.", **_PICTURES)] = False,
    image: Annotated[Path | None, typer.Option("--image", help="Start from this picture: vary it, or lead it to the "
                                               "prompt as far as --strength says.", **_PICTURES)] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="Draw anew only where this picture is transparent (or "
                                              "white).", **_PICTURES)] = None,
    toward: Annotated[str | None, typer.Option("--toward", help="Second prompt: --n pictures walk to it.",
                                               **_PICTURES)] = None,
    as_json: Json = False,
    *,
    controls: Controls,
) -> None:
    """Make text, pictures, rows or graphs.

    A model tuned to answer takes the prompt as a user's message, another continues it.

    A model of pictures takes the name of a class, a caption, or an empty prompt; each PNG file carries what makes it
    again.

    Examples:

      bottega generate "def read_lines(path):" --raw --max-tokens 80 --temperature 0.7

      bottega generate "def area(r):" --suffix "    return result"

      bottega generate "My kettle arrived broken." --n 3 --seed 7

      bottega generate 3 --model digits-vae --n 9 --grid -o three.png

      bottega generate "a small red star above a blue moon" --model symbols-diffusion --n 4 --grid -o star.png

      bottega generate "a green heart" --model symbols-diffusion --image star-0.png --mask hole.png -o heart.png

      bottega generate "" --model symbols-diffusion --image star-0.png --strength 0.5 --n 4 -o variation.png

      bottega generate patients-table --rows 500 --where "diagnosis = malignant" --where "mean_radius > 15" -o out.csv

      bottega generate molecules-graph --rows 100 --nodes 8 -o new.smi
    """
    from bottega.commands import graphs, pictures, tables
    from bottega.commands.session import Session
    from bottega.core.errors import InputError

    start(as_json)
    meant = graphs.wanted(prompt, model, controls)
    if meant is not None:
        graphs.generate(prompt, meant, controls, output, save, as_json)
        return
    meant = tables.wanted(prompt, model, controls)
    if meant is not None:
        tables.generate(prompt, meant, controls, output, as_json)
        return
    wish = pictures.Wish(output, grid, image, mask, toward)
    if pictures.wanted(model, wish):
        pictures.generate(prompt, model, controls, wish, as_json)
        return
    if wish.said:
        raise InputError(f"{wish.said} is for models of pictures", fix="leave it out, or name one with --model")
    with Session(model, "text") as session:
        request = _request(session.served.answers, prompt, system, suffix, raw, controls)
        wanted = controls.over(session.engine.controls)
        if not (as_json or save or (wanted.n or 1) > 1 or (wanted.best_of or 1) > 1):
            for delta in session.stream(request):
                typer.echo(delta.text, nl=False)
                sys.stdout.flush()
            typer.echo("")
            return
        result = session.make(request)
    kept = record(request, result)
    if save:
        from bottega.core.files import write_json

        write_json(save, kept)
    if as_json:
        emit(kept)
        return
    for number, made in enumerate(result.outputs, 1):
        if len(result.outputs) > 1:
            typer.secho(f"── {number} · mean log-probability {made.score:.3f}", dim=True)
        typer.echo(made.text)


def explain(
    prompt: Prompt,
    model: ModelName = None,
    system: System = None,
    suffix: Suffix = None,
    raw: Raw = False,
    alternatives: Annotated[int, typer.Option(min=1, max=20, help="Candidates shown at each token.")] = 5,
    as_json: Json = False,
    *,
    controls: Controls,
) -> None:
    """Generate and open the box: each token's probability, its alternatives, and what each control changed.

    Example: bottega explain "My kettle arrived broken." --temperature 0.8 --top-p 0.9
    """
    from bottega.commands.session import Session
    from bottega.generation.explain import as_data, render

    start(as_json)
    with Session(model, "text") as session:
        request = _request(session.served.answers, prompt, system, suffix, raw, controls, alternatives)
        result = session.make(request)
    if as_json:
        emit(as_data(result))
    else:
        from rich.console import Console

        Console().print(render(result))


def reproduce(
    file: Annotated[Path, typer.Argument(help="A result kept with --save, or a PNG or Parquet file of ours.")],
    model: ModelName = None,
    as_json: Json = False,
) -> None:
    """Make a kept result again and check that every byte is the same. Exit code 1 when it is not.

    Example: bottega generate "Hello" --save hello.json && bottega reproduce hello.json
    """
    from bottega.commands.session import Session
    from bottega.core.errors import InputError
    from bottega.core.files import read_json
    from bottega.core.request import Request
    from bottega.core.validate import validate

    start(as_json)
    if file.suffix.lower() == ".parquet":
        from bottega.commands import tables

        tables.reproduce(file, model, as_json)
        return
    if file.suffix.lower() == ".png":
        from bottega.commands import pictures

        pictures.reproduce(file, model, as_json)
        return
    record = read_json(file)
    try:
        place, digest = record["model"]["path"], record["model"]["digest"]
        before = [output["text"] for output in record["result"]["outputs"]]
        wish = record["request"]
    except (TypeError, KeyError):
        raise InputError(f"{file} is not a kept result", fix="make one with 'bottega generate … --save FILE'") from None
    with Session(model or place) as session:
        if session.served.digest != digest:
            raise InputError(f"the model is not the one that made {file}: digest {session.served.digest[:12]} instead "
                             f"of {digest[:12]}", fix="name the right one with --model")
        again = session.make(validate(Request, wish, where=str(file), error=InputError))
    texts = [output.text for output in again.outputs]
    same = texts == before
    if as_json:
        emit({"same": same, "texts": texts})
    else:
        typer.echo("same bytes" if same else "different:\n" + "\n".join(texts))
    if not same:
        raise typer.Exit(1)


def chat(model: ModelName = None, system: System = None, *, controls: Controls) -> None:
    """Talk to a model in the terminal; answers stream, the conversation is remembered.

    While chatting: /help lists the commands (settings, undo, look inside the last answer, save).
    """
    from bottega.commands.conversation import Conversation
    from bottega.commands.session import Session

    with Session(model, "text") as session:
        Conversation(session, controls, system).run()


def _request(answers: bool, prompt: str, system: str | None, suffix: str | None, raw: bool, controls: Controls,
             alternatives: int = 0) -> Request:
    from bottega.core.errors import InputError
    from bottega.core.request import Message, Request

    try:
        if prompt == "-":
            prompt = sys.stdin.buffer.read().decode("utf-8")
        prompt.encode("utf-8")
    except UnicodeError:
        raise InputError("the prompt is not valid UTF-8", fix="give text, not binary data") from None
    if suffix is None and answers and not raw:
        turns = [Message(role="system", content=system)] if system else []
        return Request(messages=[*turns, Message(role="user", content=prompt)], controls=controls,
                       alternatives=alternatives)
    if system:
        raise InputError("--system needs a model tuned to answer", fix="leave it out, or drop --raw and --suffix")
    return Request(prompt=prompt, suffix=suffix, controls=controls, alternatives=alternatives)


def record(request: Request, result: Result) -> dict[str, Any]:
    """Return everything needed to make the result again, and the result."""
    plain = request.model_dump(mode="json", exclude_none=True)
    plain.setdefault("controls", {})["seed"] = result.seed
    return {
        "model": {"path": result.lineage["path"], "digest": result.model},
        "request": plain,
        "result": {
            "outputs": [{"text": o.text, "finish": o.finish, "score": o.score} for o in result.outputs],
            "prompt_tokens": result.prompt_tokens, "new_tokens": result.new_tokens, "seed": result.seed,
            "seconds": round(result.seconds, 4),
        },
        "lineage": result.lineage,
    }


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command(name="generate")(with_controls(generate))
    app.command(name="chat")(with_controls(chat))
    app.command(name="explain")(with_controls(explain))
    app.command()(reproduce)
