"""Ratings that were made elsewhere to a set a model can learn from: `bottega feedback import FILE`.

They are about outputs this workshop never made, so they do not go into its store; they become a folder of their own:

    home/feedback/<name>-<first 12 digits of its digest>/
        preferences.jsonl or ratings.jsonl   to learn from: `data.sources` of dpo, reward and kto recipes
        held-out.jsonl                       nobody learns from these
        judgements.jsonl                     every single word of every rater, with ties, disagreements and empty
                                             answers, of which nothing is learnt
        card.json                            counts, agreement and leanings of the raters
        lineage.json, manifest.json          the file it came from, its licence; SHA-256 of every file
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bottega.core.errors import DataError, InputError, suggest
from bottega.core.files import (
    atomic_dir,
    digest_json,
    file_table,
    read_json,
    sha256_file,
    verify_manifest,
    write_json,
)
from bottega.core.lineage import UNKNOWN_LICENCE, Licence, Lineage
from bottega.data.extract import Skips
from bottega.data.formats import Unreadable
from bottega.data.forms import recognise
from bottega.data.record import check_payload
from bottega.data.rows import objects
from bottega.workshop import preferences
from bottega.workshop.judgements import UNKNOWN_RATER, Judgement, report

Votes = Literal["each", "majority"]
Split = Literal["prompts", "raters"]
JUDGEMENTS, RATINGS, CARD = "judgements.jsonl", "ratings.jsonl", "card.json"
_SIDES = {0: 0, 1: 1, 2: -1}  # how sets write it: 1 and 2 for the better answer, 0 for none


@dataclass(frozen=True)
class Imported:
    """A finished folder and what its card says."""

    path: Path
    card: dict[str, Any]

    @staticmethod
    def open(path: Path) -> Imported:
        """Verify a folder and read its card.

        Raises:
            InputError: there is no such folder.
            CorruptError: it is damaged.
        """
        verify_manifest(path)
        return Imported(path, read_json(path / CARD))

    def judgements(self) -> list[Judgement]:
        """Return every judgement."""
        lines = (self.path / JUDGEMENTS).read_text(encoding="utf-8").split("\n")
        return [Judgement.of(json.loads(line)) for line in lines if line]


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


def read(path: Path, form: str | None = None) -> tuple[list[Judgement], Skips, str]:
    """Return the judgements of a file, what was left out and why, and the form.

    Args:
        path: JSONL, JSON, CSV or Parquet.
        form: one of `FORMS`; None: by the keys of the first row.

    Raises:
        InputError: there is no such file, or no such form.
        DataError: no row can be used.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there", fix="give a file of judgements")
    if form is not None and form not in FORMS:
        raise InputError(f"there is no form '{form}'", where="--form", fix=suggest(form, FORMS))
    found: list[Judgement] = []
    skips = Skips()
    try:
        for number, row in objects(path):
            try:
                if isinstance(row, Unreadable):
                    raise row
                form = form or next(name for name, (keys, _) in FORMS.items()
                                    if keys <= (row.keys() if isinstance(row, dict) else set()))
                found += FORMS[form][1](row, number)
            except Unreadable as fault:
                skips(fault.reason, f"{path}:{number}", fault.detail)
            except (KeyError, TypeError, AttributeError) as error:
                skips("malformed", f"{path}:{number}", f"{type(error).__name__}: {error}")
    except Unreadable as fault:
        skips(fault.reason, str(path), fault.detail)
    if not found:
        first = next((places[0] for places in skips.examples.values()), "it holds no rows")
        raise DataError(f"no judgement can be read from {path}: {first}", fix=f"name its form: {', '.join(FORMS)}")
    return found, skips, str(form)


