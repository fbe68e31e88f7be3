"""`bottega compare`: is the challenger better than the champion, by whom, at what cost, and for how sure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bottega.commands.common import Database, Json, actor, emit, open_store, start
from bottega.commands.controls import with_controls

if TYPE_CHECKING:
    from bottega.core.request import Controls


@with_controls
def compare(
    champion: Annotated[str | None, typer.Argument(help="Model in use: alias, name or folder.")] = None,
    challenger: Annotated[str | None, typer.Argument(help="Model that may take its place.")] = None,
    on: Annotated[list[str] | None, typer.Option(help=(
        "Where the questions come from: file, dataset, exported preferences or built-in set (repeatable). Default: "
        "what was held out of the challenger's data."))] = None,
    judge: Annotated[list[str] | None, typer.Option(help=(
        "answer, exact, json[:SCHEMA.json], regex:PATTERN, people, a model (of rewards or of texts), or "
        "https://host/v1#MODEL with its key in BOTTEGA_JUDGE_KEY (repeatable)."))] = None,
    suite: Annotated[list[str] | None, typer.Option(help=(
        "Suite of known skills (repeatable; 'none' for none). Default: those of the champion's recipe."))] = None,
    held_out: Annotated[list[str] | None, typer.Option(help=(
        "Texts, or conversations with the right answer, whose loss is compared (repeatable)."))] = None,
    cases: Annotated[int, typer.Option(min=1, max=100_000, help="Questions at most, and cases a suite.")] = 100,
    propose: Annotated[bool, typer.Option("--propose", help=(
        "Let a person decide: 'bottega approve' then moves the champion's alias."))] = False,
    round_id: Annotated[str | None, typer.Option("--round", help="Count the votes of a round, and do nothing.")] = None,
    database: Database = None,
    as_json: Json = False,
    controls: Controls | None = None,
) -> None:
    """Compare two models: win rate by a judge, regressions, latency, contamination; a report for a person to decide.

    Nothing changes for anyone. Stopped or killed, the same command goes on where it was.

    Examples:

      bottega compare assistant python-assistant-dpo --on questions.jsonl --judge answer

      bottega compare assistant mine --judge rewards --judge people --propose

      bottega compare --round ro-…
    """
    from bottega.core.errors import InputError

    start(as_json)
    if round_id is not None:
        _count(round_id, database, as_json)
        return
    if champion is None or challenger is None:
        raise InputError("two models are compared", fix="bottega compare CHAMPION CHALLENGER --on questions.jsonl")
    _compare(champion, challenger, {"sources": on or [], "judges": judge or [], "held_out": held_out or [],
                                    "cases": cases}, suite, controls, propose, database, as_json)


def _compare(champion: str, challenger: str, options: dict[str, Any], suite: list[str] | None,
             controls: Controls | None, propose: bool, database: str | None, as_json: bool) -> None:
    import asyncio

    from bottega.core.bundle import Bundle
    from bottega.core.home import workshop
    from bottega.core.request import Controls
    from bottega.evaluation import suites
    from bottega.workshop import proof
    from bottega.workshop.judging import serve
    from bottega.workshop.workshop import Workshop

    opened = Workshop.open(workshop(), database=database or os.environ.get("BOTTEGA_DATABASE") or None, scan=False)
    runner = asyncio.Runner()
    try:
        models = [serve(opened, name) for name in (champion, challenger)]
        own = Bundle.open(models[0].path).meta.get("recipe", {}).get("evaluation", {}).get("suites", [])
        for name in suite or []:
            if name != "none":
                suites.check(name)
        given = controls or Controls()
        plan = proof.Plan(champion=models[0], challenger=models[1], **options,
                          suites=[name for name in suite or own if name != "none"], seed=given.seed or 0,
                          controls=given.model_copy(update={"seed": None}))
        found = proof.prove(opened, plan, runner.run, actor=actor())
        waiting = proof.propose(opened, champion, plan, found, actor()) if propose else None
    finally:
        runner.run(opened.close(grace=0.0))
        runner.close()
    if waiting is not None:
        found["improvement"] = waiting.id
    if as_json:
        emit(found)
    else:
        _show(found)


def _count(round_id: str, database: str | None, as_json: bool) -> None:
    """Print what people said in a round."""
    from bottega.core.home import workshop
    from bottega.workshop import rounds

    with open_store(database) as store:
        found = rounds.load(workshop(), round_id)
        said = rounds.result(store, found)
    said |= {"champion": found.champion, "challenger": found.challenger}
    if as_json:
        emit(said)
        return
    typer.secho(f"{found.id}: {found.challenger} against {found.champion}", bold=True)
    typer.echo(f"  {said['voted']} of {said['questions']} questions judged by {said['agreement']['raters']} people; "
               f"{said['consent']['given']} votes may be learnt from, {said['consent']['withheld']} may not")
    if said["win_rate"] is None:
        typer.echo("  nobody has voted yet: bottega serve, then /compare")
        return
    _win_rate("people", said["win_rate"])
    equal, alpha = said["agreement"]["equal"], said["agreement"]["alpha"]
    if equal is not None:
        typer.echo(f"  {'agreement':32} {equal:.0%} of pairs on {said['agreement']['shared']} shared questions"
                   + (f", Krippendorff's alpha {alpha:.2f}" if alpha is not None else ""))


def _win_rate(name: str, found: dict[str, Any]) -> None:
    rate = found["rate"]
    typer.echo(f"  {name[:32]:32} {rate['value']:6.1%} [{rate['low']:.1%}, {rate['high']:.1%}]  {found['wins']} won, "
               f"{found['ties']} tied, {found['losses']} lost on {found['prompts']} prompts")


def _show(found: dict[str, Any]) -> None:
    """Print the comparison and what to do next."""
    models, asked = found["models"], found["questions"]
    typer.secho(f"\n{models['challenger']['name']} against {models['champion']['name']}", bold=True)
    typer.echo(f"  {asked['answered']} of {asked['asked']} questions answered by both")
    for reason, count in asked["missing"].items():
        typer.echo(f"  {count} count for neither: {reason}")
    for name, one in found["judges"].items():
        _win_rate(f"won by {name}", one["win_rate"])
        if one["kind"] == "model":
            typer.echo(f"  {'':32} same verdict in both orders {one['consistent']:.0%}; the place decided in "
                       f"{one['first'] + one['second']:.0%} (first {one['first']:.0%}, second {one['second']:.0%})")
        for reason, count in one["missing"].items():
            typer.echo(f"  {'':32} {count} pairs not judged: {reason}")
        if "right" in one:
            typer.echo(f"  {'':32} right {one['right']['champion']['value']:.1%} → "
                       f"{one['right']['challenger']['value']:.1%}, p {one['right']['p']:.3f} (McNemar)")
    rows = [(f"bits per byte, {name}", row) for name, row in found["held_out"].items()]
    rows += [(f"{suite}: {name}", row) for suite, figures in found["suites"].items() for name, row in figures.items()]
    rows += [(label, found["speed"][name]) for name, label in (
        ("first_token_ms", "first token, ms"), ("ms_a_token", "a token, ms")) if name in found["speed"]]
    for name, row in rows:
        change = row["change"]
        typer.echo(f"  {name[:32]:32} {row['champion']['value']:10.3f} {row['challenger']['value']:10.3f}  "
                   f"{change['value']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]"
                   f"{'  worse' if row['fell'] else ''}")
    dirty = found["contamination"]
    typer.echo(f"  {dirty['any']} of {dirty['items']} questions overlap with {dirty['texts']} training texts "
               f"({dirty['exact']} exactly, {dirty['near']} nearly, {dirty['sequence']} in 13 words)")
    for name in dirty["lost"]:
        typer.echo(f"  not looked into, it is no longer in the workshop: {name}")
    typer.secho(found["sentence"], bold=True)
    typer.echo(f"report: {found['report']['path']}")
    if "round" in found:
        typer.echo(f"people vote: bottega serve, then /compare/{found['round']}\n"
                   f"count them:  bottega compare --round {found['round']}")
    if "improvement" in found:
        typer.echo(f"take it:  bottega approve {found['improvement']}\nleave it: bottega reject {found['improvement']}")


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(compare)
