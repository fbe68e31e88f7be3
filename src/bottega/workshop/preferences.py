"""From what people said about outputs to a set of pairs a model can learn from; `bottega feedback export` writes one.

    home/feedback/<first 16 digits of its digest>/
        preferences.jsonl   pairs to learn from: messages, chosen, rejected
        held-out.jsonl      pairs nobody learns from; the comparison of champion and challenger is made on them
        lineage.json        the models that were rated, the feedback, the raters (without their names), the licences
        manifest.json       SHA-256 of every file

The same feedback gives the same folder. Which side a prompt is on depends on its own words alone, but for the smallest
sets, so that more feedback never moves a prompt from the pairs that were learnt from to the held-out ones.

A finished set is kept on purpose when the retention setting forgets the feedback it was made from: it says what a model
learnt from. Delete its folder to forget it too.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bottega.core.bundle import bundles
from bottega.core.errors import BottegaError, CorruptError, InputError
from bottega.core.files import MANIFEST, atomic_dir, canonical_json, digest_json, file_table, read_json, verify_manifest
from bottega.core.lineage import UNKNOWN_LICENCE, Licence, Lineage, Parent, merge_licences
from bottega.core.progress import say
from bottega.workshop import feedback, registry, settings
from bottega.workshop.judgements import Judgement
from bottega.workshop.store import Store

TRAINING, HELD_OUT = "preferences.jsonl", "held-out.jsonl"
LEAST_PAIRS = 8
_SHARE = 0.25  # of prompts that are held out
_LEAST_HELD_OUT, _LEAST_TRAINING = 3, 4  # prompts; pairs
_KEY = b"bottega held-out prompts"  # changing it would let models learn from what they are measured on


@dataclass(frozen=True)
class Collected:
    """What stands of the feedback before it is divided.

    Attributes:
        pairs: JSON-ready rows: `messages`, `chosen`, `rejected`, `feedback` (ids).
        contradictions: on which two answers raters disagree: `feedback` ids, votes `for` and `against`, and whether
            the majority's preference was `kept`; a tie is not.
        left_out: reason → number of pairs that are not used.
        models: bundle digests of the models that were rated.
        raters: how many people.
    """

    pairs: list[dict[str, Any]] = field(default_factory=list)
    contradictions: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)
    raters: list[str] = field(default_factory=list)

    @property
    def prompts(self) -> list[str]:
        """The different prompts, as canonical JSON."""
        return sorted({prompt_of(row) for row in self.pairs})


@dataclass(frozen=True)
class PreferenceSet:
    """A finished set of preferences in a folder of its own.

    Attributes:
        path: the folder; digest: of its pairs and of the feedback they came from.
        pairs, held_out: how many there are to learn from, and to measure with.
        contradictions, left_out: see `Collected`.
    """

    path: Path
    digest: str
    pairs: int
    held_out: int
    contradictions: list[dict[str, Any]]
    left_out: dict[str, int]

    @staticmethod
    def open(path: Path) -> PreferenceSet:
        """Verify a folder and read what it says of itself.

        Raises:
            InputError: there is no such folder.
            CorruptError: it is damaged.
        """
        verify_manifest(path)
        said = Lineage.load(path).parameters
        try:
            return PreferenceSet(path, said["digest"], said["pairs"], said["held_out"], said["contradictions"],
                                 said["left_out"])
        except KeyError as error:
            raise CorruptError(f"{path} is no set of preferences: {error} is missing", fix="export it again") from None

    @property
    def training_file(self) -> Path:
        """The pairs to learn from."""
        return self.path / TRAINING

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the pairs of one of the two files, `TRAINING` or `HELD_OUT`."""
        return [json.loads(line) for line in (self.path / name).read_text(encoding="utf-8").split("\n") if line]

    def plain(self) -> dict[str, Any]:
        """Return what it holds, ready for JSON."""
        return {"path": str(self.path), "digest": self.digest, "pairs": self.pairs, "held_out": self.held_out,
                "contradictions": self.contradictions, "left_out": self.left_out}


def rated_models(store: Store, alias: str) -> list[str]:
    """Return the names of all models an alias stands for or ever stood for: people rated their outputs under it."""
    events = registry.history(store, alias, limit=10_000)
    names = {side["model"] for event in events for side in (event.detail["before"], event.detail["after"]) if side}
    current = registry.aliases(store).get(alias)
    return sorted(names | ({current.model} if current else set()))


