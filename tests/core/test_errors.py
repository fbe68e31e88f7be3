"""Errors say value, place and fix, carry an exit code, and cross processes."""

import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest

from bottega.core import errors
from bottega.core.errors import (
    BottegaError,
    BusyError,
    DataError,
    MissingExtraError,
    RefusedError,
    ReleaseError,
    suggest,
)

CODES = {"BottegaError": 1, "RecipeError": 2, "ControlError": 2, "InputError": 2, "MissingExtraError": 2,
         "NotFoundError": 2, "ContextError": 2, "RefusedError": 2, "ReleaseError": 2, "BusyError": 5,
         "DataError": 3, "CorruptError": 4, "ResourceError": 5, "DivergedError": 6, "Interrupted": 130}
OWN: dict[type[BottegaError], dict[str, object]] = {  # what these take instead of where and fix
    BusyError: {"retry_after": 3.5}, RefusedError: {"verdicts": ["one"], "fix": "f"},
    ReleaseError: {"verdicts": ["one"], "fix": "f"}}
KINDS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, BottegaError)]


def test_exit_codes_are_the_documented_ones() -> None:
    assert {kind.__name__: kind.exit_code for kind in KINDS} == CODES


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_errors_survive_pickling(kind: type[BottegaError]) -> None:
    error = MissingExtraError("hub", "a hub data set") if kind is MissingExtraError else \
        kind("p", **OWN.get(kind, {"where": "w", "fix": "f"}))  # type: ignore[arg-type]
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert vars(again) == vars(error)
    assert (again.problem, again.where, again.fix, str(again)) == (error.problem, error.where, error.fix, str(error))


def _fail() -> None:
    raise MissingExtraError("hub", "a hub data set")


def test_an_error_of_a_worker_process_arrives_whole() -> None:
    with ProcessPoolExecutor(1) as pool, pytest.raises(MissingExtraError, match=r'pip install "bottega\[hub\]"'):
        pool.submit(_fail).result()


def test_message_has_three_lines() -> None:
    assert str(DataError("no rows left", where="a.txt", fix="relax the rules")).splitlines() == [
        "no rows left", "  where: a.txt", "  fix: relax the rules"]
    assert str(DataError("no rows left")) == "no rows left"


def test_suggest() -> None:
    assert suggest("vocab_sise", ["vocab_size", "kind"]) == "did you mean 'vocab_size'?"
    assert suggest("zzz", ["b", "a"]) == "known: a, b"
    assert suggest("zzz", []) == "known: none"
