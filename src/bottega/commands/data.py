"""`bottega data`: prepare data and look at what was kept, what was dropped and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bottega.commands.common import Json, emit, start

if TYPE_CHECKING:
    from bottega.codecs.image import ImageCodec
    from bottega.codecs.table import TableCodec
    from bottega.data.dataset import Dataset
    from bottega.data.pictures.dataset import PictureDataset
    from bottega.data.tables.dataset import TableDataset

app = typer.Typer(no_args_is_help=True, help="Prepare data; see what was kept, dropped and why.")

Recipe = Annotated[Path, typer.Argument(help="Recipe file, for instance recipes/text-lm.yaml.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Recipe keys to change, as key.sub=value.")]


def _prepare(recipe: Path, overrides: list[str] | None) -> Any:
    """Prepare texts, or pictures in the shape of the recipe's codec."""
    from bottega.commands.make import load_recipe
    from bottega.core.home import workshop
    from bottega.core.validate import validate

    loaded = load_recipe(recipe, overrides)
    if loaded.codec.kind == "image":
        from bottega.codecs.image import ImageCodec, PictureSpec
        from bottega.data.pictures.prepare import prepare_pictures

        shape = validate(PictureSpec, loaded.codec.overrides, where="codec")
        return prepare_pictures(loaded.data, ImageCodec.of(shape), home=workshop(), seed=loaded.seed)
    if loaded.codec.kind == "table":
        from bottega.codecs.table import TableCodec
        from bottega.data.tables.prepare import prepare_table

        return prepare_table(loaded.data, TableCodec.of(loaded.codec.overrides), home=workshop(), seed=loaded.seed)
    if loaded.codec.kind == "graph":
        from bottega.codecs.graph import GraphCodec
        from bottega.data.graphs.prepare import prepare_graphs

        return prepare_graphs(loaded.data, GraphCodec.of(loaded.codec.overrides), home=workshop(), seed=loaded.seed)
    from bottega.data.pipeline import prepare

    return prepare(loaded.data, home=workshop(), seed=loaded.seed)


