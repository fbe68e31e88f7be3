"""What a model learnt from, as far as the workshop still has it: its datasets and its ancestors'.

`bottega compare` and `bottega data contamination MODEL EVALUATION` look there for what is measured on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bottega.core.errors import BottegaError
from bottega.core.lineage import LINEAGE, Lineage, ancestry
from bottega.data import questions
from bottega.data.questions import Question


@dataclass(frozen=True)
class Learnt:
    """Datasets of a chain of models.

    Attributes:
        folders: prepared datasets and exported preferences that are here.
        lost: names of those that are gone, so that nobody can look into them.
    """

    folders: list[Path] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def questions(self) -> Iterator[Question]:
        """Yield everything their training splits hold."""
        for folder in self.folders:
            yield from questions.read(str(folder), "train")


def learnt_from(models: list[Path], home: Path) -> Learnt:
    """Return the datasets that models and all their ancestors learnt from, each once."""
    known: dict[str, Path] = {}
    for file in sorted(file for room in ("data", "feedback") for file in home.glob(f"{room}/*/{LINEAGE}")):
        try:
            known[Lineage.load(file.parent).digest] = file.parent
        except BottegaError:
            continue  # nobody's dataset
    wanted: dict[str, str] = {}
    for model in models:
        try:
            chain = ancestry(model, home)
        except BottegaError:
            wanted.setdefault(str(model), f"all of {model.name}: it has no lineage")
            continue
        wanted |= {parent.digest: parent.name for record in chain if record.kind == "model"
                   for parent in record.parents if parent.kind == "dataset"}
    folders = [known[digest] for digest in wanted if digest in known and _holds_text(known[digest])]
    return Learnt(folders, sorted(name for digest, name in wanted.items() if digest not in known
                                  or not _holds_text(known[digest])))


def _holds_text(folder: Path) -> bool:
    return any(any(folder.glob(name)) for name in ("documents-*.parquet", "preferences.jsonl", "ratings.jsonl"))
