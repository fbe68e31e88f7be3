"""The judges of pictures: formulas equal slow references; each fault is told by the measure meant for it."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from sklearn.datasets import load_digits

from bottega.core.errors import DataError, InputError
from bottega.evaluation.picture_distances import (
    as_pixels,
    cubic_kernel,
    distances,
    frechet_distance,
    gaussian_pictures,
    kernel_distance,
    nearest_training,
    neighbourhoods,
    resampled,
)
from bottega.evaluation.picture_features import Judge, tell_apart, train_judge
from bottega.evaluation.picture_prompts import agreement, as_answers, scene_answers
from bottega.evaluation.pictures import _warnings, judge_pictures

Split = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def digits() -> Split:
    """Scikit-learn's 8 x 8 digits: 900 to train on, 450 held out, 447 that stand for a perfect model's pictures."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(3).permutation(len(images))
    pixels = np.rint(images / 16 * 255).astype(np.uint8).reshape(-1, 1, 8, 8)[order]
    labels = labels[order].astype(np.int64)
    return {"train": pixels[:900], "train_labels": labels[:900], "test": pixels[900:1350],
            "test_labels": labels[900:1350], "fresh": pixels[1350:], "fresh_labels": labels[1350:]}


@pytest.fixture(scope="module")
def judge(digits: Split) -> Judge:
    return train_judge(digits["train"], digits["train_labels"], held_out=(digits["test"], digits["test_labels"]),
                       steps=300)


def scored(digits: Split, judge: Judge, made: NDArray[Any], **more: Any) -> dict[str, Any]:
    return judge_pictures(digits["train"], digits["test"], made, judge=judge, **{"two_sample_steps": 0, **more})


# --- formulas ---------------------------------------------------------------------------------------------------------

def features(seed: int, count: int = 60, width: int = 5, shift: float = 0.0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, width)) @ rng.standard_normal((width, width)) + shift


def test_frechet_distance_equals_the_formula_with_a_matrix_root() -> None:
    one, other = features(0), features(1, 80, shift=0.5)
    first, second = np.cov(one.T), np.cov(other.T)
    slow = np.square(one.mean(0) - other.mean(0)).sum() + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert frechet_distance(one, other) == pytest.approx(slow)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(one, one + 2) == pytest.approx(5 * 4)


def test_frechet_distance_holds_with_fewer_pictures_than_features() -> None:
    one, other = features(0, 10, 30), features(1, 12, 30)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one))
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-4)


def test_kernel_distance_equals_loops_over_all_pairs() -> None:
    one, other = features(0, 12), features(1, 9, shift=0.3)

    def k(x: NDArray[Any], y: NDArray[Any]) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    inside = np.mean([k(x, y) for i, x in enumerate(one) for j, y in enumerate(one) if i != j])
    outside = np.mean([k(x, y) for i, x in enumerate(other) for j, y in enumerate(other) if i != j])
    between = np.mean([k(x, y) for x in one for y in other])
    assert kernel_distance(cubic_kernel(one, one), cubic_kernel(other, other), cubic_kernel(one, other)) == \
        pytest.approx(inside + outside - 2 * between)


def test_kernel_distance_has_no_bias_for_small_samples() -> None:
    rng = np.random.default_rng(0)
    found = [kernel_distance(cubic_kernel(x, x), cubic_kernel(y, y), cubic_kernel(x, y))
             for x, y in (rng.standard_normal((2, 10, 4)) for _ in range(2000))]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))


def test_neighbourhoods_equal_loops() -> None:
    real, made = features(0, 20), features(1, 15, shift=1.0)

    def reach(side: NDArray[Any], place: int) -> float:
        return sorted(float(np.linalg.norm(side[place] - other)) for other in side)[3]

    def near(one: NDArray[Any], other: NDArray[Any]) -> float:
        return float(np.linalg.norm(one - other))

    found = neighbourhoods(real, made)
    assert found["precision"].tolist() == [any(near(m, r) <= reach(real, i) for i, r in enumerate(real)) for m in made]
    assert found["recall"].tolist() == [any(near(m, r) <= reach(made, j) for j, m in enumerate(made)) for r in real]
    assert found["coverage"].tolist() == [any(near(m, r) <= reach(real, i) for m in made) for i, r in enumerate(real)]
    assert distances(real, made)[2, 3] == pytest.approx(near(real[2], made[3]))


