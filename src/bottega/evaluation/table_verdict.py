"""What the gate said of a model of a table, kept in the workshop: `verdicts/DIGEST.json`, the last one counts.

It lies by the model's digest, not in its run or under its name: a copied folder is under the same verdict, a model made
again under none.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from bottega.core.errors import CorruptError, InputError
from bottega.core.files import digest_json, read_json, write_json
from bottega.core.validate import Strict, validate
from bottega.evaluation.tables import TableScores, gate

_DIGEST = re.compile(r"[0-9a-f]{64}")


class TableVerdict(Strict):
    """The gate's verdict on one model.

    Attributes:
        model: its name; `model_digest` that of its bundle.
        seed: of the rows that were judged, and of the judging.
        quick: few rows, as at the end of a training.
        rows: synthetic rows that were judged, beside `held_out` real ones.
        reasons: against a release; empty when nothing speaks against it.
        figures: score → value, None where it was not measured.
    """

    model: str
    model_digest: str
    seed: int
    quick: bool
    rows: int
    held_out: int
    reasons: list[str]
    figures: dict[str, float | None]

    @classmethod
    def of(cls, scores: TableScores, model: str, model_digest: str) -> TableVerdict:
        """Return the verdict on a model whose rows have these scores."""
        return cls(model=model, model_digest=model_digest, seed=scores.seed, quick=scores.quick,
                   rows=scores.counts["synthetic"], held_out=scores.counts["holdout"], reasons=gate(scores),
                   figures={score.name: score.value if math.isfinite(score.value) else None
                            for score in scores.scores})

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) of all of it: the same rows judged again have the same."""
        return digest_json(self.model_dump(mode="json"))

    def about(self, model: str, model_digest: str) -> TableVerdict:
        """Return the same verdict on a copy of the model that has the same weights and another digest."""
        return self.model_copy(update={"model": model, "model_digest": model_digest})

    def keep(self, home: Path) -> None:
        """Let it be the last verdict on its model in a workshop.

        Raises:
            ResourceError: the disk is full.
        """
        write_json(_path(home, self.model_digest), self.model_dump(mode="json"))


def last_verdict(home: Path, model_digest: str) -> TableVerdict | None:
    """Return the last verdict on a model; None when it was never judged.

    Raises:
        CorruptError: the file was changed by hand or belongs to another model; nothing may be released on its word.
    """
    path = _path(home, model_digest)
    if not path.exists():
        return None
    try:
        found = validate(TableVerdict, read_json(path), where=str(path), error=InputError)
    except (InputError, CorruptError) as error:
        raise _unreadable(path, error.problem) from error
    if found.model_digest != model_digest:
        raise _unreadable(path, f"it is about the model {found.model_digest[:12]}")
    return found


def _path(home: Path, model_digest: str) -> Path:
    if not _DIGEST.fullmatch(model_digest):
        raise InputError(f"'{model_digest[:100]}' is no digest of a model", fix="give 64 hex digits")
    return home / "verdicts" / f"{model_digest}.json"


def _unreadable(path: Path, problem: str) -> CorruptError:
    return CorruptError(f"the verdict on a model of a table cannot be read: {problem}", where=str(path),
                        fix="judge the model again: bottega evaluate NAME")
