"""`bottega import` and `bottega export`: models of others become models of the workshop, and ours leave it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bottega.commands.common import Json, emit, start

if TYPE_CHECKING:
    from bottega.core.bundle import Bundle


def import_model(
    source: Annotated[str, typer.Argument(metavar="FOLDER_OR_HUB_ID", help=(
        "Folder of a model of text (config.json) or of a diffusers pipeline (model_index.json), or OWNER/NAME on the "
        "Hugging Face hub."))],
    name: Annotated[str | None, typer.Option("--name", help="What it is called here. Default: as there.")] = None,
    lora: Annotated[list[Path] | None, typer.Option("--lora", help="LoRA file over a pipeline (repeatable).")] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="SPDX name. Default: what its card says.")] = None,
    backend: Annotated[str, typer.Option("--backend", help=(
        "What runs a model of text: native, transformers, or auto (native where it has all parts)."))] = "auto",
    revision: Annotated[str | None, typer.Option("--revision", help="Commit, branch or tag on the hub.")] = None,
    as_json: Json = False,
) -> None:
    """Take a pretrained model into the workshop: a language model, or a pipeline of pictures.

    Llama, Mistral, Qwen2, Qwen3, Gemma and models of their shape become native: they generate, chat, are served and
    are trained further ('base: NAME' in a recipe). Other language models run by transformers and can be used, not
    trained. Only safetensors weights are taken, and no code. A hub id is fetched when the network is there.

    Examples:

      bottega import my/Qwen3-0.6B --name qwen --licence Apache-2.0

      bottega import hf:HuggingFaceTB/SmolLM2-135M-Instruct && bottega chat --model SmolLM2-135M-Instruct

      bottega import my/stable-diffusion --name sd --licence CreativeML-OpenRAIL-M
    """
    from bottega.core.bundle import check_name
    from bottega.core.errors import InputError, suggest
    from bottega.core.home import workshop
    from bottega.generation.backends.hub import fetch, hub_id
    from bottega.generation.backends.text_folder import folder_of

    start(as_json)
    if backend not in ("auto", "native", "transformers"):
        raise InputError(f"unknown back-end '{backend}'", where="--backend",
                         fix=suggest(backend, ("auto", "native", "transformers")))
    folder, hub = Path(source), hub_id(source)
    local = folder.is_dir() and not source.startswith("hf:")
    if not local and hub is None:
        raise InputError(f"{source} is not a folder", fix="give a folder on this machine, or OWNER/NAME of a model on "
                                                          "the Hugging Face hub")
    title = check_name(name or (folder.resolve().name if local else str(hub).split("/")[1]))
    target = workshop() / "models" / title
    if target.exists():
        raise InputError(f"a model named '{title}' exists already", where=str(target), fix="give another --name")
    place = folder if local else fetch(str(hub), revision)
    if folder_of(place) == "text":
        if lora:
            raise InputError("--lora is for pipelines of pictures", fix="leave it out")
        _text(place, target, "" if local else str(hub), backend, licence, as_json)
    else:
        _pipeline(place, target, lora or [], licence, as_json)


def _text(folder: Path, target: Path, hub: str, backend: Any, licence: str | None, as_json: bool) -> None:
    """Import a model of text and try it."""
    from bottega.core.request import Controls, Request
    from bottega.generation.backends.text_folder import import_text
    from bottega.generation.engine import Engine

    bundle = import_text(folder, target, source=hub or folder.resolve().name, backend=backend, licence=licence,
                         revision=folder.name if hub else "")
    with _or_remove(bundle):
        engine = Engine.open(bundle)
        engine.generate(Request(prompt="a", controls=Controls(max_tokens=1, temperature=0, n=1)))
    if as_json:
        emit({"name": bundle.name, "path": str(bundle.path), "digest": bundle.digest, "backend": bundle.meta["family"],
              "context": engine.context, "answers": engine.answers, "licences": [
                  licence.spdx for licence in bundle.lineage.licences]})
        return
    typer.secho(f"{bundle.name} is ready: {bundle.path}", bold=True)
    shape = bundle.meta["derived"]
    size = f"{shape['parameters'] / 1e6:,.1f} million parameters" if "parameters" in shape else shape["architecture"]
    runs = "native" if bundle.meta["family"] == "transformer" else "run by transformers; it cannot be trained here"
    typer.echo(f"  {size}, context {engine.context}, {runs}; "
               f"{'answers conversations' if engine.answers else 'continues text (it has no chat template)'}")
    typer.echo(f"  licence: {', '.join(licence.spdx for licence in bundle.lineage.licences)}")
    verb = "chat" if engine.answers else 'generate "Once upon a time"'
    typer.echo(f"try it: bottega {verb} --model {bundle.name}")


def _pipeline(folder: Path, target: Path, loras: list[Path], licence: str | None, as_json: bool) -> None:
    """Import a pipeline of pictures and try to open it."""
    from bottega.generation.backends.diffusers import DiffusersPictures
    from bottega.generation.backends.diffusers_folder import import_pipeline, wanted

    left = [path.as_posix() for path in wanted(folder)[1]]
    bundle = import_pipeline(folder, target, loras=loras, licence=licence)
    with _or_remove(bundle):
        engine = DiffusersPictures.open(bundle)
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


class _or_remove:
    """What cannot be opened is not left behind as a model."""

    def __init__(self, bundle: Bundle) -> None:
        self._path = bundle.path

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Remove the model after any error."""
        if kind is not None:
            import shutil

            shutil.rmtree(self._path)


