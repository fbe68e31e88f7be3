"""The `bottega` command: every verb, thin. `bottega --help` lists them, `bottega VERB --help` teaches one.

Nothing heavy is imported here: each verb imports what it needs when it runs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from types import FrameType

import typer

from bottega import __version__
from bottega.commands import (
    adapters,
    compare,
    data,
    distil,
    exchange,
    feedback,
    improve,
    look,
    make,
    serve,
    settings,
    table_release,
    tables,
    use,
)
from bottega.core.errors import BottegaError, Interrupted

app = typer.Typer(
    name="bottega",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="The open workshop for generative AI: bring your data, leave with your own generators.\n\n"
    "Start with [bold]bottega demo[/bold]; then [bold]bottega chat[/bold].",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bottega {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Hold the options that belong to no verb."""


make.register(app)
use.register(app)
exchange.register(app)
look.register(app)
distil.register(app)
serve.register(app)
improve.register(app)
compare.register(app)
settings.register(app)
app.add_typer(adapters.app, name="adapter")
app.add_typer(feedback.app, name="feedback")
app.add_typer(data.app, name="data")
table_release.register(tables.app)
app.add_typer(tables.app, name="table")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted("stopped by you", fix="run the same command again ('bottega train' and 'bottega distil' with "
                                            "--resume): finished parts are reused")


def main() -> None:
    """Run the command line; errors made on purpose end with one message and their exit code, never a traceback."""
    signal.signal(signal.SIGINT, _interrupt)
    # read when torch is loaded: a thread that waits by spinning takes the processor from all others (docs/notes.md)
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        app()
    except BottegaError as error:
        if "--json" in sys.argv:
            record = {"type": type(error).__name__, "problem": error.problem, "where": error.where, "fix": error.fix}
            print(json.dumps({"error": record}, ensure_ascii=False))
        else:
            print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