@app.command()
def prepare(recipe: Recipe, overrides: Overrides = None, as_json: Json = False) -> None:
    """Prepare a recipe's data and print the card: counts by stage and reason, sources, licences; of pictures classes.

    Examples:

      bottega data prepare recipes/text-lm.yaml data.sources=[my/folder]

      bottega data prepare recipes/digits-vae.yaml data.sources=[my/pictures] codec.size=32
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
    sheet: Annotated[Path | None, typer.Option(help="Of pictures: PNG file that shows the samples in use.")] = None,
    as_json: Json = False,
) -> None:
    """Look at samples of a recipe's prepared data; nothing is ever deleted, dropped rows are there with their reason.

    Examples:

      bottega data inspect recipes/python-lm.yaml --dropped -n 3

      bottega data inspect recipes/symbols-diffusion.yaml -n 16 --sheet symbols.png
    """
    from bottega.core.errors import InputError
    from bottega.data.dataset import Dataset
    from bottega.data.inspect import samples
    from bottega.data.pictures.inspect import samples as picture_samples
    from bottega.data.tables.dataset import TableDataset
    from bottega.data.tables.inspect import samples as table_samples

    start(as_json)
    dataset = _prepare(recipe, overrides)
    if isinstance(dataset, TableDataset):
        rows = table_samples(dataset, n, seed)
        if as_json:
            emit(rows)
        else:
            _show_summary(dataset, as_json)
            for row in rows:
                typer.echo(", ".join(f"{name} {value}" for name, value in row.items()))
        return
    kept = False if dropped or reason else None
    if isinstance(dataset, Dataset):
        if sheet is not None:
            raise InputError("texts have no sheet", where="--sheet", fix="leave it out, or name a recipe of pictures")
        rows = samples(dataset, reason=reason, kept=kept, n=n, seed=seed)
    else:
        rows = picture_samples(dataset, reason=reason, kept=kept, n=n, seed=seed)
        if sheet is not None:
            _draw(dataset, rows, sheet)
    if as_json:
        emit(rows)
        return
    for row in rows:
        state = "kept" if row.get("keep") else f"dropped: {row.get('reason')}"
        typer.secho(f"\n{row.get('source')} · {row.get('id') or row.get('origin')} · {state}", bold=True)
        shown = [row.get("text"), row.get("class") and f"class {row['class']}", row.get("caption")]
        text = " · ".join(str(part) for part in shown if part)
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


@app.command()
def contamination(
    training: Annotated[str, typer.Argument(help=(
        "What was learnt from: file, folder, dataset, built-in set, or a model (its own data and its ancestors')."))],
    evaluation: Annotated[str, typer.Argument(help="What is measured on: file, folder, dataset or built-in set.")],
    near: Annotated[float, typer.Option(min=0.1, max=1, help="Jaccard similarity from which questions are copies.")]
        = 0.8,
    examples: Annotated[int, typer.Option(min=0, max=1000, help="Examples of each kind to show.")] = 3,
    clean: Annotated[Path | None, typer.Option(help="Write the items without a finding here, as JSONL.")] = None,
    as_json: Json = False,
) -> None:
    """Say how many evaluation items the training data holds: letter by letter, nearly, or 13 words in a row.

    Examples:

      bottega data contamination train.jsonl test.jsonl

      bottega data contamination python-assistant test.jsonl --clean test-clean.jsonl
    """
    from bottega.core.bundle import META
    from bottega.core.files import write_atomic
    from bottega.core.home import workshop
    from bottega.data import questions
    from bottega.data.contamination import find
    from bottega.workshop.learnt import learnt_from

    start(as_json)
    items = list(questions.read(evaluation))
    model = next((path for path in (Path(training), workshop() / "models" / training) if (path / META).is_file()), None)
    learnt = learnt_from([model], workshop()) if model is not None else None
    found = find(learnt.questions() if learnt is not None else questions.read(training, "train"), items, near=near)
    facts = {**found.plain(examples), "lost": learnt.lost if learnt is not None else []}
    if clean is not None:
        write_atomic(clean, "".join(f"{questions.line(items[number])}\n" for number in found.clean))
    if as_json:
        emit(facts)
        return
    typer.echo(f"{found.any} of {found.items} items ({facts['share']:.1%}) overlap with {found.texts} training texts: "
               f"{found.exact} exactly, {found.near} nearly, {found.sequence} in 13 words or more")
    for one in facts["examples"]:
        typer.echo(f"  {one['kind']:8} {one['place']}: {one['text'][:70]!r}\n           in {one['training'][:110]!r}")
    for name in facts["lost"]:
        typer.secho(f"  not looked into, it is no longer here: {name}", fg="yellow")
    if clean is not None:
        typer.echo(f"{len(found.clean)} items without a finding: {clean}")


def _draw(dataset: PictureDataset[ImageCodec], rows: list[dict[str, Any]], path: Path) -> None:
    """Write the samples that are in use as one PNG file, with class or caption under each.

    Raises:
        InputError: all of them were dropped, and the pixels of dropped pictures are not kept.
    """
    from bottega.core.errors import InputError
    from bottega.core.files import write_atomic
    from bottega.data.pictures.inspect import pixels
    from bottega.evaluation.picture_sheet import contact_sheet

    used = [row for row in rows if row["keep"]]
    if not used:
        raise InputError("none of these pictures is in use, so there is nothing to show", where="--sheet",
                         fix="leave out --dropped and --reason")
    labels = [row["class"] or row["caption"] for row in used]
    sheet = contact_sheet(pixels(dataset, used), labels=labels if any(labels) else None, cell=96)
    write_atomic(path, dataset.codec.png(sheet))


def _show_summary(dataset: Dataset | PictureDataset[ImageCodec] | TableDataset[TableCodec], as_json: bool) -> None:
    from bottega.data.dataset import Dataset
    from bottega.data.inspect import summary
    from bottega.data.pictures.inspect import summary as picture_summary
    from bottega.data.tables.dataset import TableDataset
    from bottega.data.tables.inspect import summary as table_summary

    facts: dict[str, Any] = table_summary(dataset) if isinstance(dataset, TableDataset) else \
        summary(dataset) if isinstance(dataset, Dataset) else picture_summary(dataset)
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
