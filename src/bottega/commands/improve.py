"""The verbs of the closed loop: `bottega improve`, `bottega approve`, `bottega reject`, `bottega alias`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bottega.commands.common import Database, Json, actor, emit, open_store, start

if TYPE_CHECKING:
    from bottega.workshop.improvements import Improvement
    from bottega.workshop.store import Store

Which = Annotated[str | None, typer.Argument(help="Id of an improvement, or an alias. Default: the newest that waits.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept in the audit.")]


def improve(
    alias: Annotated[str | None, typer.Argument(help="Alias whose model is to be improved.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help=(
        "Minutes of training. Default: as many steps as fit the number of pairs."))] = None,
    improvement_id: Annotated[str | None, typer.Option("--id", help="Go on with this improvement.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="List improvements, newest first, and do nothing.")] = False,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Learn from feedback: train a challenger, compare it with the model in use, wait for a decision.

    Nothing changes for anyone until 'bottega approve'. Stopped or killed, the same command goes on.

    Examples:

      bottega improve assistant

      bottega improve --list
    """
    from bottega.core.errors import InputError
    from bottega.core.home import workshop
    from bottega.workshop import improvements
    from bottega.workshop.improve import improve as run

    start(as_json)
    with open_store(database) as store:
        if listing:
            found = improvements.listed(store, alias)
            if as_json:
                emit([asdict(each) for each in found])
            for each in found if not as_json else []:
                typer.echo(f"{each.id}  {each.status:10} {each.alias}: {each.champion} → {each.challenger}  "
                           f"{each.updated:%Y-%m-%d %H:%M}")
            return
        if alias is None:
            raise InputError("no alias is given", fix="bottega improve ALIAS; 'bottega alias' lists them")
        done = run(workshop(), store, alias, actor=actor(), minutes=minutes, improvement_id=improvement_id)
    if as_json:
        emit(asdict(done))
    else:
        _show(done)


def approve(which: Which = None, reason: Reason = "", database: Database = None, as_json: Json = False) -> None:
    """Let the alias stand for the challenger from now on; a running server follows.

    Example: bottega approve assistant --reason "warmer tone, same facts"
    """
    from bottega.workshop.improve import approve as decide

    _decide(which, reason, database, as_json, decide)


def reject(which: Which = None, reason: Reason = "", database: Database = None, as_json: Json = False) -> None:
    """Leave the alias as it is; the challenger stays in the workshop under its own name.

    Example: bottega reject assistant --reason "answers became too long"
    """
    from bottega.workshop.improve import reject as decide

    _decide(which, reason, database, as_json, decide)


def alias(
    name: Annotated[str | None, typer.Argument(help="Alias to set.")] = None,
    model: Annotated[str | None, typer.Argument(help="Model it shall stand for.")] = None,
    reason: Reason = "",
    database: Database = None,
    as_json: Json = False,
) -> None:
    """List the aliases, or let one stand for another model; going back is the same command with the old model.

    Examples:

      bottega alias

      bottega alias assistant python-assistant-dpo
    """
    from bottega.core.bundle import find_bundle
    from bottega.core.errors import InputError
    from bottega.core.home import workshop
    from bottega.workshop import registry
    from bottega.workshop.models import Models

    start(as_json)
    with open_store(database) as store:
        models = Models(workshop(), store)
        models.refresh()
        if name is not None:
            if model is None:
                raise InputError(f"which model shall '{name}' stand for?", fix=f"bottega alias {name} MODEL")
            served = models.add(_inside(find_bundle(model, workshop() / "models")))
            registry.point(store, name, served.name, served.digest, actor=actor(), reason=reason)
        found = registry.aliases(store)
    if as_json:
        emit([asdict(each) for each in found.values()])
        return
    for each in found.values():
        typer.echo(f"{each.name:24} {each.model:32} since {each.changed:%Y-%m-%d %H:%M} by {each.changed_by}")
    if not found:
        typer.echo("no aliases yet: bottega alias NAME MODEL")


def _inside(path: Path) -> Path:
    """Refuse a model outside the workshop: a server finds an alias's model by its name."""
    from bottega.core.errors import InputError
    from bottega.core.home import workshop

    if path.resolve().parent != (workshop() / "models").resolve():
        raise InputError(f"{path} is not in this workshop", fix=f"copy the folder to {workshop() / 'models'} first")
    return path


def _decide(which: str | None, reason: str, database: str | None, as_json: bool, decide: Any) -> None:
    from bottega.workshop import improvements

    start(as_json)
    with open_store(database) as store:
        found = _waiting(store, which)
        decide(store, found.id, actor(), reason)
        done = improvements.get(store, found.id)
    if as_json:
        emit(asdict(done))
    else:
        stays = done.champion if done.status == "rejected" else done.challenger
        typer.echo(f"{done.status}: '{done.alias}' stands for {stays}")


def _waiting(store: Store, which: str | None) -> Improvement:
    """Return the improvement of an id, or the newest that waits (of an alias)."""
    from bottega.core.errors import NotFoundError
    from bottega.workshop import improvements, registry

    if which is not None and which not in registry.aliases(store):
        return improvements.get(store, which)
    found = next((each for each in improvements.listed(store, which) if each.status == "waiting"), None)
    if found is None:
        raise NotFoundError(f"no improvement{f' of {which!r}' if which else ''} waits for a decision",
                            fix="make one with 'bottega improve ALIAS'; 'bottega improve --list' shows all")
    return found


def _show(done: Improvement) -> None:
    """Print the comparison and what to do next."""
    typer.secho(f"\n{done.id}: {done.champion} → {done.challenger} ({done.status})", bold=True)
    found = done.comparison
    if found is not None:
        typer.echo(f"  {'on ' + str(found.get('pairs', 0)) + ' held-out pairs':32} {'champion':>10} {'challenger':>10}")
        for judge, one in found.get("judges", {}).items():  # of 'bottega compare'
            rate = one["win_rate"]["rate"]
            typer.echo(f"  {f'won by {judge}':32} {rate['value']:10.3f} [{rate['low']:.3f}, {rate['high']:.3f}]")
        names = {"choice_accuracy": "preferred answer is likelier", "margin": "its lead, log-probability",
                 "chosen_logprob": "its log-probability a token", "likeness": "sampled answer is like it"}
        for key, name in names.items():
            if (row := found.get(key)) is None:
                continue
            change = f"  {row['change']['value']:+.3f} [{row['change']['low']:+.3f}, {row['change']['high']:+.3f}]" \
                if "change" in row else ""
            typer.echo(f"  {name:32} {row['champion']['value']:10.3f} {row['challenger']['value']:10.3f}{change}")
        for key, name, scale in (("length", "tokens an answer", 1.0), ("seconds_per_token", "ms a token", 1e3)):
            row = found[key]
            typer.echo(f"  {name:32} {row['champion'] * scale:10.2f} {row['challenger'] * scale:10.2f}")
        for suite, figures in found["suites"].items():
            for metric, row in figures.items():
                typer.echo(f"  {f'{suite}: {metric}':32} {row['champion']['value']:10.3f} "
                           f"{row['challenger']['value']:10.3f}{'  fell' if row['fell'] else ''}")
        typer.secho(found["sentence"], bold=True)
    if done.status == "waiting":
        typer.echo(f"take it:  bottega approve {done.id}\nleave it: bottega reject {done.id}\n"
                   f"try it:   bottega chat --model {done.challenger}")


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command()(improve)
    app.command()(approve)
    app.command()(reject)
    app.command()(alias)
