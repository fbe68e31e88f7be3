"""What a check says about a text, and how verdicts combine: every answer of `bottega serve` carries its verdicts.

Actions form a lattice and combine by maximum: no amount of ALLOW can outvote one BLOCK.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

Stage = Literal["input", "output"]
_KEY = os.urandom(16)
FAILED = "failed-check"  # the category of a check that could not finish


class Action(IntEnum):
    """What is done about a finding, mildest first."""

    ALLOW = 0  # not even looked for
    FLAG = 1  # told, the text stays as it is
    REDACT = 2  # the finding is taken out of the text
    ASK = 3  # a person must decide; until then an output goes without the finding
    BLOCK = 4  # a request is refused, an output ends


@dataclass(frozen=True, slots=True)
class Verdict:
    """One finding of one check.

    Attributes:
        check: name of the check, such as `secrets`.
        category: what was found, such as `card` or `too-long`.
        action: what is done about it.
        stage: `input` (before the model) or `output` (after it).
        reason: one sentence for a person; it never repeats what was found.
        where: the place, such as `message 2, characters 10-26`: positions count from 0, the end is not included.
        digest: a keyed hash of the found text, the same for the same text while the process lives; a plain hash of a
            card or identity number could be undone by trying all of them.
        milliseconds: how long the check had taken when it said so.
    """

    check: str
    category: str
    action: Action
    stage: Stage
    reason: str
    where: str = ""
    digest: str = ""
    milliseconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        """Return the verdict ready for JSON, the action by name in lower case."""
        return {"check": self.check, "category": self.category, "action": self.action.name.lower(),
                "stage": self.stage, "reason": self.reason, "where": self.where, "digest": self.digest,
                "milliseconds": round(self.milliseconds, 3)}


def join(verdicts: Iterable[Verdict]) -> Action:
    """Return the strictest action among the verdicts; ALLOW when there are none."""
    return max((verdict.action for verdict in verdicts), default=Action.ALLOW)


def fingerprint(found: str) -> str:
    """Return the short digest that stands for a found text in a verdict."""
    digest = new_digest()
    digest.update(found.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def new_digest() -> hashlib.blake2b:
    """Return the digest of a found text, to be fed piece by piece."""
    return hashlib.blake2b(digest_size=6, key=_KEY)


def failed(check: str, stage: Stage, error: Exception, where: str = "", milliseconds: float = 0.0) -> Verdict:
    """Return the verdict of a check that could not finish: BLOCK, naming the kind of error and nothing of the text."""
    return Verdict(check, FAILED, Action.BLOCK, stage, f"the check failed ({type(error).__name__})", where,
                   milliseconds=milliseconds)
