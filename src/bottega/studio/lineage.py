"""A model's ancestors as the pages show them: nearest first, back to the datasets and their licences."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bottega.core.bundle import META
from bottega.core.errors import BottegaError
from bottega.core.files import read_json
from bottega.core.lineage import Lineage, ancestry


@dataclass(frozen=True, slots=True)
class Link:
    """One artefact of the chain.

    Attributes:
        kind, name: what it is.
        step: what made it, in one word; empty for one that is no longer in the workshop.
        licences: SPDX expressions.
        parents: names of what it was made from.
        digest: of its content.
        here: it is still in the workshop.
    """

    kind: str
    name: str
    step: str = ""
    licences: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    digest: str = ""
    made: str = ""
    seconds: float = 0.0
    here: bool = True


def chain(path: Path, home: Path) -> list[Link]:
    """Return a model's lineage; empty when it cannot be read (it was deleted, or never had one)."""
    try:
        found = ancestry(path, home)
    except BottegaError:
        return []
    known = {record.digest for record in found}
    links = [_link(record) for record in found]
    lost = {parent.digest: parent for record in found for parent in record.parents if parent.digest not in known}
    return links + [Link(parent.kind, parent.name, digest=parent.digest, here=False) for parent in lost.values()]


def _link(record: Lineage) -> Link:
    licences = sorted({licence.spdx for licence in record.licences})
    return Link(record.kind, record.name, record.step, licences, [parent.name for parent in record.parents],
                record.content, record.made, record.cost.seconds)


def description(path: Path) -> dict[str, Any]:
    """Return the content of a bundle's bottega.json, or nothing when it cannot be read."""
    try:
        meta = read_json(path / META)
    except BottegaError:
        return {}
    return meta if isinstance(meta, dict) else {}


def licences(links: list[Link]) -> list[str]:
    """Return every licence of the chain, each once."""
    return sorted({spdx for link in links for spdx in link.licences})
