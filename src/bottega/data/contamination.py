"""Does what a model learnt from hold what it is measured on? `bottega data contamination TRAINING EVALUATION`.

Three findings, each counted apart, per evaluation item:

    exact       its question stands in the training data letter by letter (case and spaces aside)
    near        its question shares at least 0.8 of its word 5-grams (Jaccard) with a training text
    sequence    13 of its words in a row stand in a training text (Brown et al. 2020, appendix C)

Word runs that more than ten training texts hold are phrases of the language or of the form (a greeting, a licence) and
prove nothing, as there. Questions and answers are compared turn by turn; system turns, which all rows share, are not.
The training side is streamed: memory depends on the evaluation side only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.data.measure import SEQUENCE
from bottega.data.questions import Question
from bottega.data.words import Hashes, hash_words, sequences, shingles, split_words

NEAR = 0.8
COMMON = 10     # training texts that may hold a word run before it counts as a phrase
_LEAST_NEAR = 8  # words of a question that can be near another; shorter ones are alike by chance
_EXCERPT = 160


@dataclass(frozen=True, slots=True)
class Overlap:
    """One evaluation item that the training data holds.

    Attributes:
        item: number of the item, from 0; `place` where it stands, `text` its question.
        kind: the strongest finding: `exact`, `near` or `sequence`.
        similarity: highest Jaccard similarity of its question with a training text.
        share: of its 13-word sequences that stand in the training data.
        training: where in the training data, and how that text begins.
    """

    item: int
    place: str
    text: str
    kind: str
    similarity: float
    share: float
    training: str


@dataclass(frozen=True, slots=True)
class Contamination:
    """What was found.

    Attributes:
        items: evaluation items; texts: training texts they were compared with.
        exact, near, sequence: items with each finding (an item may have several); any: with at least one.
        clean: numbers of the items without a finding.
    """

    items: int
    texts: int
    exact: int
    near: int
    sequence: int
    any: int
    overlaps: list[Overlap] = field(default_factory=list)
    clean: list[int] = field(default_factory=list)

    def plain(self, examples: int = 5) -> dict[str, Any]:
        """Return the counts, the share and some examples of each kind, ready for JSON."""
        shown = [asdict(one) for kind in ("exact", "near", "sequence")
                 for one in [each for each in self.overlaps if each.kind == kind][:examples]]
        return {"items": self.items, "texts": self.texts, "exact": self.exact, "near": self.near,
                "sequence": self.sequence, "any": self.any, "share": self.any / self.items if self.items else 0.0,
                "examples": shown}


class _Runs:
    """The word runs of all items: which items hold a run, found by its number."""

    def __init__(self, runs: Sequence[Hashes]) -> None:
        owners = np.repeat(np.arange(len(runs), dtype=np.int64), [len(one) for one in runs])
        flat = np.concatenate([np.zeros(0, np.uint64), *runs])
        order = np.argsort(flat, kind="stable")
        self.flat, self.owners = flat[order], owners[order]
        self.unique, self.first = np.unique(self.flat, return_index=True)
        self.last = np.append(self.first[1:], len(self.flat))

    def hits(self, runs: Hashes) -> NDArray[np.int64]:
        """Return the places in `unique` of those runs of a text that some item holds."""
        if not len(self.unique) or not len(runs):
            return np.zeros(0, np.int64)
        places = np.minimum(np.searchsorted(self.unique, runs), len(self.unique) - 1)
        found: NDArray[np.int64] = np.unique(places[self.unique[places] == runs])
        return found

    def items(self, place: int) -> NDArray[np.int64]:
        """Return the items that hold a run."""
        held: NDArray[np.int64] = self.owners[self.first[place]:self.last[place]]
        return held


def find(training: Iterable[Question], evaluation: Sequence[Question], *, near: float = NEAR) -> Contamination:
    """Compare every evaluation item with all training texts.

    Args:
        training: what was learnt from.
        evaluation: what is measured on.
        near: Jaccard similarity from which a question counts as a copy of a training text.
    """
    asked = [_plain(question.asked) for question in evaluation]
    words = [hash_words(split_words(text)) for text in asked]
    sets = [shingles(one) if len(one) >= _LEAST_NEAR else np.zeros(0, np.uint64) for one in words]
    long = [np.unique(np.concatenate([np.zeros(0, np.uint64), *(
        sequences(hash_words(split_words(text)), SEQUENCE) for text in question.texts)])) for question in evaluation]
    alike, runs = _Runs(sets), _Runs(long)
    letters = defaultdict(list)
    for number, text in enumerate(asked):
        letters[text].append(number)
    equal: dict[int, str] = {}
    similar: dict[int, tuple[float, str]] = {}
    held = np.zeros(len(runs.unique), np.int64)  # training texts that hold each run
    first: dict[int, str] = {}
    texts = 0
    for question in training:
        for text in question.texts:
            texts += 1
            plain = _plain(text)
            where = ""
            for number in letters.get(plain, ()):
                where = where or _where(question, text)
                equal.setdefault(number, where)
            hashes = hash_words(split_words(plain))
            found = shingles(hashes)
            places = alike.hits(found)
            if len(places):
                shared = np.bincount(np.concatenate([alike.items(int(place)) for place in places]))
                for number in np.flatnonzero(shared).tolist():
                    both = int(shared[number])
                    value = both / (len(sets[number]) + len(found) - both)
                    if value >= near and value > similar.get(int(number), (0.0, ""))[0]:
                        similar[int(number)] = (value, _where(question, text))
            for place in runs.hits(sequences(hashes, SEQUENCE)):
                held[place] += 1
                first.setdefault(int(place), _where(question, text))
    return _found(evaluation, texts, equal, similar, runs, held, first, [len(one) for one in long])


def _found(evaluation: Sequence[Question], texts: int, equal: dict[int, str], similar: dict[int, tuple[float, str]],
           runs: _Runs, held: NDArray[np.int64], first: dict[int, str], lengths: Sequence[int]) -> Contamination:
    """Sum up the three findings by item."""
    telling = np.flatnonzero((held > 0) & (held <= COMMON))
    counted: dict[int, int] = defaultdict(int)
    seen: dict[int, str] = {}
    for place in telling:
        for number in runs.items(int(place)).tolist():
            counted[number] += 1
            seen.setdefault(number, first[int(place)])
    touched = sorted(equal.keys() | similar.keys() | counted.keys())
    overlaps = []
    for number in touched:
        kind = "exact" if number in equal else "near" if number in similar else "sequence"
        where = equal.get(number) or similar.get(number, (0.0, ""))[1] or seen[number]
        overlaps.append(Overlap(number, evaluation[number].place, evaluation[number].asked[:_EXCERPT], kind,
                                1.0 if number in equal else similar.get(number, (0.0, ""))[0],
                                counted[number] / lengths[number] if number in counted else 0.0, where))
    return Contamination(len(evaluation), texts, len(equal), len(similar), len(counted), len(touched), overlaps,
                         sorted(set(range(len(evaluation))) - set(touched)))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _where(question: Question, text: str) -> str:
    return f"{question.place}: {text[:_EXCERPT]}"