def test_coverage_of_one_distribution_is_its_expected_seven_eighths() -> None:
    rng = np.random.default_rng(0)
    shares = [neighbourhoods(*rng.standard_normal((2, 400, 8)))["coverage"].mean() for _ in range(5)]
    assert np.mean(shares) == pytest.approx(1 - 2 ** -3, abs=0.02)


def test_nearest_training_equals_a_search_of_all_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bottega.evaluation.picture_distances._BLOCK", 7)
    rng = np.random.default_rng(0)
    pictures, train = (rng.integers(0, 256, (count, 3, 4, 5), dtype=np.uint8) for count in (9, 40))
    pictures[4] = train[31]
    slow = [[float(np.linalg.norm(p.astype(float) - t.astype(float))) for t in train] for p in pictures]
    index, found = nearest_training(pictures, train)
    assert index.tolist() == np.argmin(slow, axis=1).tolist()
    assert found == pytest.approx(np.min(slow, axis=1))
    assert found[4] == 0


def test_gaussian_pictures_have_the_training_means_and_covariances() -> None:
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((300, 4)) @ rng.standard_normal((4, 4)) * 10 + 128
    train = np.clip(mixed, 0, 255).round().astype(np.uint8).reshape(-1, 1, 2, 2)
    drawn = gaussian_pictures(train, 20000, rng).reshape(-1, 4).astype(float)
    flat = train.reshape(-1, 4).astype(float)
    assert drawn.mean(0) == pytest.approx(flat.mean(0), abs=1)
    assert np.cov(drawn.T) == pytest.approx(np.cov(flat.T), abs=0.05 * np.cov(flat.T).max())