def export_model(
    model: Annotated[str, typer.Argument(help="Name in the workshop or path of a model folder.")],
    to: Annotated[str, typer.Option("--to", help="hf (transformers, vLLM), gguf (llama.cpp) or ollama.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write, which must not be there.")],
    dtype: Annotated[str | None, typer.Option("--dtype", help=(
        "hf: f32 (default), f16, bf16; gguf and ollama: f16 (default), f32, q8_0."))] = None,
    as_json: Json = False,
) -> None:
    """Write a model of text for other programs: a Hugging Face folder, a GGUF file, or a GGUF file with a Modelfile.

    Tokenizer, chat template, card and licence go with it. GGUF needs 'pip install "bottega[gguf]"'.

    Examples:

      bottega export python-assistant-dpo --to hf -o out/assistant

      bottega export python-assistant-dpo --to ollama --dtype q8_0 -o out/ollama

      ollama create assistant -f out/ollama/Modelfile
    """
    from bottega.commands.common import model_path
    from bottega.core.bundle import Bundle
    from bottega.core.errors import InputError, suggest
    from bottega.generation.export.folder import export_folder, opened
    from bottega.generation.export.gguf import export_gguf
    from bottega.generation.export.ollama import export_ollama

    start(as_json)
    if to not in ("hf", "gguf", "ollama"):
        raise InputError(f"unknown form '{to}'", where="--to", fix=suggest(to, ("hf", "gguf", "ollama")))
    if out.exists():
        raise InputError(f"{out} exists already", fix="give another --out")
    bundle, notes = Bundle.open(model_path(model)), list[str]()
    if to == "hf":
        export_folder(bundle, out, dtype or "f32")
    else:
        notes = (export_gguf if to == "gguf" else export_ollama)(opened(bundle), out, dtype or "f16")
    files = sorted(path.name for path in out.iterdir())
    if as_json:
        emit({"path": str(out), "files": files, "notes": notes})
        return
    typer.secho(f"{bundle.name} is in {out}: {', '.join(files)}", bold=True)
    for note in notes:
        typer.echo(f"  {note}")
    if to == "ollama":
        typer.echo(f"try it: ollama create {bundle.name.lower()} -f {out / 'Modelfile'}")


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command(name="import")(import_model)
    app.command(name="export")(export_model)
