"""`bottega import`: models that others made become models of the workshop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bottega.commands.common import Json, emit, start


def import_model(
    folder: Annotated[Path, typer.Argument(help="A diffusers pipeline folder (with model_index.json).")],
    name: Annotated[str, typer.Option("--name", help="What the model is called here.")],
    lora: Annotated[list[Path] | None, typer.Option("--lora", help="LoRA file laid over it (repeatable).")] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="SPDX name of the pipeline's licence.")] = None,
    as_json: Json = False,
) -> None:
    """Take a pretrained pipeline of pictures into the workshop: Stable Diffusion, SDXL, SD3, Flux and their like.

    Nothing is fetched: get the folder first, for instance with 'hf download ID --local-dir DIR'. Only safetensors
    weights are taken, and no code. Then it draws, edits, varies and is served like a model that was trained here.

    Example:

      bottega import my/stable-diffusion --name sd --licence CreativeML-OpenRAIL-M

      bottega generate "a red umbrella" --model sd --steps 20 --size 512x512 -o umbrella.png
    """
    from bottega.core.bundle import check_name
    from bottega.core.errors import InputError
    from bottega.core.home import workshop
    from bottega.generation.backends.diffusers import DiffusersPictures
    from bottega.generation.backends.diffusers_folder import import_pipeline, wanted

    start(as_json)
    target = workshop() / "models" / check_name(name)
    if target.exists():
        raise InputError(f"a model named '{name}' exists already", where=str(target), fix="give another --name")
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", fix="give a folder on this machine; get one with "
                                                          "'hf download ID --local-dir DIR'")
    left = [path.as_posix() for path in wanted(folder)[1]]
    bundle = import_pipeline(folder, target, loras=lora or [], licence=licence)
    try:
        engine = DiffusersPictures.open(bundle)
    except BaseException:  # what cannot be opened is not left behind as a model
        import shutil

        shutil.rmtree(target)
        raise
    if as_json:
        emit({"name": bundle.name, "path": str(bundle.path), "digest": bundle.digest,
              "pipeline": bundle.meta["pipeline"], "controls": sorted(engine.understands),
              "left": left})
        return
    typer.secho(f"{bundle.name} is ready: {bundle.path}", bold=True)
    typer.echo(f"  {bundle.meta['pipeline']}, {engine.size[1]}x{engine.size[0]} pixels; controls: "
               f"{', '.join(sorted(engine.understands))}")
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        typer.echo(f"  not needed, left behind: {', '.join(left[:5])}{more}")
    typer.echo(f'try it: bottega generate "a red umbrella" --model {bundle.name} --steps 20')


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(name="import")(import_model)
