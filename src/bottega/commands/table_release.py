"""`bottega table release`: rows of a model leave against the gate, because a person says why; or no longer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bottega.commands.common import Database, Json, actor, emit, model_path, open_store, start


def release(
    name: Annotated[str, typer.Argument(help="Model of a table, or its folder.")],
    reason: Annotated[str, typer.Option(help="Why its rows may leave all the same; it is kept in the audit.")] = "",
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take it back: no row leaves any more.")] = False,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Let rows of a model leave although its last verdict speaks against it: you answer for it, by name and reason.

    It holds for this model and this verdict only: made again, or judged again with another outcome, it is refused
    again.

    Examples:

      bottega table release patients --reason "stays inside the clinic, approved by the data protection officer"

      bottega table release patients --withdraw
    """
    from bottega.core.bundle import Bundle
    from bottega.core.home import workshop
    from bottega.workshop import registry
    from bottega.workshop import release as gate

    start(as_json)
    with open_store(database) as store:
        alias = registry.aliases(store).get(name)
        bundle = Bundle.open(model_path(alias.model if alias else name))
        act = gate.withdraw if withdraw else gate.release
        found = act(store, workshop(), bundle.name, bundle.digest, actor=actor(), reason=reason)
    if as_json:
        emit({"model": bundle.name, "model_digest": bundle.digest, "released": not found.refused,
              "against": found.reasons, "audit_event": found.override.sequence if found.override else None})
        return
    typer.secho(f"rows of {bundle.name} {'are not released' if found.refused else 'are released'}", bold=True)
    for each in found.reasons:
        typer.echo(f"  against it: {each}")
    if found.override is not None:
        typer.echo(f"  event {found.override.sequence} of the audit; take it back: "
                   f"bottega table release {name} --withdraw")


def require(path: Path) -> None:
    """Refuse what would let values of a model out that are not released.

    Raises:
        ReleaseError: its last verdict has reasons and nobody overrode it.
    """
    from bottega.core.bundle import Bundle
    from bottega.core.home import workshop
    from bottega.workshop import release as gate

    bundle = Bundle.open(path)
    with open_store(os.environ.get("BOTTEGA_DATABASE") or None) as store:
        gate.require(store, workshop(), bundle.name, bundle.digest)


def register(app: typer.Typer) -> None:
    """Add this verb to `bottega table`."""
    app.command()(release)
