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

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
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
from bottega.core.lineage import UNKNOWN_LICENCE, Licence, Lineage, Parent, merge_licences
from bottega.data.extract import Skips
from bottega.data.formats import Unreadable
from bottega.data.rows import objects
from bottega.workshop import preferences
from bottega.workshop.judgements import UNKNOWN_RATER, Judgement, report
from bottega.workshop.outside_forms import FORMS
from bottega.workshop.store import Store

Votes = Literal["each", "majority"]
Split = Literal["prompts", "raters"]
JUDGEMENTS, RATINGS, CARD = "judgements.jsonl", "ratings.jsonl", "card.json"


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
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.name.split(".")[0]).strip("-.") or "ratings"
    stated = Licence(spdx=licence, evidence="stated at the import" if licence != UNKNOWN_LICENCE else "")
    return write_set(judgements, home, name=name, votes=votes, split=split, folder=folder, step="import",
                     facts={"form": form, "skipped": skips.facts()["skipped"],
                            "skipped_examples": skips.facts()["examples"]},
                     parameters={"file": path.name, "sha256": sha256_file(path)}, licences=[stated])


def write_set(judgements: list[Judgement], home: Path, *, name: str, votes: Votes, split: Split, folder: Path | None,
              step: str, facts: dict[str, Any], parameters: dict[str, Any], licences: list[Licence],
              parents: list[Parent] | None = None) -> Imported:
    """Write judgements as a set to learn from, or return the one that is there; the arguments are as `bring_in`'s.

    Args:
        judgements: all about one answer, or all about two.
        home: the workshop.
        name: the folder's name begins with it.
        votes, split, folder: see `bring_in`.
        step: what made it, for the lineage.
        facts: for the card; parameters, licences, parents: for the lineage.

    Raises:
        InputError: too few raters or prompts, a split that does not fit, or the folder is there already.
        DataError: some are about one answer and some about two.
        ResourceError: the disk is full.
    """
    single = len(judgements[0].answers) == 1
    if any((len(each.answers) == 1) != single for each in judgements):
        raise DataError("there are ratings of one answer and of two", fix="divide them into two files")
    if split == "raters" and votes == "majority":
        raise InputError("a majority has no rater to hold out", where="--split", fix="use --votes each")
    said = [each for each in judgements if all(answer.strip() for answer in each.answers)]
    rows = _ratings(said) if single else _each(said) if votes == "each" else _majority(said)
    training, held_out = divide(rows, split)
    licences = merge_licences(licences)
    digest = digest_json([[each.plain() for each in judgements], votes, split, [each.spdx for each in licences]])
    target = folder or home / "feedback" / f"{name}-{digest[:12]}"
    if folder is None and target.is_dir():
        return Imported.open(target)
    card = {"kind": "rating" if single else "preference", "votes": votes, "split": split, "digest": digest,
            "training": len(training), "held_out": len(held_out), "empty": len(judgements) - len(said), **facts,
            **report(judgements)}
    with atomic_dir(target) as temporary:
        preferences.write_rows(temporary / (RATINGS if single else preferences.TRAINING), training)
        preferences.write_rows(temporary / preferences.HELD_OUT, held_out)
        preferences.write_rows(temporary / JUDGEMENTS, [each.plain() for each in judgements])
        write_json(temporary / CARD, card)
        Lineage(kind="dataset", name=target.name, content=digest_json(file_table(temporary)), step=step,
                parents=parents or [], licences=licences,
                parameters={**parameters, "votes": votes, "split": split, "raters": card["raters"]}).save(temporary)
    return Imported.open(target)


def from_store(store: Store, home: Path, models: Sequence[str] | None = None, *, what: Literal["choices", "thumbs"],
               split: Split = "prompts", folder: Path | None = None, licence: str = UNKNOWN_LICENCE) -> Imported:
    """Write what people said in this workshop as a set with a row a rater: choices and edits, or thumbs and scores.

    Only what may be used for training is in it. Raters have names that tell nobody.

    Args:
        store: the workshop's store.
        home: the workshop.
        models: names of the models whose outputs count; None: all.
        what: pairs of a better and a worse answer, or single answers that are good or bad.
        split, folder, licence: see `bring_in`; the licences of the rated models are added.

    Raises:
        InputError: there is too little of it.
        ResourceError: the disk is full.
    """
    found, digests = preferences.judgements(store, models, training=True, single=what == "thumbs")
    if not found:
        raise InputError(f"there are no {what} that may be learnt from", fix="rate answers in the studio or by "
                                                                              "POST /v1/feedback")
    parents, licences = preferences.parents_of(home, digests)
    return write_set(found, home, name=what, votes="each", split=split, folder=folder, step="feedback", facts={},
                     parameters={"models": digests}, licences=[*licences, Licence(spdx=licence)], parents=parents)


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
