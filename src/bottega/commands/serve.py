"""The verbs of the server: `bottega serve` opens API and studio, `bottega keys` says who may come in."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bottega.commands.common import Database, Json, emit, open_store, start

if TYPE_CHECKING:
    from bottega.workshop.keys import KeyInfo

keys_app = typer.Typer(no_args_is_help=True, help="Keys for servers that others can reach.")
_SHOWN = 5  # models named at the start; /v1/models lists all


def serve(
    model: Annotated[list[str] | None, typer.Argument(help="Models and aliases to serve. Default: all.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine keys are needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8400,
    database: Database = None,
    slots: Annotated[int, typer.Option(min=1, max=4096, help="Outputs made at the same time.")] = 64,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; more are told to come back.")] = 256,
    public_host: Annotated[list[str] | None, typer.Option(
        help="Name under which a proxy on this machine passes requests on; keys are needed then.")] = None,
    as_json: Json = False,
) -> None:
    """Serve the workshop: an OpenAI-compatible API under /v1 and the studio in the browser.

    A model is loaded when it is first asked for, the first of the list at once. Ctrl-C or SIGTERM finishes what runs.
    Works, feedback and keys are kept in the workshop's folder, or in the database that BOTTEGA_DATABASE names.

    Examples:

      bottega serve

      bottega keys create team && bottega serve --host 0.0.0.0
    """
    # Threads that wait for work spin: one core is left for HTTP, or a stream gets half its speed on two cores.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cores() - 1)))
    from bottega.core.home import workshop as home
    from bottega.server.run import address, bind, is_loopback

    start(as_json)
    listener = bind(host, port)  # first of all: a taken port is told at once, and early requests wait in the backlog
    from bottega.core.errors import InputError
    from bottega.server import hosts
    from bottega.server.app import create_app
    from bottega.server.run import Server
    from bottega.studio.app import add_studio
    from bottega.workshop import keys
    from bottega.workshop.improve import resume_improvements
    from bottega.workshop.workshop import Workshop

    here = is_loopback(host)
    keys_required = not here or bool(public_host)
    workshop = Workshop.open(home(), database=database, only=model or None, slots=slots, queue=queue)
    if keys_required and not any(key.active for key in keys.listed(workshop.store)):
        raise InputError("others could reach this server, and there is no key to keep strangers out",
                         fix="make one with 'bottega keys create NAME', or serve 127.0.0.1 only")
    served = workshop.models.served()
    names = [each.id for each in served]
    url = address(listener)
    app = create_app(workshop, keys_required=keys_required, queue=queue,
                     allowed_hosts=hosts.names(url, public_host or []) if here else ["*"])
    add_studio(app, workshop, keys_required=keys_required)
    resume_improvements(workshop)

    def ready() -> None:
        if as_json:
            print(json.dumps({"url": url, "models": names}), flush=True)
        else:
            shown = ", ".join(names[:_SHOWN]) or "none yet, make one with 'bottega demo'"
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            typer.echo(f"studio  {url}\nAPI     {url}/v1{' (with a key)' if keys_required else ''}\n"
                       f"models  {shown}{more}\nCtrl-C finishes what runs and stops.")

    Server(app, ready, load=served[:1]).run(sockets=[listener])


@keys_app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who or what will use it.")],
    days: Annotated[int | None, typer.Option(help="How long it is valid. Default: for ever.")] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Make a key and show its secret, this once."""
    from bottega.workshop import keys

    start(as_json)
    with open_store(database) as store:
        info, secret = keys.create(store, name, days=days, actor="cli")
    if as_json:
        emit({**_plain(info), "key": secret})
    else:
        typer.echo(f"{secret}\nkeep it now, it is not shown again; close it with 'bottega keys revoke {info.prefix}'")


@keys_app.command(name="list")
def listed(database: Database = None, as_json: Json = False) -> None:
    """List the keys, newest first; secrets are not kept and not shown."""
    from bottega.workshop import keys

    start(as_json)
    with open_store(database) as store:
        found = keys.listed(store)
    if as_json:
        emit([_plain(info) for info in found])
        return
    if not found:
        typer.echo("no keys yet: make one with 'bottega keys create NAME'")
    for info in found:
        state = "valid" if info.active else "revoked" if info.revoked else "expired"
        used = f"{info.last_used:%Y-%m-%d %H:%M}" if info.last_used else "never"
        typer.echo(f"{info.prefix}…  {info.name:24} {state:8} made {info.created:%Y-%m-%d}  used {used}")


@keys_app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Id or first characters of a key, as 'bottega keys list' shows them.")],
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Close a key for ever; a running server refuses it from the next request on."""
    from bottega.workshop import keys

    start(as_json)
    with open_store(database) as store:
        info = keys.revoke(store, key, "cli")
    if as_json:
        emit(_plain(info))
    else:
        typer.echo(f"{info.prefix}… ({info.name}) is closed")


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plain(info: KeyInfo) -> dict[str, Any]:
    """Return what may be told of a key, ready for JSON."""
    times = {name: getattr(info, name) for name in ("created", "expires", "last_used", "revoked")}
    return {"id": info.id, "name": info.name, "prefix": info.prefix, "active": info.active,
            **{name: time.isoformat() if time else None for name, time in times.items()}}


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command()(serve)
    app.add_typer(keys_app, name="keys")
