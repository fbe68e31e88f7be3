"""What `bottega generate` does with models of graphs: a line a graph, as SMILES or JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bottega.commands.common import emit, medium_of, model_path

if TYPE_CHECKING:
    from bottega.core.request import Controls

_SUFFIXES = {"molecules": (".smi", ".smiles", ".txt"), "graphs": (".jsonl",)}


def wanted(prompt: str, model: str | None, controls: Controls) -> str | None:
    """Return the model of graphs that is meant, None when none is: `--model`, or the prompt where it names one."""
    from bottega.core.errors import BottegaError

    for name in ([model] if model else [prompt] if prompt else []):
        try:
            if medium_of(model_path(name)) == "graph":
                return name
        except BottegaError:
            continue
    if model is None and controls.nodes is not None:
        return model_path(None, "graph").name
    return None


def generate(prompt: str, model: str, controls: Controls, output: Path | None, save: Path | None,
             as_json: bool) -> None:
    """Make graphs into a file, or line by line on standard output.

    Raises:
        BottegaError: as in `Commission.open`, or the file cannot be written.
    """
    from bottega.commands.session import Session
    from bottega.commands.use import record
    from bottega.core.errors import InputError
    from bottega.core.files import write_atomic, write_json
    from bottega.core.progress import track
    from bottega.core.request import Request

    request = Request(prompt="" if prompt == model else prompt, controls=controls)
    with Session(model, "graph") as session:
        suffixes = _SUFFIXES[session.engine.codec.form]
        if output is not None and output.suffix.lower() not in suffixes:
            raise InputError(f"{output} has no ending of {session.engine.codec.form}", where="--output",
                             fix=f"use {', '.join(suffixes)}")
        deltas: Any = session.stream(request)
        for delta in track(deltas, "making graphs", None) if output is not None else deltas:
            if output is None and not as_json:
                sys.stdout.write(delta.text)
                sys.stdout.flush()
        assert session.done is not None
        work, result = session.done.work, session.done.result
    text = result.outputs[0].text
    if output is not None:
        write_atomic(output, text)
    if save is not None:
        write_json(save, record(request, result))
    if as_json:
        emit({"id": work.id, "rows": work.new_tokens, "seed": work.seed, "lineage": work.lineage,
              **({"file": str(output)} if output else {"data": text.splitlines()})})
    elif output is not None:
        typer.echo(str(output))
