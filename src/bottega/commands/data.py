"""`bottega data`: prepare data and look at what was kept, what was dropped and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bottega.commands.common import Json, emit, start

if TYPE_CHECKING:
    from bottega.data.dataset import Dataset

app = typer.Typer(no_args_is_help=True, help="Prepare data; see what was kept, dropped and why.")

Recipe = Annotated[Path, typer.Argument(help="Recipe file, for instance recipes/text-lm.yaml.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Recipe keys to change, as key.sub=value.")]


def _prepare(recipe: Path, overrides: list[str] | None) -> Dataset:
    from bottega.commands.make import load_recipe
    from bottega.core.home import workshop
    from bottega.data.pipeline import prepare

    loaded = load_recipe(recipe, overrides)
    return prepare(loaded.data, home=workshop(), seed=loaded.seed)


@app.command()
def prepare(recipe: Recipe, overrides: Overrides = None, as_json: Json = False) -> None:
    """Prepare a recipe's data and print the card: counts by stage and reason, sources, licences.

    Example: bottega data prepare recipes/text-lm.yaml data.sources=my/folder
    """
    start(as_json)
    dataset = _prepare(recipe, overrides)
    _show_summary(dataset, as_json)


@app.command()
def inspect(
    recipe: Recipe,
    overrides: Overrides = None,
    reason: Annotated[str | None, typer.Option(help="Only rows dropped for this reason.")] = None,
    dropped: Annotated[bool, typer.Option("--dropped", help="Only dropped rows.")] = False,
    n: Annotated[int, typer.Option("-n", min=1, max=1000, help="How many samples.")] = 5,
    seed: Annotated[int, typer.Option(help="Which samples.")] = 0,
    as_json: Json = False,
) -> None:
    """Look at samples of a recipe's prepared data; nothing is ever deleted, dropped rows are there with their reason.

    Example: bottega data inspect recipes/python-lm.yaml --dropped -n 3
    """
    from bottega.data.inspect import samples

    start(as_json)
    dataset = _prepare(recipe, overrides)
    rows = samples(dataset, reason=reason, kept=False if dropped or reason else None, n=n, seed=seed)
    if as_json:
        emit(rows)
        return
    for row in rows:
        state = "kept" if row.get("keep") else f"dropped: {row.get('reason')}"
        typer.secho(f"\n{row.get('source')} · {row.get('id')} · {state}", bold=True)
        text = str(row.get("text", ""))
        typer.echo(text[:800] + (" …" if len(text) > 800 else ""))
    if not rows:
        typer.echo("no such rows")


@app.command()
def signals(as_json: Json = False) -> None:
    """List the numbers measured on every document, which the rules of a recipe may use."""
    from bottega.data.inspect import signals as all_signals

    if as_json:
        emit(all_signals())
        return
    for name, meaning in all_signals().items():
        typer.echo(f"{name:28} {meaning}")


def _show_summary(dataset: Dataset, as_json: bool) -> None:
    from bottega.data.inspect import summary

    facts: dict[str, Any] = summary(dataset)
    if as_json:
        emit({"path": str(dataset.path), "digest": dataset.digest, **facts})
        return
    typer.secho(f"{dataset.path}", bold=True)
    for key, value in facts.items():
        if isinstance(value, dict):
            typer.echo(f"{key}:")
            for name, inner in value.items():
                typer.echo(f"  {name:32} {inner}")
        else:
            typer.echo(f"{key}: {value}")
