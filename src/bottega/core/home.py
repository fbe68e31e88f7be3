"""The workshop folder: where datasets, runs and models of one project live.

`BOTTEGA_HOME`, else `./workshop`. Layout: data/ (prepared datasets), codecs/, runs/ (training in progress and its
logs), models/ (finished bundles), verdicts/ (of the release gate, on models of tables), cache/.
"""

from __future__ import annotations

import os
from pathlib import Path

import bottega
from bottega.core.errors import InputError, suggest


def workshop() -> Path:
    """Return the workshop folder (it may not exist yet)."""
    return Path(os.environ.get("BOTTEGA_HOME") or "workshop").expanduser()


def recipe_path(name: str | Path) -> Path:
    """Return the file of a recipe that comes with Bottega, by name with or without folder and `.yaml`.

    Raises:
        InputError: there is no such recipe.
    """
    package = Path(bottega.__file__).parent
    folder = next(f for f in (package / "recipes", package.parents[1] / "recipes") if f.is_dir())
    path = folder / f"{Path(name).name.removesuffix('.yaml')}.yaml"
    if not path.is_file():
        known = [f"recipes/{file.name}" for file in folder.glob("*.yaml")]
        raise InputError(f"recipe {name} is not there", fix=suggest(str(name), known))
    return path
