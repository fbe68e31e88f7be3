"""The verbs for adapters: `bottega adapter merge`, `bottega adapter add`. `bottega train` makes one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bottega.commands.common import Json, emit, start

if TYPE_CHECKING:
    from bottega.core.bundle import Bundle

app = typer.Typer(no_args_is_help=True, help=(
    "Small matrices beside a model's frozen weights: take one in, or merge one for good. "
    "'bottega train' makes one from a recipe with 'base' and 'adapter'."))

NewName = Annotated[str, typer.Option("--name", help="What the new model is called.")]


@app.command()
def merge(
    adapter: Annotated[str, typer.Argument(help="The adapter: a model's name, or its folder.")],
    name: NewName,
    as_json: Json = False,
) -> None:
    """Write an adapter into a copy of its base: a model that computes the same and needs no base.

    An adapter is used as it is, beside others of the same base; merge it to export it, to train on from it, or to let
    go of the base.

    Example: bottega adapter merge python-lora --name python-tuned
    """
    from bottega.core.home import workshop
    from bottega.training.adapter_bundles import find_base, merge_adapter

    start(as_json)
    _told(merge_adapter(find_base(adapter, workshop()), name, workshop()), as_json)


@app.command()
def add(
    folder: Annotated[Path, typer.Argument(help="Folder with adapter_config.json and adapter_model.safetensors.")],
    base: Annotated[str, typer.Option("--base", help="The model it was made for.")],
    name: NewName,
    licence: Annotated[str | None, typer.Option("--licence", help="SPDX name of the adapter's licence.")] = None,
    answers: Annotated[bool, typer.Option("--answers", help="It was tuned on conversations: let it chat.")] = False,
    as_json: Json = False,
) -> None:
    """Take a LoRA or DoRA that PEFT saved into the workshop, for a model that is there.

    Example: bottega adapter add my/adapter --base python-lm --name my-tone
    """
    from bottega.core.home import workshop
    from bottega.training.adapter_bundles import add_adapter, find_base

    start(as_json)
    home = workshop()
    _told(add_adapter(folder, find_base(base, home), name, home, licence=licence, answers=answers), as_json)


def _told(bundle: Bundle, as_json: bool) -> None:
    if as_json:
        emit({"name": bundle.name, "path": str(bundle.path), "digest": bundle.digest})
        return
    typer.secho(f"{bundle.name} is ready: {bundle.path}", bold=True)
    typer.echo(f"try it: bottega generate --model {bundle.name}")