def bring_in(path: Path, home: Path, *, form: str | None = None, votes: Votes = "each", split: Split = "prompts",
             folder: Path | None = None, licence: str = UNKNOWN_LICENCE) -> Imported:
    """Write the judgements of a file as a set to learn from, or return the one that is there.

    Args:
        path: the file.
        home: the workshop; the set lies in its `feedback` folder.
        form: see `read`.
        votes: `each` keeps a row a rater, disagreements and all; `majority` one a pair, with `margin` the share of
            votes for it less those against, and of a tie none.
        split: what is held out whole: a quarter of the prompts, or of the raters.
        folder: write it there instead; it must not be there yet.
        licence: SPDX expression of the file.

    Raises:
        InputError: the file, the form or the split does not fit.
        DataError: no row can be used.
        ResourceError: the disk is full.
    """
    judgements, skips, form = read(path, form)
    single = len(judgements[0].answers) == 1
    if any((len(each.answers) == 1) != single for each in judgements):
        raise DataError(f"{path} holds ratings of one answer and of two", fix="divide it into two files")
    if split == "raters" and votes == "majority":
        raise InputError("a majority has no rater to hold out", where="--split", fix="use --votes each")
    said = [each for each in judgements if all(answer.strip() for answer in each.answers)]
    rows = _ratings(said) if single else _each(said) if votes == "each" else _majority(said)
    training, held_out = divide(rows, split)
    digest = digest_json([[each.plain() for each in judgements], votes, split, licence])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.name.split(".")[0]).strip("-.") or "ratings"
    target = folder or home / "feedback" / f"{name}-{digest[:12]}"
    if folder is None and target.is_dir():
        return Imported.open(target)
    kind = "rating" if single else "preference"
    card = {"kind": kind, "form": form, "votes": votes, "split": split, "digest": digest, "training": len(training),
            "held_out": len(held_out), "empty": len(judgements) - len(said),
            "skipped": skips.facts()["skipped"],
            "skipped_examples": skips.facts()["examples"], **report(judgements)}
    with atomic_dir(target) as temporary:
        preferences.write_rows(temporary / (RATINGS if single else preferences.TRAINING), training)
        preferences.write_rows(temporary / preferences.HELD_OUT, held_out)
        preferences.write_rows(temporary / JUDGEMENTS, [each.plain() for each in judgements])
        write_json(temporary / CARD, card)
        Lineage(kind="dataset", name=target.name, content=digest_json(file_table(temporary)), step="import",
                parameters={"file": path.name, "sha256": sha256_file(path), "form": form, "votes": votes,
                            "split": split, "raters": card["raters"]},
                licences=[Licence(spdx=licence, evidence="stated at the import" if licence != UNKNOWN_LICENCE else "")]
                ).save(temporary)
    return Imported.open(target)


def divide(rows: list[dict[str, Any]], split: Split) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows to learn from and those held out, by a keyed hash of the prompt or of the rater.

    With raters held out, prompts that both sides judged are left in: how well one learns from some people is
    measured on what others say about the same things.

    Raises:
        InputError: there are too few raters or prompts to hold any out.
    """
    key: Callable[[dict[str, Any]], str] = (lambda row: str(row.get("rater", UNKNOWN_RATER))) if split == "raters" \
        else preferences.prompt_of
    names = {key(row) for row in rows}
    if len(names) < 2:
        raise InputError(f"there {'is one ' + split[:-1] if names else f'are no {split}'}, and some are to be held out",
                         where="--split", fix="split by prompts" if split == "raters" else "give more judgements")
    chosen = preferences.held_out(names, least=1)
    if len(chosen) == len(names):
        chosen = set(sorted(chosen)[:1])
    return [row for row in rows if key(row) not in chosen], [row for row in rows if key(row) in chosen]


def _ratings(judgements: list[Judgement]) -> list[dict[str, Any]]:
    return [{"messages": each.messages, "answer": each.answers[0], "desirable": each.label > 0, **_by(each)}
            for each in judgements if each.label]


def _each(judgements: list[Judgement]) -> list[dict[str, Any]]:
    return [_row(each, each.label > 0, {} if each.margin is None else {"margin": each.margin}) | _by(each)
            for each in judgements if each.label]


def _majority(judgements: list[Judgement]) -> list[dict[str, Any]]:
    items: dict[str, list[Judgement]] = {}
    for each in judgements:
        items.setdefault(each.item, []).append(each)
    rows = []
    for said in items.values():
        first = said[0]
        votes = Counter((each.label if each.answers == first.answers else -each.label) for each in said)
        if votes[1] != votes[-1]:
            rows.append(_row(first, votes[1] > votes[-1], {"margin": abs(votes[1] - votes[-1]) / votes.total()}))
    return rows


def _row(each: Judgement, first: bool, more: dict[str, Any]) -> dict[str, Any]:
    chosen, rejected = each.answers if first else each.answers[::-1]
    return {"messages": each.messages, "chosen": chosen, "rejected": rejected, **more}


def _by(each: Judgement) -> dict[str, str]:
    return {} if each.rater == UNKNOWN_RATER else {"rater": each.rater}


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
