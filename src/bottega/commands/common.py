"""What several verbs share: printing for scripts, the workshop's store, and finding the model meant."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from bottega.generation.engine import Engine
    from bottega.workshop.store import Store

Database = Annotated[str | None, typer.Option(envvar="BOTTEGA_DATABASE", help=(
    "Store, as sqlite:///file or postgresql://user@host/name. Default: workshop.db in the workshop."))]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value for scripts, nothing else on stdout.")]
ModelName = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Name in the workshop or path of a model folder. Default: the newest."),
]


def start(as_json: bool) -> None:
    """Silence progress when the output is for a script."""
    from bottega.core.progress import set_quiet

    set_quiet(as_json)


def emit(value: Any) -> None:
    """Print one JSON value on stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def actor() -> str:
    """Return who is at the command line, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return "cli"


@contextmanager
def open_store(database: str | None) -> Iterator[Store]:
    """Yield the workshop's store, or the one at an address."""
    from bottega.core.home import workshop
    from bottega.workshop.store import Store

    store = Store.open(workshop(), database)
    try:
        yield store
    finally:
        store.close()


def medium_of(path: Path) -> str:
    """Return what a model makes: `text`, `image`, `table`, `graph`, or `reward` (judgements); `text` where its folder
    cannot be read."""
    from bottega.core.bundle import META
    from bottega.core.errors import BottegaError
    from bottega.core.files import read_json

    try:
        meta = read_json(path / META)
        kind = meta.get("codec")
        if meta.get("objective") == "reward":
            return "reward"
        return kind if kind in ("image", "table", "graph") else "text"
    except (BottegaError, AttributeError):
        return "text"


def model_path(name: str | None, medium: str | None = None) -> Path:
    """Return the folder of the named model, or of the newest one in the workshop.

    Args:
        name: of a model; None: the newest.
        medium: without a name, only models that make this (`text`, `image`, `table` or `graph`).

    Raises:
        InputError: there is no such model, or none at all.
    """
    from bottega.core.bundle import bundles, find_bundle
    from bottega.core.errors import InputError
    from bottega.core.home import workshop

    models = workshop() / "models"
    if name is not None:
        return find_bundle(name, models)
    found = [path for path in bundles(models) if medium in (None, medium_of(path))]
    if not found:
        kind = {"image": " of pictures", "table": " of tables", "graph": " of graphs"}.get(medium or "", "")
        raise InputError(f"there is no model{kind} in this workshop yet", where=str(models.resolve()),
                         fix="run 'bottega demo' or 'bottega train RECIPE', or name one with --model")
    return found[0]


def open_engine(name: str | None) -> Engine:
    """Load and verify the named (or newest) model of texts, ready to generate."""
    from bottega.generation.engine import Engine

    return Engine.open(model_path(name, "text"))