def collect(store: Store, models: Sequence[str] | None = None) -> Collected:
    """Return the preferences that can teach, each once.

    Pairs without consent and empty answers are left out. A rater's newest word on two answers counts; where raters
    disagree on the same two answers to the same prompt, the majority's preference stays, and of a tie none.

    Args:
        store: the workshop's store.
        models: names of the models whose outputs count; None: all.
    """
    left_out: Counter[str] = Counter()
    votes: dict[tuple[str, str, str], dict[str, feedback.Pair]] = {}
    for pair in feedback.pairs(store, models if models is None else list(models)):
        if not pair.consent:
            left_out["without consent"] += 1
        elif not (pair.chosen.strip() and pair.rejected.strip()):
            left_out["an empty answer"] += 1
        else:
            first, second = sorted((pair.chosen, pair.rejected))
            said = votes.setdefault((canonical_json(pair.messages), first, second), {})
            left_out["said again"] += pair.rater in said
            said[pair.rater] = pair
    rows, contradictions = [], []
    used: list[feedback.Pair] = []
    for (_, first, second), said in sorted(votes.items(), key=lambda item: item[0]):
        sides = [[pair for pair in said.values() if pair.chosen == text] for text in (first, second)]
        sides.sort(key=len, reverse=True)
        kept = len(sides[0]) > len(sides[1])
        if sides[1]:
            contradictions.append({"feedback": sorted(pair.feedback_id for pair in said.values()), "kept": kept,
                                   "for": len(sides[0]), "against": len(sides[1])})
            left_out["contradicted"] += len(sides[1]) if kept else len(said)
        if kept:
            left_out["the same from several raters"] += len(sides[0]) - 1
            used += sides[0]
            pair = sides[0][0]
            rows.append({"messages": pair.messages, "chosen": pair.chosen, "rejected": pair.rejected,
                         "feedback": sorted(each.feedback_id for each in sides[0])})
    return Collected(rows, contradictions, {reason: n for reason, n in sorted(left_out.items()) if n},
                     sorted({pair.model_digest for pair in used}), sorted({pair.rater for pair in used}))


def judgements(store: Store, models: Sequence[str] | None = None, *, training: bool = False,
               single: bool = False) -> tuple[list[Judgement], list[str]]:
    """Return what stands of the feedback word by word, and the digests of the rated models.

    In which order a choice was shown is not known, so the answers stand in the order of their words. Raters have
    names that tell nobody.

    Args:
        store: the workshop's store.
        models: names of the models whose outputs count; None: all.
        training: only what may be used for training; edits too, which are nobody's choice between two.
        single: thumbs and scores of one answer instead of choices between two.
    """
    key = settings.secret(store)
    found: dict[tuple[str, str], Judgement] = {}
    digests: set[str] = set()
    said: Sequence[feedback.Rated | feedback.Pair] = feedback.rated(store, models) if single else \
        feedback.pairs(store, models if models is None else list(models))
    for each in said:
        if training and not each.consent:
            continue
        rater = settings.keyed(key, f"rater {each.rater}")[:12]
        if isinstance(each, feedback.Rated):
            answers: tuple[str, ...] = (each.answer,)
            label = 1 if each.good else -1
        elif training or each.source == "choice":
            answers = tuple(sorted((each.chosen, each.rejected)))
            label = 1 if each.chosen == answers[0] else -1
        else:
            continue
        item = digest_json([each.messages, answers])[:16]
        found[item, rater] = Judgement(item, rater, each.messages, answers, label, shown=False)
        digests.add(each.model_digest)
    return list(found.values()), sorted(digests)


