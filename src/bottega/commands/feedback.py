"""`bottega feedback`: what people said about outputs, here and elsewhere, and the sets that come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bottega.commands.common import Database, Json, emit, open_store, start

_FORMS = "pandalm, finegrained, llmbar or records"
app = typer.Typer(no_args_is_help=True, help="What people said about outputs; export it as preferences.")


@app.command()
def stats(
    source: Annotated[Path | None, typer.Argument(help="A file of judgements, or a folder that 'import' wrote. "
                                                       "Default: the feedback of the workshop.")] = None,
    form: Annotated[str | None, typer.Option(help=f"How the file is written: {_FORMS}. Default: told by its keys."
                                             )] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Count the feedback of each alias, the pairs that can teach, and how far raters agree and what sways them.

    Example: bottega feedback stats
    """
    from bottega.workshop import feedback, judgements, outside, preferences, registry

    start(as_json)
    if source is not None:
        told = judgements.report(outside.Imported.open(source).judgements() if source.is_dir()
                                 else outside.read(source, form)[0])
        emit(told) if as_json else _tell(told)
        return
    rows: dict[str, dict[str, Any]] = {}
    with open_store(database) as store:
        for alias in registry.aliases(store):
            found = preferences.collect(store, preferences.rated_models(store, alias))
            rows[alias] = {**feedback.counts(store, alias), "pairs": len(found.pairs), "prompts": len(found.prompts),
                           "raters": len(found.raters), "left_out": found.left_out,
                           "contradictions": len(found.contradictions)}
        whole = {**feedback.counts(store), "pairs": len(preferences.collect(store).pairs)}
        people = judgements.report(preferences.judgements(store)[0])
    if as_json:
        emit({"all": whole, "aliases": rows, "needed": preferences.LEAST_PAIRS, "raters": people})
        return
    for alias, row in rows.items():
        typer.secho(alias, bold=True)
        typer.echo(f"  {row['up']} up · {row['down']} down · {row['score']} scores · {row['choice']} choices · "
                   f"{row['edit']} edits · {row['comment']} comments")
        typer.echo(f"  {row['pairs']} preference pairs on {row['prompts']} prompts by {row['raters']} raters")
        for reason, number in row["left_out"].items():
            typer.echo(f"  {number} not used: {reason}")
        missing = preferences.LEAST_PAIRS - row["pairs"]
        typer.echo(f"  {missing} more pairs and it can be improved" if missing > 0
                   else f"  ready: bottega improve {alias}")
    typer.echo(f"all models: {whole['pairs']} preference pairs, {whole['up'] + whole['down']} thumbs")
    if people["judgements"]:
        _tell(people)


def _tell(told: dict[str, Any]) -> None:
    """Print what judgements say about the raters."""
    typer.echo(f"{told['judgements']} judgements of {told['items']} items ({told['prompts']} prompts) by "
               f"{told['raters']} raters: {told['ties']} ties, {told['disagreements']} items with disagreement")
    agreed = told["agreement"]
    if agreed is None:
        typer.echo("  no item was judged by two raters: nothing is known of their agreement")
    else:
        typer.echo(f"  the same in {_shown(agreed['same'], percent=True)} of pairs of ratings")
        typer.echo(f"  Krippendorff's alpha {_shown(agreed['alpha'])}, ordinal {_shown(agreed['alpha_ordinal'])}"
                   + (f"; Fleiss' kappa {agreed['fleiss']:.3f}" if agreed["fleiss"] is not None else ""))
        for each in agreed["kappa"]:
            typer.echo(f"  {' and '.join(each['raters'])}: Cohen's kappa {_shown(each)}")
    for name, lean in (("all", told["leaning"]), *told["by_rater"].items()):
        parts = [f"{word} in {_shown(lean[key], percent=True)}"
                 for key, word in (("longer", "the longer answer"), ("first", "the first shown")) if lean[key]]
        if parts and (name == "all" or told["raters"] > 1):
            typer.echo(f"  {name} chose {', '.join(parts)}")
    if told["cycles"] is not None:
        typer.echo(f"  of three answers A over B over C over A in {_shown(told['cycles'], percent=True)}")


def _shown(figure: dict[str, Any], percent: bool = False) -> str:
    """Return a figure with interval and n."""
    if figure["value"] is None:
        return f"not defined (n {figure['n']})"
    value, low, high = (figure[key] * (100 if percent else 1) for key in ("value", "low", "high"))
    digits = 1 if percent else 3
    return (f"{value:.{digits}f}{' %' if percent else ''} ({low:.{digits}f} to {high:.{digits}f}, n {figure['n']})")


