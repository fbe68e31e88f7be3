"""`bottega feedback`: what people said about outputs, and the set of preferences that comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bottega.commands.common import Database, Json, emit, open_store, start

app = typer.Typer(no_args_is_help=True, help="What people said about outputs; export it as preferences.")


@app.command()
def stats(database: Database = None, as_json: Json = False) -> None:
    """Count the feedback of each alias, and the preference pairs that can teach.

    Example: bottega feedback stats
    """
    from bottega.workshop import feedback, preferences, registry

    start(as_json)
    rows: dict[str, dict[str, Any]] = {}
    with open_store(database) as store:
        for alias in registry.aliases(store):
            found = preferences.collect(store, preferences.rated_models(store, alias))
            rows[alias] = {**feedback.counts(store, alias), "pairs": len(found.pairs), "prompts": len(found.prompts),
                           "raters": len(found.raters), "left_out": found.left_out,
                           "contradictions": len(found.contradictions)}
        whole = {**feedback.counts(store), "pairs": len(preferences.collect(store).pairs)}
    if as_json:
        emit({"all": whole, "aliases": rows, "needed": preferences.LEAST_PAIRS})
        return
    for alias, row in rows.items():
        typer.secho(alias, bold=True)
        typer.echo(f"  {row['up']} up · {row['down']} down · {row['choice']} choices · {row['edit']} edits · "
                   f"{row['comment']} comments")
        typer.echo(f"  {row['pairs']} preference pairs on {row['prompts']} prompts by {row['raters']} raters")
        for reason, number in row["left_out"].items():
            typer.echo(f"  {number} not used: {reason}")
        missing = preferences.LEAST_PAIRS - row["pairs"]
        typer.echo(f"  {missing} more pairs and it can be improved" if missing > 0
                   else f"  ready: bottega improve {alias}")
    typer.echo(f"all models: {whole['pairs']} preference pairs, {whole['up'] + whole['down']} thumbs")


@app.command()
def export(
    model: Annotated[str | None, typer.Argument(help="Alias, with all models it ever stood for, or a model's name. "
                                                     "Default: all models.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help=(
        "New folder to write. Default: the workshop's feedback folder."))] = None,
    licence: Annotated[str, typer.Option(help="SPDX expression of what people wrote.")] = "unknown",
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Write preference pairs as JSONL: to learn from and, apart, held out; with lineage and a manifest.

    The folder stays when the workshop's retention_days forget the feedback in it; delete it to forget that too.

    Example: bottega feedback export assistant -o my-preferences
    """
    from bottega.core.home import workshop
    from bottega.workshop import preferences, registry

    start(as_json)
    with open_store(database) as store:
        models = None
        if model is not None:
            models = preferences.rated_models(store, model) or [registry.model(store, model).name]
        found = preferences.export(store, workshop(), models, folder=output, licence=licence)
    if as_json:
        emit(found.plain())
        return
    typer.echo(f"{found.path}: {found.pairs} pairs to learn from, {found.held_out} held out")
    for reason, number in found.left_out.items():
        typer.echo(f"  {number} not used: {reason}")
    for row in found.contradictions:
        typer.echo(f"  raters disagree {row['for']} to {row['against']}: {', '.join(row['feedback'])}")
