"""How good made pictures are, each score beside what real pictures and a plain Gaussian get; `pytest tests/evaluation`.

Real held-out pictures are the reference. `real` is what other real pictures score against them: no distance is zero,
and no accuracy is one, even for the real thing. `gaussian` is what pictures score that know only the pixels' means
and covariances. A score without these two says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bottega.core.errors import InputError
from bottega.evaluation.picture_distances import (
    Features,
    Pixels,
    as_pixels,
    cubic_kernel,
    frechet_distance,
    gaussian_pictures,
    kernel_distance,
    nearest_training,
    neighbourhoods,
    resampled,
)
from bottega.evaluation.picture_features import Judge, tell_apart, train_judge
from bottega.evaluation.picture_prompts import Labels, as_answers
from bottega.evaluation.statistics import Figure, rate

FEWEST = 20  # pictures of each kind
HALVED = 1000  # held-out pictures from which the other real ones are taken from them too, and not from training
# name → which direction is good, and what is measured
ABOUT = {
    "frechet": ("lower", "distance of means and covariances of the judge's features"),
    "kernel": ("lower", "unbiased distance of the whole distributions of the features; around 0 for the same"),
    "precision": ("higher", "made pictures that lie among real ones: quality"),
    "recall": ("higher", "real pictures that lie among made ones: variety"),
    "coverage": ("higher", "real pictures with a made one in their neighbourhood: kinds that are not left out"),
    "told_apart": ("lower", "pictures that a fresh network tells rightly as real or made; 0.5 is chance"),
    "nearest": ("real", "distance to the nearest training picture, over that of real held-out ones; under 0.8: copies"),
    "copies": ("lower", "pictures nearer to a training picture than 99 in 100 real held-out ones are"),
}
Score = dict[str, Any]  # made, real, gaussian: Figure; better: lower, higher or real (nearer to it); as_real; about


def _positive(figure: Figure) -> Figure:
    """Return a figure whose interval does not reach below zero."""
    return Figure(value=figure["value"], low=max(0.0, figure["low"]), high=figure["high"], n=figure["n"])


def _score(made: Figure, real: Figure, gaussian: Figure, better: str, about: str) -> Score:
    """Put a figure beside its floor and its bad anchor, and say whether it is as good as real.

    It is where the 95 % interval of the difference (Newcombe 1998, method 10: both half-widths joined) holds 0.
    """
    above = made["value"] - real["value"]
    low_enough = above <= math.hypot(made["value"] - made["low"], real["high"] - real["value"])
    high_enough = -above <= math.hypot(made["high"] - made["value"], real["value"] - real["low"])
    as_real = {"lower": low_enough, "higher": high_enough}.get(better, low_enough and high_enough)
    return {"made": made, "real": real, "gaussian": gaussian, "better": better, "as_real": as_real, "about": about}


def _distances(judge: Judge, reference: Features, pictures: Pixels, rng: np.random.Generator) -> dict[str, Figure]:
    """Compare pictures with the reference in the judge's features."""
    made = judge.features(pictures)
    inside, outside = cubic_kernel(reference, reference), cubic_kernel(made, made)
    between = cubic_kernel(reference, made)

    def frechet(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
        return frechet_distance(reference[one], made[other])

    def kernel(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
        return kernel_distance(inside[np.ix_(one, one)], outside[np.ix_(other, other)], between[np.ix_(one, other)])

    lies = neighbourhoods(reference, made)
    return {"frechet": _positive(resampled(frechet, len(reference), len(made), rng)),
            "kernel": resampled(kernel, len(reference), len(made), rng),
            **{name: rate(int(there.sum()), len(there)) for name, there in lies.items()}}


def _copying(found: Features, real: Features, rng: np.random.Generator) -> dict[str, Figure]:
    """Compare distances to the nearest training picture with those of real held-out pictures."""
    def ratio(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
        usual = max(1.0, float(np.median(real[other])))  # one grey level: a set that repeats itself has a median of 0
        return float(np.median(found[one])) / usual

    near = int((found <= np.quantile(real, 0.01)).sum())
    return {"nearest": _positive(resampled(ratio, len(found), len(real), rng)), "copies": rate(near, len(found))}


def _warnings(scores: Mapping[str, Score]) -> list[str]:
    """Return what a person should know before believing in the pictures, in plain words."""
    said = []

    def made(name: str) -> dict[str, float]:
        return dict(scores[name]["made"])

    def real(name: str) -> dict[str, float]:
        return dict(scores[name]["real"])

    # copies lie among real pictures; empty ones lie beside them, near to everything, and copy nothing
    near = made("nearest")["high"] < 0.8 or made("copies")["low"] > 0.05 + real("copies")["high"]
    if near and made("precision")["high"] > 0.5 * real("precision")["value"]:
        said.append(f"copying: the pictures are {made('nearest')['value']:.2f} times as far from the nearest training "
                    f"picture as real ones are, {made('copies')['value']:.0%} are near copies; "
                    "train on more pictures, or for less long")
    if made("coverage")["high"] < 0.7 * real("coverage")["value"]:
        said.append(f"missing kinds: the pictures cover {made('coverage')['value']:.0%} of the real ones, "
                    f"other real pictures {real('coverage')['value']:.0%}; train longer, or lower the guidance if "
                    "there is one")
    if "told_apart" in scores and made("told_apart")["low"] > max(0.75, real("told_apart")["high"]):
        said.append(f"visible faults: a fresh network tells {made('told_apart')['value']:.0%} of the pictures rightly "
                    "as real or made; look at them closely for blur, noise and edges")
    for name, score in scores.items():
        if name.startswith("shows ") and score["made"]["high"] < 0.8 * score["real"]["value"]:
            said.append(f"prompts not followed: {score['made']['value']:.0%} show the {name[6:]} that was asked for, "
                        f"of real pictures {score['real']['value']:.0%}; train longer, or raise the guidance if "
                        "there is one")
    return said


def judge_pictures(real_train: ArrayLike, real_test: ArrayLike, made: ArrayLike, *,
                   train_labels: Labels | None = None, test_labels: Labels | None = None, asked: Labels | None = None,
                   judge: Judge | None = None, seed: int = 0, count: int = 1000, two_sample_steps: int = 300,
                   ) -> dict[str, Any]:
    """Score made pictures against real held-out ones.

    Args:
        real_train: pictures that the model was trained on; all of them are searched for copies.
        real_test: real pictures that it was not trained on. From 1,000 on one half is the reference and the other half
            the `real` pictures beside the made ones; of fewer all are the reference, and `real` are training pictures
            (which score worse than they should where training never shows what the held-out ones do).
        made: its pictures, in no chosen order, not picked by hand, asked for as the held-out ones would be.
        train_labels, test_labels: classes or answers of the real pictures (see `picture_prompts`); without
            `train_labels` pictures are compared by their pixels only.
        asked: what was asked of each made picture.
        judge: a judge trained already (`train_judge`), to compare many models by the same eyes.
        seed: of the judge, the chosen pictures, the baseline and the intervals.
        count: at most this many pictures of each kind are compared; the same number of each, as distances depend on
            it.
        two_sample_steps: training of the fresh networks that tell real from made (the slowest part); 0 leaves it out.

    Returns:
        Plain JSON: `scores` (name → `made`, `real`, `gaussian` with 95 % intervals, `better`, `as_real`, `about`;
        `shows …` for each attribute asked for), `warnings` in plain words, `counts`, and `judge`.

    Raises:
        DataError: the judge recognises too few real held-out pictures to be believed.
        InputError: pictures or labels that cannot be read, of different shapes, or fewer than 20 of a kind.
    """
    train, test, new = as_pixels(real_train), as_pixels(real_test), as_pixels(made)
    if not train.shape[1:] == test.shape[1:] == new.shape[1:]:
        raise InputError(f"pictures of different shapes cannot be compared: training {list(train.shape[1:])}, "
                         f"held out {list(test.shape[1:])}, made {list(new.shape[1:])}",
                         fix="make pictures of the size that the model was trained on")
    halved = len(test) >= HALVED
    compared = min(len(train), len(test) // 2 if halved else len(test), len(new), count)
    if compared < FEWEST:
        raise InputError(f"only {compared} pictures of a kind can be compared", fix=f"give at least {FEWEST} of each")
    if judge is None:
        held_out = None if test_labels is None else (test, test_labels)
        judge = train_judge(train, train_labels, held_out=held_out, seed=seed)
    judge.require()

    rng = np.random.default_rng(seed)
    drawn, other, chosen = (rng.permutation(len(side)) for side in (test, train, new))
    reference, made_ones = test[drawn[:compared]], new[chosen[:compared]]
    floor = test[drawn[compared:2 * compared]] if halved else train[np.sort(other[:compared])]
    kinds = {"made": made_ones, "real": floor, "gaussian": gaussian_pictures(train, compared, rng)}
    known = judge.features(reference)
    figures = {kind: _distances(judge, known, pictures, rng) for kind, pictures in kinds.items()}
    if two_sample_steps:
        for kind, pictures in kinds.items():
            figures[kind]["told_apart"] = tell_apart(reference, pictures, seed=seed + 1, steps=two_sample_steps)
    usual = nearest_training(reference, train)[1]
    for kind, pictures in {**kinds, "real": reference}.items():
        figures[kind] |= _copying(nearest_training(pictures, train)[1], usual, rng)
    scores = {name: _score(figures["made"][name], figures["real"][name], figures["gaussian"][name], better, about)
              for name, (better, about) in ABOUT.items() if name in figures["made"]}
    if asked is not None and judge.questions:
        scores |= _following(judge, new, as_answers(asked, len(new)), kinds["gaussian"])
    return {"scores": scores, "warnings": _warnings(scores), "seed": seed,
            "counts": {"train": len(train), "held_out": len(test), "made": len(new), "compared": compared,
                       "real_from": "held_out" if halved else "train"},
            "judge": {"bar": judge.bar, "held_out": judge.accuracy, "questions": judge.questions,
                      "features": int(known.shape[1])}}


def _following(judge: Judge, made: Pixels, asked: Mapping[str, list[str | None]], gaussian: Pixels) -> dict[str, Score]:
    """Grade what was asked of all made pictures, where the judge could be measured on real held-out ones."""
    answers = {question: [given[place % len(made)] for place in range(len(gaussian))]
               for question, given in asked.items()}
    chance = judge.grade(gaussian, answers)
    return {f"shows {name}": _score(figure, judge.accuracy[name], chance[name], "higher",
                                    f"pictures that show the {name} asked for, as the judge sees it")
            for name, figure in judge.grade(made, asked).items() if name in judge.accuracy}
