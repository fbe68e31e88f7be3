"""Every error a user can meet, with its exit code; `bottega train nowhere.yaml` shows one.

One base class. A message says what is wrong with the offending value in it, where it stands, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar


class BottegaError(Exception):
    """Base of all errors raised on purpose; the command line prints it and exits with `exit_code`.

    Args:
        problem: one sentence naming the bad value.
        where: file, line, key or step the value stands in.
        fix: what the user can do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *, where: str = "", fix: str = "") -> None:
        self.problem, self.where, self.fix = problem, where, fix
        lines = [problem] + ([f"where: {where}"] if where else []) + ([f"fix: {fix}"] if fix else [])
        super().__init__("\n  ".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes whole, whatever the subclass's own arguments are."""
        return _rebuild, (type(self), vars(self))


def _rebuild(kind: type[BottegaError], facts: dict[str, Any]) -> BottegaError:
    error = kind.__new__(kind)
    BottegaError.__init__(error, facts["problem"], where=facts["where"], fix=facts["fix"])
    vars(error).update(facts)
    return error


class RecipeError(BottegaError):
    """A recipe has an unknown key, a bad value or a part that does not fit another."""

    exit_code = 2


class ControlError(BottegaError):
    """A generation control is out of range or not understood by the model's family."""

    exit_code = 2


class InputError(BottegaError):
    """A path, a prompt or another input the user named cannot be used."""

    exit_code = 2


class NotFoundError(InputError):
    """A model, an output, a prompt version or another named thing is not in the workshop."""


class ContextError(InputError):
    """A prompt with its output does not fit what the model can read."""


class BusyError(BottegaError):
    """All places are taken and the queue is full; try again in `retry_after` seconds."""

    exit_code = 5

    def __init__(self, problem: str, *, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(problem, fix=f"try again in {retry_after:.0f} s")


class RefusedError(BottegaError):
    """The guard blocked a request; `verdicts` say which check, and why."""

    exit_code = 2

    def __init__(self, problem: str, *, verdicts: list[Any], fix: str = "") -> None:
        self.verdicts = verdicts
        super().__init__(problem, fix=fix)


class ReleaseError(RefusedError):
    """Rows of a model of a table may not leave: its last verdict speaks against it; `verdicts` say why."""


class DataError(BottegaError):
    """The data that was read cannot be used: nothing left after cleaning, or a malformed row."""

    exit_code = 3


class CorruptError(BottegaError):
    """A file does not match the digest recorded when it was written."""

    exit_code = 4


class ResourceError(BottegaError):
    """The disk or the memory is not enough."""

    exit_code = 5


class DivergedError(BottegaError):
    """Training produced a loss that is not finite or far above what it was."""

    exit_code = 6


class MissingExtraError(BottegaError):
    """An optional library is not installed.

    Args:
        extra: name of the extra that brings it.
        need: what the library is needed for.
    """

    exit_code = 2

    def __init__(self, extra: str, need: str) -> None:
        super().__init__(f"{need} needs an optional part that is not installed",
                         fix=f'pip install "bottega[{extra}]"')


class Interrupted(BottegaError):
    """The user stopped the work (Ctrl-C or SIGTERM); what was done so far is saved."""

    exit_code = 130


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a fix sentence for a mistyped name: the nearest known one, or all of them."""
    options = sorted(set(known))
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(options) or 'none'}"
