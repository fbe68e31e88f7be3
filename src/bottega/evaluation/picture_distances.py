"""How far two sets of pictures are from each other: pure formulas; `pytest tests/evaluation/test_pictures.py`.

Distances over features: Fréchet (two Gaussians), kernel (unbiased, cubic), and who lies in whose neighbourhood
(precision, recall, coverage). Over pixels: the nearest training picture, and a Gaussian that knows only means and
covariances. Nothing here is random unless a generator is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bottega.core.errors import InputError
from bottega.evaluation.statistics import Figure

Pixels = NDArray[np.uint8]
Features = NDArray[np.float64]
_BLOCK = 2048  # pictures compared at once: bounds the memory, not the result
_FITTED = 4000  # pictures that are enough to fit the Gaussian baseline


def as_pixels(pictures: ArrayLike) -> Pixels:
    """Return pictures as they would be stored: uint8 [n, channels, height, width].

    Args:
        pictures: uint8, or floats from -1 to 1 (a sampler's small overshoot is clipped), as an array or a tensor.

    Raises:
        InputError: another shape, type or range, not-finite values, or no picture.
    """
    array = np.asarray(pictures)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or not array.size:
        raise InputError(f"pictures of shape {list(array.shape)} cannot be read",
                         fix="give [number, channels, height, width] with 1 or 3 channels and at least one picture")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise InputError(f"pictures of type {array.dtype} cannot be read", fix="give uint8, or floats from -1 to 1")
    if not np.isfinite(array).all():
        raise InputError("some pixels are not finite numbers", fix="look at the model's loss: it has diverged")
    if float(np.abs(array).max()) > 10:
        raise InputError(f"pixel values reach {float(np.abs(array).max()):g}, but floats run from -1 to 1",
                         fix="divide by 127.5 and subtract 1, or give uint8")
    return np.asarray(np.rint((np.clip(array, -1, 1) + 1) * 127.5), dtype=np.uint8)


def frechet_distance(one: Features, other: Features) -> float:
    """Return the Fréchet distance of the Gaussians fitted to two sets (Heusel et al. 2017, equation 6).

    |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½), where the trace of the root is that of (S1^½ S2 S1^½)^½, whose matrix is
    symmetric, so that rounding cannot make it complex.

    Args:
        one, other: features [n, width], n at least 2.
    """
    first, second = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (one, other))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ second @ root), 0, None)).sum()
    apart = np.square(one.mean(axis=0) - other.mean(axis=0)).sum()
    return max(0.0, float(apart + np.trace(first) + np.trace(second) - 2 * shared))


def cubic_kernel(one: Features, other: Features) -> Features:
    """Return (x·y / width + 1)³ for each pair: [n, m]."""
    return np.asarray((one @ other.T / one.shape[1] + 1) ** 3)


def kernel_distance(within_one: Features, within_other: Features, between: Features) -> float:
    """Return the unbiased squared kernel distance (Gretton et al. 2012, lemma 6; Bińkowski et al. 2018).

    It may be negative: around 0 for two samples of one distribution, whatever their size.

    Args:
        within_one, within_other, between: kernel matrices [n, n], [m, m], [n, m].
    """
    n, m = between.shape
    inside = (within_one.sum() - np.trace(within_one)) / (n * (n - 1))
    inside += (within_other.sum() - np.trace(within_other)) / (m * (m - 1))
    return float(inside - 2 * between.mean())


def distances(one: Features, other: Features) -> Features:
    """Return the Euclidean distance of each pair: [n, m]."""
    squares = np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1) - 2 * one @ other.T
    return np.asarray(np.sqrt(np.clip(squares, 0, None)))


def neighbourhoods(real: Features, made: Features, k: int = 3) -> dict[str, NDArray[np.bool_]]:
    """Say of each picture whether it lies where the other set lives.

    A set lives in the balls around its members that reach to their k-th nearest fellow.

    Args:
        real, made: features [n, width], more than k of each.
        k: neighbours.

    Returns:
        `precision`: of each made one, is it in a real one's ball; `recall`: of each real one, is it in a made one's
        ball (Kynkäänniemi et al. 2019); `coverage`: of each real one, does its ball hold a made one (Naeem et al.
        2020; two large samples of one distribution give 1 - 2^-k).

    Raises:
        InputError: too few pictures.
    """
    if min(len(real), len(made)) <= k:
        raise InputError(f"{min(len(real), len(made))} pictures have no {k} neighbours each",
                         fix=f"compare at least {k + 1} pictures")
    real_reach, made_reach = (np.partition(distances(side, side), k, axis=1)[:, k] for side in (real, made))
    between = distances(real, made)
    return {"precision": (between <= real_reach[:, None]).any(axis=0),
            "recall": (between <= made_reach).any(axis=1),
            "coverage": between.min(axis=1) <= real_reach}


def nearest_training(pictures: Pixels, train: Pixels) -> tuple[NDArray[np.int64], Features]:
    """Find the training picture nearest to each picture.

    Args:
        pictures: uint8 [n, channels, height, width].
        train: uint8 [m, channels, height, width], may be memory-mapped; all of it is looked at.

    Returns:
        Its index [n], and its exact Euclidean distance [n] in grey levels: 0 is a copy.
    """
    looked = pictures.reshape(len(pictures), -1).astype(np.float32) - 127.5
    best = np.full(len(pictures), np.inf, dtype=np.float32)
    index = np.zeros(len(pictures), dtype=np.int64)
    for start in range(0, len(train), _BLOCK):
        block = np.asarray(train[start:start + _BLOCK]).reshape(-1, looked.shape[1]).astype(np.float32) - 127.5
        squares = np.square(block).sum(axis=1) - 2 * looked @ block.T  # but for |picture|², which orders nothing
        place = squares.argmin(axis=1)
        found = squares[np.arange(len(looked)), place]
        nearer = found < best
        best[nearer], index[nearer] = found[nearer], start + place[nearer]
    exact = [np.linalg.norm(picture.astype(np.float64) - np.asarray(train[place], dtype=np.float64))
             for picture, place in zip(pictures, index, strict=True)]
    return index, np.array(exact)


def gaussian_pictures(train: Pixels, count: int, rng: np.random.Generator) -> Pixels:
    """Draw pictures of a Gaussian that has the training pixels' means and covariances, and knows nothing else.

    A weighted sum of centred training pictures with normal weights has exactly their covariance, so the matrix of
    pixels by pixels is never made. Of more than 4,000 training pictures it is fitted to 4,000.
    """
    chosen = np.sort(rng.permutation(len(train))[:_FITTED])
    flat = np.asarray(train[chosen]).reshape(len(chosen), -1).astype(np.float32)
    centre = flat.mean(axis=0)
    weights = rng.standard_normal((count, len(flat)), dtype=np.float32) / math.sqrt(max(1, len(flat) - 1))
    drawn = centre + weights @ (flat - centre)
    return np.asarray(np.rint(np.clip(drawn, 0, 255)), dtype=np.uint8).reshape(count, *train.shape[1:])


def resampled(measure: Callable[[NDArray[np.int64], NDArray[np.int64]], float], one: int, other: int,
              rng: np.random.Generator, times: int = 50) -> Figure:
    """Measure two sets with an interval from random halves of both (delete-half jackknife, Shao and Wu 1989).

    Halves of n, not n drawn with replacement: a repeated picture is its own nearest neighbour, which biases kernel
    and Fréchet distances upwards. The spread over halves estimates the standard error at full size (where both sets
    are of one distribution it is wider than that: such an interval errs on the safe side).

    Args:
        measure: takes indices into each set, returns the value.
        one, other: sizes of the two sets.
        rng: draws the halves.
        times: how many.
    """
    value = measure(np.arange(one), np.arange(other))
    halves = [measure(rng.permutation(one)[:one // 2], rng.permutation(other)[:other // 2]) for _ in range(times)]
    margin = 1.96 * float(np.std(halves, ddof=1))
    return Figure(value=value, low=value - margin, high=value + margin, n=min(one, other))
