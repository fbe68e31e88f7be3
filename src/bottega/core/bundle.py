"""A finished model as a folder that other programs load too: `bottega models` lists them.

    config.json, model.safetensors, tokenizer.json …   what the family and the codec write (Hugging Face names for LMs)
    bottega.json     family, codec, objective, default controls, recipe, metrics
    lineage.json     where it came from
    README.md        the model card
    manifest.json    SHA-256 of every file: one flipped bit is refused on load
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bottega.core.errors import CorruptError, InputError, suggest
from bottega.core.files import (
    MANIFEST,
    TEMPORARY,
    atomic_dir,
    digest_json,
    file_table,
    read_json,
    verify_manifest,
    write_json,
)
from bottega.core.lineage import Lineage
from bottega.core.request import Controls

META = "bottega.json"
# objectives whose models answer conversations
ANSWERING = frozenset({"sft", "dpo", "kto", "orpo", "distil", "grpo", "ppo"})
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # of models


class Bundle:
    """A verified model folder.

    Attributes:
        path: the folder.
        meta: content of `bottega.json`: `family`, `codec`, `objective`, `controls`, `recipe`, `metrics`, `derived`.
        digest: SHA-256 over the manifest.
    """

    def __init__(self, path: Path, meta: dict[str, Any], digest: str) -> None:
        self.path, self.meta, self.digest = path, meta, digest

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def controls(self) -> Controls:
        """The default controls that came with the model."""
        return Controls.parse(self.meta.get("controls", {}), where=str(self.path / META))

    @property
    def lineage(self) -> Lineage:
        """The birth certificate."""
        return Lineage.load(self.path)

    @staticmethod
    def open(path: Path) -> Bundle:
        """Verify a folder file by file and read its description.

        Raises:
            InputError: no such folder, or not a bundle.
            CorruptError: a file does not match the manifest; the message names it.
        """
        if not path.is_dir():
            raise InputError(f"{path} is not a model folder", fix="see 'bottega models'")
        if not (path / META).is_file() and not (path / MANIFEST).is_file():
            raise InputError(f"{path} holds no {META}: it is not a Bottega bundle", fix="see 'bottega models'")
        digest = verify_manifest(path)
        meta = read_json(path / META)
        if not isinstance(meta, dict) or "family" not in meta:
            raise CorruptError(f"{path / META} does not name a family", fix="make the model again")
        return Bundle(path, meta, digest)

    @staticmethod
    def create(path: Path, *, meta: dict[str, Any], lineage: Callable[[str], Lineage],
               write: Callable[[Path], None], card: str, replace: bool = True) -> Bundle:
        """Write a new bundle atomically.

        Args:
            path: final folder.
            meta: content of `bottega.json`.
            lineage: makes the lineage, given the digest of all files but itself and the manifest.
            write: writes weights, configuration and codec files into the folder it is given.
            card: text of the model card.
            replace: swap out a bundle of the same name.

        Raises:
            ResourceError: the disk is full; an existing bundle is untouched.
        """
        with atomic_dir(path, replace=replace) as folder:
            write(folder)
            write_json(folder / META, meta)
            (folder / "README.md").write_text(card, encoding="utf-8")
            lineage(digest_json(file_table(folder))).save(folder)
        return Bundle.open(path)


def check_name(name: str) -> str:
    """Return a model's name if it can be one: a name is a folder's.

    Raises:
        InputError: it cannot.
    """
    if not re.fullmatch(NAME, name):
        raise InputError(f"'{name[:100]}' cannot be a model's name", fix="use letters, digits, '.', '_' and '-', "
                                                                         "beginning with a letter or a digit")
    return name


def bundles(models: Path) -> list[Path]:
    """Return the finished model folders of a workshop, newest first; what a killed process left is no model."""
    found = models.iterdir() if models.is_dir() else iter(())
    kept = [path for path in found if (path / META).is_file() and TEMPORARY not in path.name]
    return sorted(kept, key=lambda path: (path / META).stat().st_mtime, reverse=True)


def find_bundle(name: str, models: Path) -> Path:
    """Return the folder of a model given by name (in the workshop's `models/`) or by path.

    Raises:
        InputError: there is none; the message suggests the nearest name.
    """
    direct = Path(name)
    if (direct / META).is_file() or (direct / MANIFEST).is_file():
        return direct
    if "/" not in name and "\\" not in name and (models / name).is_dir():
        return models / name
    known = [path.name for path in bundles(models)]
    raise InputError(f"unknown model '{name}'", where=str(models),
                     fix=suggest(name, known) if known else "no models yet: run 'bottega demo' or 'bottega train'")
