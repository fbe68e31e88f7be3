"""The verbs that make a model: `bottega demo`, `bottega train`, `bottega estimate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bottega.commands.common import Json, emit, start

if TYPE_CHECKING:
    from bottega.core.recipe import Recipe

RecipeFile = Annotated[Path, typer.Argument(help="Recipe file, or the name of one that comes with Bottega.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Recipe keys to change, as key.sub=value.")]


def load_recipe(path: Path, overrides: list[str] | None) -> Recipe:
    """Read a recipe by path, or by name among those that come with Bottega."""
    from bottega.core.home import recipe_path
    from bottega.core.recipe import Recipe

    shipped = not path.exists() and path.parent in (Path(), Path("recipes"))
    return Recipe.load(recipe_path(path) if shipped else path, overrides)


def train(
    recipe: RecipeFile,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of this recipe.")] = False,
    as_json: Json = False,
) -> None:
    """Make a model from a recipe: data, codec, training, bundle.

    Examples:

      bottega train recipes/python-lm.yaml

      bottega train recipes/text-lm.yaml data.sources=my/folder training.budget.minutes=20 depth=6

    Ctrl-C saves a checkpoint; the same command with --resume goes on as if nothing had happened.
    """
    from bottega.core.bundle import ANSWERING
    from bottega.core.home import workshop
    from bottega.training.run import make

    start(as_json)
    bundle = make(load_recipe(recipe, overrides), home=workshop(), resume=resume)
    if as_json:
        emit({"name": bundle.name, "path": str(bundle.path), "digest": bundle.digest,
              "metrics": bundle.meta.get("metrics", {})})
        return
    typer.secho(f"\n{bundle.name} is ready: {bundle.path}", bold=True)
    for name, value in bundle.meta.get("metrics", {}).items():
        typer.echo(f"  {name:24} {value:.4g}" if isinstance(value, float) else f"  {name:24} {value}")
    if bundle.meta.get("codec") == "image" and bundle.meta["derived"].get("spatial"):
        typer.echo(f"try it: bottega train a recipe of diffusion with generator.latents={bundle.name}")
        return
    if bundle.meta.get("codec") == "image":
        typer.echo(f'try it: bottega generate "" --model {bundle.name} --n 9 --grid')
        return
    if bundle.meta.get("codec") == "table":
        typer.echo(f"try it: bottega generate {bundle.name} --rows 1000 -o {bundle.name}.parquet")
        return
    if bundle.meta.get("codec") == "graph":
        typer.echo(f"try it: bottega generate {bundle.name} --rows 20")
        return
    if bundle.meta.get("objective") == "reward":
        typer.echo(f"see how far it can be believed: bottega evaluate {bundle.name}")
        return
    verb = "chat" if bundle.meta.get("objective") in ANSWERING else 'generate "Once upon a time"'
    typer.echo(f"try it: bottega {verb} --model {bundle.name}")


def estimate(recipe: RecipeFile, overrides: Overrides = None, as_json: Json = False) -> None:
    """Say what a recipe would take before anything runs: parameters, FLOPs, memory, minutes, kWh.

    Example: bottega estimate recipes/text-lm.yaml depth=12 training.budget.tokens=1000000000
    """
    from bottega.core.home import workshop
    from bottega.training.estimate import estimate as estimate_recipe

    start(as_json)
    guess = estimate_recipe(load_recipe(recipe, overrides), home=workshop())
    if as_json:
        emit(guess.plain())
    else:
        typer.echo(guess.table())


def demo(
    seed: Annotated[int, typer.Option(min=0, help="Seed of data order, weights and samples.")] = 0,
    folder: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("demo"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Train again; prepared data is reused.")] = False,
    everything: Annotated[bool, typer.Option("--all", help=(
        "Also make and judge three models of pictures: some 10 minutes more."))] = False,
    as_json: Json = False,
) -> None:
    """Make a language model on this machine in some minutes: prepare, pretrain, instruct, align, look inside.

    Ends with a report (demo/report.html) and a model that 'bottega chat', 'bottega generate' and 'bottega explain' use.
    A second run reuses what is unchanged. With --all models of pictures follow: a variational autoencoder, two players
    and a diffusion model that draws a sentence; they need the extra "images".
    """
    from bottega.core.home import workshop
    from bottega.demo import run

    start(as_json)
    outcome = run(home=workshop(), folder=folder, seed=seed, fresh=fresh, pictures=everything)
    if as_json:
        emit(outcome)


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command()(demo)
    app.command()(train)
    app.command()(estimate)