def divide(collected: Collected) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the pairs to learn from and the held-out ones: about a quarter of the prompts, at least three.

    Raises:
        InputError: there are too few pairs; the message says how many, and how to give more.
    """
    how = ("choose between two answers, or correct one, in the studio ('bottega serve') or by POST /v1/feedback, "
           "for prompts of many kinds")
    found = len(collected.pairs)
    if found < LEAST_PAIRS:
        raise InputError(f"there {'is 1 preference pair' if found == 1 else f'are {found} preference pairs'} to learn "
                         f"from, and at least {LEAST_PAIRS} are needed",
                         where="; ".join(f"{n} {reason}" for reason, n in collected.left_out.items()), fix=how)
    kept_back = held_out(collected.prompts)
    sides: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for row in collected.pairs:
        sides[prompt_of(row) in kept_back].append(row)
    if len(sides[0]) < _LEAST_TRAINING:
        raise InputError(f"the {found} preference pairs are about {len(collected.prompts)} different prompts; with "
                         f"some held out, {len(sides[0])} pairs are left to learn from", fix=how)
    return sides


def export(store: Store, home: Path, models: Sequence[str] | None = None, *, folder: Path | None = None,
           licence: str = UNKNOWN_LICENCE) -> PreferenceSet:
    """Write the preferences about some models' outputs as a data set, or return the one that is there.

    Args:
        store: the workshop's store.
        home: the workshop; the set lies in its `feedback` folder.
        models: names of the models whose outputs count; None: all.
        folder: write it there instead; it must not be there yet.
        licence: SPDX expression of what people wrote; the licences of the rated models are added.

    Raises:
        InputError: there are too few pairs, or the folder is there already.
        ResourceError: the disk is full.
    """
    collected = collect(store, models)
    training, measured = divide(collected)
    ids = digest_json(sorted(id for row in collected.pairs for id in row["feedback"]))
    digest = digest_json([training, measured, ids, licence])
    path = folder or home / "feedback" / digest[:16]
    if folder is None and path.is_dir():
        try:
            return PreferenceSet.open(path)
        except CorruptError as error:
            say(f"warning: the preferences are written again: {error.problem}")
    parents, licences = parents_of(home, collected.models)
    facts = {"digest": digest, "feedback": ids, "models": collected.models, "pairs": len(training),
             "held_out": len(measured), "prompts": len(collected.prompts),
             "raters": _nameless(store, collected.raters, ids), "contradictions": collected.contradictions,
             "left_out": collected.left_out}
    with atomic_dir(path, replace=folder is None) as temporary:
        write_rows(temporary / TRAINING, training)
        write_rows(temporary / HELD_OUT, measured)
        Lineage(kind="dataset", name=f"feedback-{digest[:16]}", content=digest_json(file_table(temporary)),
                parents=parents, step="feedback", parameters=facts,
                licences=merge_licences([*licences, Licence(spdx=licence)])).save(temporary)
    return PreferenceSet.open(path)


def held_out(prompts: Iterable[str], *, least: int = _LEAST_HELD_OUT) -> set[str]:
    """Return the prompts nobody learns from: those whose keyed hash is low, and the `least` lowest at any rate.

    A prompt among the lowest of a set is among the lowest of every part of the set it is in.
    """
    ordered = sorted((int.from_bytes(hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), key=_KEY,
                                                     digest_size=8).digest(), "big"), prompt) for prompt in prompts)
    low = sum(draw < _SHARE * 2**64 for draw, _ in ordered)
    return {prompt for _, prompt in ordered[:max(low, least)]}


def prompt_of(row: dict[str, Any]) -> str:
    """Return the turns before the answers as canonical JSON."""
    return canonical_json(row["messages"])


def _nameless(store: Store, raters: list[str], ids: str) -> list[str]:
    """Return digests that tell the raters of one set apart; nobody outside the workshop can tell whose they are."""
    key = settings.secret(store)
    return sorted(settings.keyed(key, f"{ids} {rater}") for rater in raters)


def parents_of(home: Path, digests: list[str]) -> tuple[list[Parent], list[Licence]]:
    """Return the rated models that are still in the workshop, and their licences."""
    parents, licences = [], []
    for path in sorted(bundles(home / "models")):
        try:
            if read_json(path / MANIFEST)["digest"] not in digests:
                continue
            born = Lineage.load(path)
        except (BottegaError, KeyError, TypeError) as error:
            say(f"warning: {path.name} cannot be named as a parent: {error}")
            continue
        parents.append(Parent(kind="model", name=path.name, digest=born.digest))
        licences += born.licences
    return parents, licences


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as JSONL, each as canonical JSON."""
    # Half of a surrogate pair is no UTF-8; its backslash form is what JSON calls it.
    path.write_bytes("".join(f"{canonical_json(row)}\n" for row in rows).encode("utf-8", "backslashreplace"))
