"""The birth certificate of every artefact: what it was made from, how, by which code, at what cost.

One canonical JSON document an artefact, named by its SHA-256; parents are digests, so a chain of documents leads from
an output to the model, the datasets and their licences. `bottega lineage MODEL` prints it.
"""

from __future__ import annotations

import hashlib
import platform
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

import bottega
from bottega.core.energy import Cost
from bottega.core.errors import BottegaError, CorruptError
from bottega.core.files import digest_json, read_json, write_json
from bottega.core.validate import Strict, validate

LINEAGE = "lineage.json"
UNKNOWN_LICENCE = "unknown"


class Licence(Strict):
    """An SPDX expression and why we believe it; `unknown` is a value, and propagates."""

    spdx: str = UNKNOWN_LICENCE
    evidence: str = ""


class Parent(Strict):
    """An edge: the artefact this one was made from; `digest` is that of its own lineage document."""

    kind: str
    name: str
    digest: str


class Lineage(Strict):
    """See the module. `content` is the digest of the artefact's own files, `digest` that of this document."""

    kind: Literal["dataset", "codec", "model", "output"]
    name: str
    content: str
    parents: list[Parent] = []
    step: str
    parameters: dict[str, Any] = {}
    seed: int = 0
    licences: list[Licence] = []
    environment: dict[str, str] = Field(default_factory=lambda: environment())
    cost: Cost = Cost()
    made: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of this document."""
        return digest_json(self.model_dump(mode="json"))

    def save(self, folder: Path) -> None:
        """Write `lineage.json` into a folder."""
        write_json(folder / LINEAGE, self.model_dump(mode="json"))

    @staticmethod
    def load(folder: Path) -> Lineage:
        """Read `lineage.json` of a folder.

        Raises:
            InputError: there is none.
            CorruptError: it is not JSON, or not a lineage.
        """
        return validate(Lineage, read_json(folder / LINEAGE), where=str(folder / LINEAGE), error=CorruptError)


def ancestry(folder: Path, home: Path) -> list[Lineage]:
    """Return the lineage of an artefact and of all its ancestors found in a workshop, nearest first, each once.

    An ancestor that is no longer in the workshop is left out; its name and digest still stand in its child's parents.
    """
    known: dict[str, Path] = {}
    rooms = ("models", "data", "feedback")
    for file in sorted(file for room in rooms for file in home.glob(f"{room}/*/{LINEAGE}")):
        try:
            known[Lineage.load(file.parent).digest] = file.parent
        except BottegaError:
            continue  # an unreadable neighbour is nobody's parent
    chain: list[Lineage] = []
    waiting, seen = [folder.resolve()], set()
    while waiting:
        place = waiting.pop(0)
        if place in seen:
            continue
        seen.add(place)
        chain.append(Lineage.load(place))
        waiting += [known[p.digest].resolve() for p in chain[-1].parents if p.digest in known]
    return chain


def merge_licences(licences: list[Licence]) -> list[Licence]:
    """Return the union of parents' licences, unknown included, each once, in SPDX order."""
    unique = {(licence.spdx, licence.evidence): licence for licence in licences}
    return [unique[key] for key in sorted(unique)]


@cache
def code_digest() -> str:
    """Return the SHA-256 over Bottega's own source files: which code made this."""
    root = Path(bottega.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def environment() -> dict[str, str]:
    """Return what a reproduction must match: code digest, Python, system and the versions of the main parts."""
    parts = {"bottega": bottega.__version__, "code": code_digest(), "python": platform.python_version(),
             "system": f"{platform.system()} {platform.machine()}"}
    for name in ("torch", "tokenizers", "numpy", "pyarrow"):
        try:
            parts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            parts[name] = "absent"
    return parts
