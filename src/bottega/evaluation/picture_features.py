"""A small judge of pictures, trained on the project's own data; `pytest tests/evaluation/test_pictures.py`.

No weights are downloaded: `train_judge` fits a convolutional classifier (about 100,000 parameters, seconds) to the
real pictures and their labels or captions. Its 64 features carry the distances, its answers say whether a prompt was
followed. A judge that does not recognise real held-out pictures refuses to score. `tell_apart` trains a fresh network
to tell real from made, which sees faults that the judge has no question for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from bottega.core.errors import DataError, InputError, suggest
from bottega.evaluation.picture_distances import Features, Pixels, as_pixels
from bottega.evaluation.picture_network import BATCH, FEATURES, WIDTH, Network, Projection, as_floats, fit, seeded
from bottega.evaluation.picture_prompts import Answers, Labels, agreement, as_answers
from bottega.evaluation.statistics import Figure, rate

_FEWEST = 40  # pictures below which a judge would know them by heart
_PROJECTED = 4000  # pictures that are enough to find the directions of an unlabelled set


class Judge:
    """A network with what it can be asked, and how well it recognises real pictures that it was not trained on.

    Attributes:
        shape: channels, height and width of the pictures it reads.
        questions: question → the answers it knows; empty for unlabelled pictures.
        accuracy: its agreement with the labels of real held-out pictures, by attribute: the most that a model of
            pictures can score.
        bar: the accuracy below which it refuses to score.
        centre: mean of the network's numbers over training pictures [d]; basis: their main directions [d, at most 64].
    """

    def __init__(self, network: Network | Projection, questions: Mapping[str, Sequence[str]], shape: Sequence[int],
                 bar: float) -> None:
        self.network, self.bar = network, bar
        self.questions = {question: list(answers) for question, answers in questions.items()}
        self.shape = tuple(shape)
        self.accuracy: dict[str, Figure] = {}
        self.centre: Features = np.zeros(1)
        self.basis: Features = np.eye(1)

    def measure(self, train: Pixels) -> None:
        """Find centre and main directions of the features of training pictures."""
        known = torch.cat(self._read(train[:_PROJECTED], self.network.embed)).double().numpy()
        self.centre = known.mean(axis=0)
        variances, directions = np.linalg.eigh(np.atleast_2d(np.cov(known, rowvar=False)))
        self.basis = directions[:, -FEATURES:] / (math.sqrt(float(variances[-FEATURES:].mean())) or 1.0)

    @torch.no_grad()
    def _read(self, pictures: ArrayLike, head: Any) -> list[Any]:
        pixels = as_pixels(pictures)
        if pixels.shape[1:] != self.shape:
            raise InputError(f"pictures of {list(pixels.shape[1:])} cannot be judged by a judge of {list(self.shape)}",
                             fix="judge pictures of the size and channels that the judge was trained on")
        return [head(as_floats(pixels[start:start + 1024])) for start in range(0, len(pixels), 1024)]

    def features(self, pictures: ArrayLike) -> Features:
        """Return features [n, at most 64]: the main directions, of mean 0 and mean variance 1 over training pictures.

        Raises:
            InputError: the pictures have another shape than the judge's.
        """
        found = torch.cat(self._read(pictures, self.network.embed)).double().numpy()
        return np.asarray((found - self.centre) @ self.basis)

    def predict(self, pictures: ArrayLike) -> dict[str, list[str]]:
        """Return the answer to each question for each picture.

        Raises:
            InputError: the pictures have another shape than the judge's.
        """
        if not self.questions:
            return {}
        parts = self._read(pictures, lambda batch: [logits.argmax(1).numpy() for logits in self.network(batch)])
        chosen = [np.concatenate(answers) for answers in zip(*parts, strict=True)]
        return {question: [answers[place] for place in places]
                for (question, answers), places in zip(self.questions.items(), chosen, strict=True)}

    def grade(self, pictures: ArrayLike, asked: Labels) -> dict[str, Figure]:
        """Return how often the pictures show what was asked, by attribute (see `picture_prompts.agreement`).

        Raises:
            InputError: a question or an answer that the judge was not taught, or another shape of pictures.
        """
        pixels = as_pixels(pictures)
        answers = as_answers(asked, len(pixels))
        for question, wanted in answers.items():
            if question not in self.questions:
                raise InputError(f"the judge cannot answer '{question}'", fix=suggest(question, self.questions))
            if unknown := set(wanted) - {None} - set(self.questions[question]):
                name = str(min(map(str, unknown)))
                raise InputError(f"the judge knows no '{name}' as an answer to '{question}'",
                                 fix=suggest(name, self.questions[question]))
        return agreement(self.predict(pixels), answers)

    def require(self) -> None:
        """Make sure that the judge is good enough to score.

        Raises:
            DataError: it recognises fewer real held-out pictures than the bar.
        """
        worst = min((name for name in self.accuracy if name != "whole"),
                    key=lambda name: self.accuracy[name]["value"], default="")
        if worst and self.accuracy[worst]["value"] < self.bar:
            raise DataError(f"the judge gets only {self.accuracy[worst]['value']:.1%} of '{worst}' right on "
                            f"{self.accuracy[worst]['n']} real held-out pictures, under its bar of {self.bar:.0%}: "
                            f"its scores would mean little",
                            fix="give it more labelled pictures or more steps, or leave the labels out to compare "
                                "pictures by their pixels")


def _attribute(question: str) -> str:
    """Return what a question is about, whatever place it asks of."""
    return question.rpartition(" ")[2]


def _known(answers: Answers) -> dict[str, list[str]]:
    """Return the answers that occur for each attribute, at any place; numbers in their order."""
    found: dict[str, set[str]] = {}
    for question, given in answers.items():
        found.setdefault(_attribute(question), set()).update(one for one in given if one is not None)
    return {name: sorted(several, key=lambda one: (len(one), one)) for name, several in found.items()}


def train_judge(pictures: ArrayLike, labels: Labels | None, *, seed: int = 0,
                held_out: tuple[ArrayLike, Labels] | None = None, steps: int = 1200, bar: float = 0.9) -> Judge:
    """Train a judge on real pictures.

    Args:
        pictures: uint8 or -1 to 1 [n, channels, height, width].
        labels: a class number a picture, or answers to questions (see `picture_prompts`); None: the judge compares
            by the main directions of the pixels and answers nothing.
        seed: of the weights, the batches and the held-out pictures; the same seed gives the same judge (on one kind
            of machine with one number of threads).
        held_out: real pictures with labels to measure the judge on; without, every sixth training picture, at
            random, is kept for that.
        steps: batches of 64.
        bar: held-out accuracy below which the judge refuses to score.

    Raises:
        DataError: fewer than 40 pictures, or no question with two answers.
        InputError: pictures or labels that cannot be read.
    """
    pixels = as_pixels(pictures)
    if len(pixels) < _FEWEST:
        raise DataError(f"{len(pixels)} pictures are too few to train a judge", fix=f"give at least {_FEWEST}")
    if labels is None:
        with seeded(seed):
            judge = Judge(Projection.of(as_floats(pixels[:_PROJECTED])), {}, pixels.shape[1:], bar)
        judge.measure(pixels)
        return judge
    answers = as_answers(labels, len(pixels))
    order = np.random.default_rng(seed).permutation(len(pixels))
    if held_out is None:
        kept, order = order[:len(order) // 6], order[len(order) // 6:]
        held_out = pixels[kept], {question: [given[place] for place in kept] for question, given in answers.items()}
    order = order[:steps * BATCH]  # no more are looked at
    known = _known(answers)
    answers = {question: given for question, given in answers.items() if known[_attribute(question)]}
    if max(map(len, known.values()), default=0) < 2:
        raise DataError("no question has two different answers, so there is nothing to judge by",
                        fix="label the pictures with at least two classes, or give no labels")
    codes = {name: {answer: place for place, answer in enumerate(given)} for name, given in known.items()}
    targets = np.array([[codes[_attribute(question)].get(given[place] or "", -1) for question, given in answers.items()]
                        for place in order], dtype=np.int64)
    with seeded(seed) as shuffle:
        network = Network(pixels.shape[1:], list(answers), {name: len(given) for name, given in known.items() if given},
                          WIDTH)
        fit(network, pixels[order], targets, steps, shuffle, "Training the judge of pictures")
    judge = Judge(network, {question: known[_attribute(question)] for question in answers}, pixels.shape[1:], bar)
    judge.measure(pixels[order])
    wanted = as_answers(held_out[1], len(as_pixels(held_out[0])))
    judge.accuracy = agreement(judge.predict(held_out[0]), {name: wanted[name] for name in answers if name in wanted})
    return judge


def tell_apart(real: ArrayLike, made: ArrayLike, *, seed: int = 0, steps: int = 300) -> Figure:
    """Train a fresh network to tell real from made (classifier two-sample test, Lopez-Paz and Oquab 2017).

    Two networks, each trained on one half of equal numbers of both and tested on the other half, so that every
    picture is tested once by a network that has not seen it.

    Args:
        real, made: pictures; no picture may be in both, or a network that remembers it errs on purpose.
        seed: of the halves, the weights and the batches; another than the judge's gives other eyes.
        steps: batches of 64 a network.

    Returns:
        The share told rightly: 0.5 is chance (they cannot be told apart), 1 is plain to see.

    Raises:
        InputError: fewer than 20 of either.
    """
    sides = as_pixels(real), as_pixels(made)
    count = min(len(side) for side in sides)
    if count < 20:
        raise InputError(f"{count} pictures are too few to tell sets apart", fix="give at least 20 of each")
    rng = np.random.default_rng(seed)
    pixels = np.concatenate([side[rng.permutation(len(side))[:count]] for side in sides])
    targets = np.repeat([[0], [1]], count, axis=0)
    half = np.tile(np.arange(count) % 2, 2)
    right = 0
    for fold in (0, 1):
        with seeded(seed + 1 + fold) as shuffle:
            network = Network(pixels.shape[1:], ["made"], {"made": 2}, 24)
            fit(network, pixels[half != fold], targets[half != fold], steps, shuffle, "Telling real from made")
        tested = pixels[half == fold]
        with torch.no_grad():
            said = torch.cat([network(as_floats(tested[start:start + 1024]))[0].argmax(1)
                              for start in range(0, len(tested), 1024)])
        right += int((said.numpy() == targets[half == fold, 0]).sum())
    return rate(right, 2 * count)