@app.command()
def export(
    model: Annotated[str | None, typer.Argument(help="Alias, with all models it ever stood for, or a model's name. "
                                                     "Default: all models.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help=(
        "New folder to write. Default: the workshop's feedback folder."))] = None,
    what: Annotated[str, typer.Option(help=(
        "pairs: what the majority prefers, for 'improve'; choices: a row a rater; thumbs: good and bad answers."
    ))] = "pairs",
    split: Annotated[str, typer.Option(help=(
        "What is held out of choices and thumbs: a quarter of the prompts, or of the raters."))] = "prompts",
    licence: Annotated[str, typer.Option(help="SPDX expression of what people wrote.")] = "unknown",
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Write preferences or ratings as JSONL: to learn from and, apart, held out; with lineage and a manifest.

    The folder stays when the workshop's retention_days forget the feedback in it; delete it to forget that too.

    Example: bottega feedback export assistant -o my-preferences
    """
    from bottega.core.errors import InputError
    from bottega.core.home import workshop
    from bottega.workshop import outside, preferences, registry

    start(as_json)
    _known(what, ("pairs", "choices", "thumbs"), "--what")
    _known(split, ("prompts", "raters"), "--split")
    if what == "pairs" and split == "raters":
        raise InputError("pairs are what the majority prefers, and have no rater to hold out", where="--split",
                         fix="use --what choices")
    with open_store(database) as store:
        models = None
        if model is not None:
            models = preferences.rated_models(store, model) or [registry.model(store, model).name]
        if what != "pairs":
            made = outside.from_store(store, workshop(), models, what=what, split=split,  # type: ignore[arg-type]
                                      folder=output, licence=licence)
            _made(made.path, made.card, as_json)
            return
        found = preferences.export(store, workshop(), models, folder=output, licence=licence)
    if as_json:
        emit(found.plain())
        return
    typer.echo(f"{found.path}: {found.pairs} pairs to learn from, {found.held_out} held out")
    for reason, number in found.left_out.items():
        typer.echo(f"  {number} not used: {reason}")
    for row in found.contradictions:
        typer.echo(f"  raters disagree {row['for']} to {row['against']}: {', '.join(row['feedback'])}")


@app.command(name="import")
def bring(
    file: Annotated[Path, typer.Argument(help="JSONL, JSON, CSV or Parquet with judgements of people.")],
    form: Annotated[str | None, typer.Option(help=f"How it is written: {_FORMS}. Default: told by its keys.")] = None,
    votes: Annotated[str, typer.Option(help="each: a row a rater; majority: one a pair, with a margin.")] = "each",
    split: Annotated[str, typer.Option(help=(
        "What is held out: a quarter of the prompts, or of the raters."))] = "prompts",
    output: Annotated[Path | None, typer.Option("--output", "-o", help=(
        "New folder to write. Default: in the workshop's feedback folder."))] = None,
    licence: Annotated[str, typer.Option(help="SPDX expression of the file.")] = "unknown",
    as_json: Json = False,
) -> None:
    """Bring in judgements that were made elsewhere: pairs or ratings to learn from, and, apart, held out.

    They become a folder with card and lineage, not feedback in the store, which is about outputs made here.

    Example: bottega feedback import pandalm.json --votes majority
    """
    from bottega.core.home import workshop
    from bottega.workshop import outside

    start(as_json)
    _known(votes, ("each", "majority"), "--votes")
    _known(split, ("prompts", "raters"), "--split")
    found = outside.bring_in(file, workshop(), form=form, votes=votes, split=split,  # type: ignore[arg-type]
                             folder=output, licence=licence)
    _made(found.path, found.card, as_json)


def _known(value: str, known: tuple[str, ...], option: str) -> None:
    from bottega.core.errors import InputError, suggest

    if value not in known:
        raise InputError(f"'{value}' is not known", where=option, fix=suggest(value, known))


def _made(path: Path, card: dict[str, Any], as_json: bool) -> None:
    """Tell of a set of judgements that was written."""
    if as_json:
        emit({"path": str(path), **card})
        return
    typer.echo(f"{path}: {card['training']} rows to learn from, {card['held_out']} held out"
               + (f" ({card['form']})" if "form" in card else ""))
    for reason, number in card.get("skipped", {}).items():
        typer.echo(f"  {number} left out ({reason}), for instance {card['skipped_examples'][reason][0]}")
    if card["empty"]:
        typer.echo(f"  {card['empty']} judgements about an empty answer are counted, not learnt from")
    _tell(card)
    name = "ratings" if card["kind"] == "rating" else "preferences"
    typer.echo(f"learn from it: data.sources=[{path / name}.jsonl]")
