"""What was asked of each picture, as questions with one answer each; `pytest tests/evaluation/test_pictures.py`.

A class label is the question "class". A composed scene ("a red star left of a blue moon") is a question for each
place and attribute: "left colour" → "red", "centre colour" → "nothing". So a trained judge can grade every prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import InputError
from bottega.evaluation.statistics import Figure, rate

NOTHING = "nothing"
Answers = Mapping[str, Sequence[str | None]]  # question → the answer for each picture, None: not asked
Labels = Answers | Sequence[int] | NDArray[np.int64]


def as_answers(labels: Labels, count: int) -> dict[str, list[str | None]]:
    """Return labels as answers to questions.

    Args:
        labels: answers already, or a class number a picture (negative: none).
        count: how many pictures there are.

    Raises:
        InputError: a question has not one answer a picture.
    """
    if isinstance(labels, Mapping):
        answers = {question: list(given) for question, given in labels.items()}
    else:
        numbers = [int(label) for label in labels]
        answers = {"class": [str(number) if number >= 0 else None for number in numbers]}
    for question, given in answers.items():
        if len(given) != count:
            raise InputError(f"{len(given)} answers to '{question}' for {count} pictures",
                             fix="give one answer a picture, None where nothing was asked")
    return answers


def scene_answers(scenes: Sequence[Sequence[Mapping[str, Any]]], place: str = "place",
                  common: Sequence[str] = ()) -> dict[str, list[str | None]]:
    """Turn scenes into a question for each place and attribute.

    Args:
        scenes: for each picture its things, e.g. [{"shape": "star", "colour": "red", "place": "left"}].
        place: the key that says where a thing is.
        common: keys that say something of the whole picture (its ground) and are the same in each of its things.

    Returns:
        e.g. {"left shape": ["star", …], "left colour": ["red", …], "ground": ["grey", …]}; an empty place answers
        "nothing", an attribute that a thing does not state is not asked (None).

    Raises:
        InputError: two things at one place.
    """
    placed: list[dict[str, Mapping[str, Any]]] = []
    for number, scene in enumerate(scenes):
        by_place = {str(thing[place]): thing for thing in scene}
        if len(by_place) != len(scene):
            raise InputError(f"scene {number} has two things at one place: {list(scene)}",
                             fix="give each thing a place of its own")
        placed.append(by_place)
    questions = sorted({(where, key) for by_place in placed for where, thing in by_place.items() for key in thing
                        if key != place and key not in common})

    def answer(thing: Mapping[str, Any] | None, key: str) -> str | None:
        if thing is None:
            return NOTHING
        return str(thing[key]) if thing.get(key) is not None else None

    return {**{f"{where} {key}": [answer(by_place.get(where), key) for by_place in placed] for where, key in questions},
            **{key: [str(scene[0][key]) if scene and key in scene[0] else None for scene in scenes] for key in common}}


def agreement(seen: Answers, asked: Answers) -> dict[str, Figure]:
    """Return how often what is seen is what was asked, by attribute.

    Args:
        seen: the judge's answers, each question of `asked` among them.
        asked: the wanted answers.

    Returns:
        For each attribute (the last word of the question) the share of right answers over all that were asked for
        something; with places also `place`, the share of pictures whose filled and empty places are the asked ones;
        with several questions also `whole`, the share of pictures with every answer right.
    """
    counts: dict[str, list[bool]] = {}
    count = max((len(given) for given in asked.values()), default=0)
    whole, placed = np.ones(count, dtype=bool), np.ones(count, dtype=bool)
    stated = np.zeros(count, dtype=bool)
    for question, wanted in asked.items():
        for number, (found, want) in enumerate(zip(seen[question], wanted, strict=True)):
            if want is None:
                continue
            stated[number] = True
            whole[number] &= found == want
            placed[number] &= (found == NOTHING) == (want == NOTHING)
            if want != NOTHING:
                counts.setdefault(question.rpartition(" ")[2], []).append(found == want)
    figures = {attribute: rate(sum(right), len(right)) for attribute, right in counts.items()}
    if stated.any() and any(NOTHING in given for given in asked.values()):
        figures["place"] = rate(int(placed[stated].sum()), int(stated.sum()))
    if stated.any() and len(asked) > 1:
        figures["whole"] = rate(int(whole[stated].sum()), int(stated.sum()))
    return figures
