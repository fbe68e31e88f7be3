"""Files of judgements as others write them: PandaLM, FineGrainedRLHF, LLMBar, and all that data files may hold.

`outside` reads through here; `pytest tests/workshop/test_outside.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bottega.core.errors import DataError
from bottega.core.files import digest_json
from bottega.data.formats import Unreadable
from bottega.data.forms import recognise
from bottega.data.record import check_payload
from bottega.workshop.judgements import UNKNOWN_RATER, Judgement

_SIDES = {0: 0, 1: 1, 2: -1}  # how sets write it: 1 and 2 for the better answer, 0 for none


def pandalm(row: Mapping[str, Any], number: int) -> Iterator[Judgement]:
    """Yield the annotators' words about `response1` and `response2`: 1 or 2 is better, 0 a tie."""
    asked = _text(row, "instruction")
    asked = f"{asked}\n\n{row['input']}" if str(row.get("input") or "").strip() else asked
    answers = (_text(row, "response1", True), _text(row, "response2", True))
    for key in sorted(key for key in row if re.fullmatch(r"annotator\d+", str(key))):
        yield Judgement(str(number), str(key), _asks(asked), answers, _side(row[key], key))


def finegrained(row: Mapping[str, Any], number: int) -> Iterator[Judgement]:
    """Yield six choices among four answers to a question with passages, and the correction of the first answer.

    The choices are of one person, whose name is not told. The faults marked in the first answer are the critiques.
    """
    passages = "\n\n".join(" ".join(map(str, passage[1:])) for passage in row.get("passages") or [])
    messages = _asks(f"{_text(row, 'question')}\n\n{passages}" if passages else _text(row, "question"))
    answers = [_text(row, f"prediction {place}", True) for place in range(1, 5)]
    order = [(a, b) for a in range(4) for b in range(a + 1, 4)]
    said = row["preference"]
    if not isinstance(said, list) or len(said) != len(order):
        raise Unreadable("malformed", f"'preference' does not hold the {len(order)} choices among four answers")
    for (a, b), value in zip(order, said, strict=True):
        if answers[a] != answers[b]:
            yield Judgement(f"{number}/{a + 1}-{b + 1}", UNKNOWN_RATER, messages, (answers[a], answers[b]),
                            _side(value, "preference"))
    faults = row.get("feedback") or {}
    corrected = str(faults.get("corrected-prediction") or "").strip()
    if corrected and corrected != answers[0].strip():
        critiques = [{"start": each["start"], "end": each["end"], "aspect": str(each["error type"]),
                      "text": str(each.get("explanation") or "")} for each in faults.get("errors") or []]
        yield Judgement(f"{number}/corrected", UNKNOWN_RATER, messages, (answers[0], corrected), -1, shown=False,
                        critiques=critiques)


def llmbar(row: Mapping[str, Any], number: int) -> Iterator[Judgement]:
    """Yield which of `output_1` and `output_2` follows the instruction."""
    yield Judgement(str(number), UNKNOWN_RATER, _asks(_text(row, "input")),
                    (_text(row, "output_1", True), _text(row, "output_2", True)), _side(row["label"], "label"))


def records(row: Any, number: int) -> Iterator[Judgement]:
    """Yield the preference or rated answer of any form that data files may have (see `data.forms`)."""
    kind, found = recognise(row, "text")
    if kind not in ("preference", "rating"):
        raise Unreadable("malformed", f"the row is a {kind}, not a judgement")
    try:
        payload = check_payload(kind, found, where="")
    except DataError as error:
        raise Unreadable("malformed", error.problem) from error
    rater = payload.get("rater", UNKNOWN_RATER)
    if kind == "rating":
        yield Judgement(_item(row, payload["messages"], [payload["answer"]]), rater, payload["messages"],
                        (payload["answer"],), 1 if payload["desirable"] else -1)
        return
    if payload["chosen"] == payload["rejected"]:
        raise Unreadable("same-answers", "the chosen and the rejected answer are the same")
    yield Judgement(_item(row, payload["messages"], sorted((payload["chosen"], payload["rejected"]))), rater,
                    payload["messages"], (payload["chosen"], payload["rejected"]), 1, shown=False,
                    margin=payload.get("margin"))


FORMS: dict[str, tuple[frozenset[str], Callable[[Any, int], Iterator[Judgement]]]] = {
    "pandalm": (frozenset(("instruction", "response1", "response2", "annotator1")), pandalm),
    "finegrained": (frozenset(("question", "prediction 1", "preference")), finegrained),
    "llmbar": (frozenset(("input", "output_1", "output_2", "label")), llmbar),
    "records": (frozenset(), records),
}


def _asks(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def _text(row: Mapping[str, Any], key: str, empty: bool = False) -> str:
    if not isinstance(row.get(key), str):
        raise Unreadable("missing-key", f"'{key}' is no text")
    if not empty and not row[key].strip():
        raise Unreadable("empty-content", f"'{key}' is empty")
    return str(row[key])


def _side(value: Any, key: str) -> int:
    if isinstance(value, bool) or value not in _SIDES:
        raise Unreadable("malformed", f"'{key}' is {value!r}, which is neither 0, 1 nor 2")
    return _SIDES[value]


def _item(row: Any, messages: list[dict[str, Any]], answers: list[str]) -> str:
    """Return the same name for the same answers to the same turns, so that raters of them are compared."""
    return hashlib.sha256(digest_json([messages, answers]).encode()).hexdigest()[:16]