def test_the_interval_of_a_distance_is_as_wide_as_repeated_draws_say() -> None:
    def draw(seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
        rng = np.random.default_rng(seed)
        return rng.standard_normal((300, 4)), rng.standard_normal((300, 4)) + 1

    values = [frechet_distance(*draw(seed)) for seed in range(100)]
    one, other = draw(1000)
    figure = resampled(lambda a, b: frechet_distance(one[a], other[b]), 300, 300, np.random.default_rng(0))
    assert (figure["high"] - figure["low"]) / (2 * 1.96) == pytest.approx(np.std(values), rel=0.35)
    assert figure["low"] < 4 < figure["high"]


# --- pictures and prompts ---------------------------------------------------------------------------------------------

def test_floats_become_the_pixels_that_would_be_stored() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    floats = torch.from_numpy(pixels).float() / 127.5 - 1
    assert as_pixels(floats).tolist() == pixels.tolist()
    assert as_pixels(np.array([[[[-1.2, 1.1]]]])).tolist() == [[[[0, 255]]]]


@pytest.mark.parametrize("bad", [np.zeros((2, 8, 8), np.uint8), np.zeros((2, 2, 8, 8), np.uint8),
                                 np.zeros((0, 1, 8, 8), np.uint8), np.zeros((1, 1, 8, 8), np.int64),
                                 np.full((1, 1, 8, 8), np.nan), np.full((1, 1, 8, 8), 255.0)])
def test_what_is_no_picture_is_refused(bad: NDArray[Any]) -> None:
    with pytest.raises(InputError):
        as_pixels(bad)


def test_scenes_become_questions_about_places() -> None:
    scenes = [[{"shape": "star", "colour": "red", "place": "left"}, {"shape": "moon", "colour": "blue",
                                                                     "place": "right"}],
              [{"shape": "note", "colour": "green", "place": "left"}]]
    assert scene_answers(scenes) == {
        "left colour": ["red", "green"], "left shape": ["star", "note"],
        "right colour": ["blue", "nothing"], "right shape": ["moon", "nothing"]}
    grounds = [[{"shape": "star", "place": "left", "ground": "grey"}], [], [{"shape": "moon", "place": "left"}]]
    assert scene_answers(grounds, common=["ground"]) == {"left shape": ["star", "nothing", "moon"],
                                                         "ground": ["grey", None, None]}
    with pytest.raises(InputError, match="two things"):
        scene_answers([[{"shape": "star", "place": "left"}, {"shape": "moon", "place": "left"}]])


def test_agreement_counts_attributes_places_and_whole_prompts() -> None:
    asked = {"left shape": ["star", "star", None], "left colour": ["red", "red", None],
             "right shape": ["nothing", "moon", None], "right colour": ["nothing", "blue", None]}
    seen = {"left shape": ["star", "star", "star"], "left colour": ["red", "blue", "red"],
            "right shape": ["nothing", "nothing", "star"], "right colour": ["nothing", "nothing", "red"]}
    found = agreement(seen, asked)
    assert {name: (figure["value"], figure["n"]) for name, figure in found.items()} == {
        "shape": (2 / 3, 3), "colour": (1 / 3, 3), "place": (0.5, 2), "whole": (0.5, 2)}
    assert agreement({"class": ["3", "4"]}, as_answers([3, -1], 2))["class"]["n"] == 1


# --- the judge --------------------------------------------------------------------------------------------------------

def test_the_judge_recognises_held_out_digits_and_is_the_same_again(digits: Split, judge: Judge) -> None:
    assert judge.accuracy["class"]["value"] > 0.96
    before = torch.get_rng_state()
    again = train_judge(digits["train"], digits["train_labels"], steps=40)
    assert torch.equal(before, torch.get_rng_state()), "the caller's random state moved"
    other = train_judge(digits["train"], digits["train_labels"], steps=40)
    assert np.array_equal(again.features(digits["test"]), other.features(digits["test"]))
    known = judge.features(digits["train"])
    assert known.mean() == pytest.approx(0, abs=1e-6)
    assert known.var(0, ddof=1).mean() == pytest.approx(1, abs=1e-6)
    assert known.shape == (900, 64)


def test_a_judge_that_learned_nothing_refuses_to_score(digits: Split) -> None:
    shuffled = np.random.default_rng(0).permutation(digits["train_labels"])
    blind = train_judge(digits["train"], shuffled, held_out=(digits["test"], digits["test_labels"]), steps=30)
    with pytest.raises(DataError, match="under its bar of 90%"):
        scored(digits, blind, digits["fresh"])


def test_what_the_judge_was_not_taught_is_refused_by_name(digits: Split, judge: Judge) -> None:
    with pytest.raises(InputError, match="no '11'"):
        judge.grade(digits["fresh"][:2], [11, 3])
    with pytest.raises(InputError, match="cannot answer 'colour'"):
        judge.grade(digits["fresh"][:2], {"colour": ["red", "blue"]})
    with pytest.raises(InputError, match="judge of"):
        judge.features(np.zeros((2, 3, 8, 8), np.uint8))
    with pytest.raises(DataError, match="too few"):
        train_judge(digits["train"][:20], digits["train_labels"][:20])
    with pytest.raises(DataError, match="two different answers"):
        train_judge(digits["train"], np.zeros(900, np.int64))


def test_questions_may_have_any_name_and_need_no_answer(digits: Split) -> None:
    odd = [str(label % 2) for label in digits["train_labels"]]
    judge = train_judge(digits["train"], {"keys": odd, "v1.0": [*odd[:300], *[None] * 600], "type": [None] * 900},
                        steps=40)
    assert set(judge.predict(digits["test"])) == {"keys", "v1.0"}
    assert set(judge.accuracy) == {"keys", "v1.0", "whole"}


def squares(count: int, seed: int) -> tuple[NDArray[np.uint8], list[list[dict[str, str]]]]:
    """Draw one or two coloured bars, upright or lying, left and right."""
    rng = np.random.default_rng(seed)
    pictures, scenes = np.full((count, 3, 20, 20), 230, np.uint8), []
    for picture in pictures:
        places = [["left"], ["right"], ["left", "right"]][rng.integers(3)]
        scene = [{"shape": ["upright", "lying"][rng.integers(2)],
                  "colour": ["red", "green", "blue"][rng.integers(3)], "place": place} for place in places]
        for thing in scene:
            tall, wide = (8, 3) if thing["shape"] == "upright" else (3, 8)
            top, left = rng.integers(0, 12), rng.integers(0, 2) + 10 * (thing["place"] == "right")
            colour = np.array([200 * (thing["colour"] == name) for name in ("red", "green", "blue")], np.uint8)
            picture[:, top:top + tall, left:left + wide] = colour[:, None, None]
        scenes.append(scene)
    return pictures, scenes


def test_a_judge_reads_shape_colour_and_place_of_scenes() -> None:
    train, scenes = squares(1500, 0)
    judge = train_judge(train, scene_answers(scenes), steps=250)
    assert {name: figure["value"] > 0.95 for name, figure in judge.accuracy.items()} == dict.fromkeys(
        ("shape", "colour", "place", "whole"), True)
    fresh, asked = squares(200, 1)
    assert judge.grade(fresh, scene_answers(asked))["whole"]["value"] > 0.95
    swapped = fresh[:, [1, 2, 0]].copy()  # every colour is another one, nothing else has changed
    grades = judge.grade(swapped, scene_answers(asked))
    assert grades["colour"]["value"] < 0.1
    assert min(grades["shape"]["value"], grades["place"]["value"]) > 0.9
    mirrored = judge.grade(fresh[..., ::-1].copy(), scene_answers(asked))
    assert mirrored["place"]["value"] < 0.5


# --- whole scores -----------------------------------------------------------------------------------------------------

def test_fresh_real_pictures_score_at_the_floor(digits: Split, judge: Judge) -> None:
    found = scored(digits, judge, digits["fresh"], asked=digits["fresh_labels"], two_sample_steps=80)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    names = "frechet kernel precision recall coverage told_apart nearest copies"
    assert {name: score["as_real"] for name, score in found["scores"].items()} == dict.fromkeys(
        [*names.split(), "shows class"], True)
    assert found["warnings"] == []
    assert found["counts"] == {"train": 900, "held_out": 450, "made": 447, "compared": 447,
                               "real_from": "train"}
    for name, score in found["scores"].items():
        assert score["made"]["low"] <= score["made"]["value"] <= score["made"]["high"], name
    anchor = {name: score["gaussian"]["value"] for name, score in found["scores"].items()}
    made = {name: score["made"]["value"] for name, score in found["scores"].items()}
    assert anchor["frechet"] > 4 * made["frechet"]
    assert anchor["told_apart"] > 0.9
    assert anchor["shows class"] < 0.3
    again = scored(digits, judge, digits["fresh"], asked=digits["fresh_labels"])
    assert again["scores"]["frechet"] == found["scores"]["frechet"]


def test_a_blurred_set_is_told_apart_and_far(digits: Split, judge: Judge) -> None:
    fresh = digits["fresh"].astype(float)
    blurred = (fresh + sum(np.roll(fresh, shift, axis) for shift in (-1, 1) for axis in (2, 3))) / 5
    found = scored(digits, judge, blurred.round().astype(np.uint8), two_sample_steps=80)
    scores = found["scores"]
    assert scores["told_apart"]["made"]["value"] > 0.9
    assert not scores["told_apart"]["as_real"]
    assert not scores["frechet"]["as_real"]
    assert not scores["kernel"]["as_real"]
    assert any(said.startswith("visible faults") for said in found["warnings"])


def test_a_collapsed_set_keeps_precision_and_loses_recall_and_coverage(digits: Split, judge: Judge) -> None:
    ones = digits["fresh"][digits["fresh_labels"] == 1]
    found = scored(digits, judge, np.concatenate([ones] * 4), asked=[1] * (4 * len(ones)))
    scores = found["scores"]
    assert scores["precision"]["as_real"]
    assert scores["shows class"]["as_real"]
    assert scores["recall"]["made"]["value"] < 0.4
    assert scores["coverage"]["made"]["value"] < 0.3
    assert any(said.startswith("missing kinds") for said in found["warnings"])


def test_a_copied_set_is_told_by_its_nearest_training_pictures_only(digits: Split, judge: Judge) -> None:
    rng = np.random.default_rng(0)
    noisy = digits["train"][:450].astype(int) + rng.integers(-3, 4, (450, 1, 8, 8))
    found = scored(digits, judge, np.clip(noisy, 0, 255).astype(np.uint8))
    scores = found["scores"]
    assert all(scores[name]["as_real"] for name in ("frechet", "kernel", "precision", "recall", "coverage"))
    assert scores["nearest"]["made"]["value"] < 0.3
    assert scores["copies"]["made"]["value"] > 0.95
    assert any(said.startswith("copying") for said in found["warnings"])
    outside = {**scores["precision"], "made": {"value": 0.0, "low": 0.0, "high": 0.01, "n": 450}}
    empty = _warnings({**scores, "precision": outside})  # as empty pictures score: near all, among none
    assert not any(said.startswith("copying") for said in empty)
    half = np.concatenate([digits["train"][:100], digits["fresh"][:300]])  # a quarter copied: the median hides it
    partly = scored(digits, judge, half)["scores"]
    assert partly["copies"]["made"]["low"] > partly["copies"]["real"]["high"]


def test_wrong_classes_are_told_by_the_prompts_only(digits: Split, judge: Judge) -> None:
    found = scored(digits, judge, digits["fresh"], asked=(digits["fresh_labels"] + 1) % 10)
    assert found["scores"]["shows class"]["made"]["value"] < 0.1
    assert found["scores"]["frechet"]["as_real"]
    assert [said.partition(":")[0] for said in found["warnings"]] == ["prompts not followed"]


def test_unlabelled_pictures_are_compared_by_their_pixels(digits: Split) -> None:
    found = judge_pictures(digits["train"], digits["test"], digits["fresh"], two_sample_steps=0)["scores"]
    assert "shows class" not in found
    assert found["frechet"]["as_real"]
    assert found["kernel"]["as_real"]
    upside_down = judge_pictures(digits["train"], digits["test"], digits["fresh"][:, :, ::-1].copy(),
                                 two_sample_steps=0)["scores"]
    assert not upside_down["frechet"]["as_real"]


def test_many_held_out_pictures_are_compared_among_themselves(digits: Split) -> None:
    every = np.concatenate([digits["train"], digits["test"], digits["fresh"]])
    test, fresh, train = every[:1000], every[1000:1300], every[1300:]
    train = np.concatenate([train, train[:, :, ::-1]])  # training shows also what the held-out pictures do not
    found = judge_pictures(train, test, fresh, two_sample_steps=0)
    assert found["counts"]["real_from"] == "held_out"
    assert found["scores"]["frechet"]["as_real"]
    assert not judge_pictures(train, test, train[400:700], two_sample_steps=0)["scores"]["frechet"]["as_real"]


def test_pictures_that_cannot_be_compared_are_refused(digits: Split, judge: Judge) -> None:
    with pytest.raises(InputError, match="different shapes"):
        scored(digits, judge, np.zeros((30, 1, 9, 8), np.uint8))
    with pytest.raises(InputError, match="only 3 pictures"):
        scored(digits, judge, digits["fresh"][:3])
    with pytest.raises(InputError, match="one answer a picture"):
        scored(digits, judge, digits["fresh"], asked=[1, 2])
    with pytest.raises(InputError, match="too few to tell"):
        tell_apart(digits["fresh"][:5], digits["test"])
