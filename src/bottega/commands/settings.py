"""What a workshop keeps and lets out, `bottega settings`; what was done in it and by whom, `bottega audit`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from bottega.commands.common import Database, Json, actor, emit, open_store, start


def settings(
    changes: Annotated[list[str] | None, typer.Argument(
        metavar="NAME=VALUE…", help="Settings to change, values as JSON. Default: list all.")] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """List the workshop's settings, or change some: all of them or, if one is not allowed, none.

    retention_days: days that prompts, outputs and words of feedback are kept; -1 for ever, 0 never. It holds at once.

    guard: what stands in the guard's policy instead of its defaults. A running server takes it at its next start.

    Examples:

      bottega settings

      bottega settings retention_days=30 'guard={"actions": {"email": "redact"}}'
    """
    from bottega.workshop import settings as kept

    start(as_json)
    values = dict(_parsed(change) for change in changes or [])
    with open_store(database) as store:
        if values:
            kept.put_all(store, values, actor())
        found = kept.all(store)
    if as_json:
        emit(found)
        return
    for name, value in found.items():
        typer.echo(f"{name:16} {json.dumps(value, ensure_ascii=False)}")
    if "guard" in values:
        typer.echo("a running server takes the guard's policy at its next start", err=True)


def audit(
    limit: Annotated[int, typer.Option(min=1, help="At most this many events, the newest.")] = 50,
    action: Annotated[str | None, typer.Option(help="Only this action, such as request, feedback, alias.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only about this: an id, an alias, a setting.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check the whole chain instead of listing events.")] = False,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """List what was done and by whom, newest first; never what was written.

    Examples:

      bottega audit --action alias --subject assistant

      bottega audit --verify
    """
    from bottega.workshop import audit as log

    start(as_json)
    with open_store(database) as store:
        if verify:
            number = log.verify(store)
        else:
            events = log.events(store, limit=limit, action=action, subject=subject)
    if verify:
        if as_json:
            emit({"events": number})
        else:
            typer.echo(f"the chain holds: {number} events, none changed, removed or put in")
    elif as_json:
        emit([{**asdict(event), "created": event.created.isoformat()} for event in events])
    else:
        for event in events:
            typer.echo(f"{event.sequence:6}  {event.created:%Y-%m-%d %H:%M:%S}  {event.actor}  {event.action}  "
                       f"{event.subject}  {json.dumps(event.detail)}")


def _parsed(change: str) -> tuple[str, Any]:
    """Return name and value of NAME=VALUE; what is no JSON is a text."""
    from bottega.core.errors import InputError

    name, equals, value = change.partition("=")
    if not equals:
        raise InputError(f"'{change[:100]}' names no value", fix="write NAME=VALUE, as in retention_days=30")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command()(settings)
    app.command()(audit)
