"""Judges survive being kept, and scores and pictures are shown whole on the page and in the terminal."""

import base64
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bottega.codecs.image import ImageCodec
from bottega.evaluation.picture_features import Judge, train_judge
from bottega.evaluation.picture_judges import kept_judge, load_judge, save_judge
from bottega.evaluation.picture_network import Network, Projection
from bottega.evaluation.picture_report import Drawn, score_lines
from bottega.evaluation.pictures import judge_pictures
from bottega.evaluation.report import ReportData, Stage, render
from tests.evaluation.test_report import EVIL, Page

RNG = np.random.default_rng(0)
# a bright left or right half is the class
CLASSES = RNG.integers(0, 2, 400)
PICTURES = np.clip(RNG.normal(60, 25, (400, 1, 8, 8)) + 120 * (np.arange(8) // 4 == CLASSES[:, None, None, None]),
                   0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return train_judge(PICTURES[:300], CLASSES[:300], held_out=(PICTURES[300:], CLASSES[300:]), steps=100)


@pytest.mark.parametrize("labels", [CLASSES[:300], None])
def test_a_kept_judge_says_the_same_without_being_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                labels: Any) -> None:
    held_out = None if labels is None else (PICTURES[300:], CLASSES[300:])
    monkeypatch.setattr("bottega.evaluation.picture_judges.train_judge", partial(train_judge, steps=60))
    first = kept_judge(tmp_path, "data", PICTURES[:300], labels, held_out)
    trained: list[str] = []

    def train(*_: Any, **__: Any) -> Judge:
        trained.append("again")
        return first

    monkeypatch.setattr("bottega.evaluation.picture_judges.train_judge", train)
    again = kept_judge(tmp_path, "data", PICTURES[:300], labels, held_out)
    assert not trained
    assert isinstance(again.network, Projection if labels is None else Network)
    assert np.array_equal(first.features(PICTURES), again.features(PICTURES))
    assert first.predict(PICTURES) == again.predict(PICTURES)
    assert (again.accuracy, again.bar, again.shape) == (first.accuracy, first.bar, first.shape)
    kept_judge(tmp_path, "other data", PICTURES[:300], labels, held_out)
    assert trained == ["again"]


def test_a_damaged_judge_is_trained_again(tmp_path: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    save_judge(judge, path := tmp_path / "judge.safetensors")
    assert load_judge(path).questions == judge.questions
    monkeypatch.setattr("bottega.evaluation.picture_judges.train_judge", lambda *_, **__: judge)
    kept_judge(tmp_path, "data", PICTURES, None, None)
    kept = next(file for file in tmp_path.iterdir() if file != path)
    kept.write_bytes(kept.read_bytes()[:100])
    assert kept_judge(tmp_path, "data", PICTURES, None, None) is judge
    assert "trained again" in capsys.readouterr().err
    assert load_judge(kept).questions == judge.questions


def test_scores_are_shown_beside_their_floors(judge: Judge) -> None:
    judged = judge_pictures(PICTURES[:300], PICTURES[300:], 255 - PICTURES[:60], train_labels=CLASSES[:300],
                            test_labels=CLASSES[300:], asked=CLASSES[:60], judge=judge, two_sample_steps=0)
    lines = score_lines(judged)
    assert lines[0].split() == ["score", "made", "real", "gaussian", "as", "good", "as", "real"]
    shows = next(line for line in lines if line.startswith("shows class"))
    assert shows.split()[3:5] == ["0.0", "%"]  # each shows the other class
    assert shows.endswith("no")
    assert any("60 of each kind" in line for line in lines)
    assert any(line.startswith("warning: prompts not followed") for line in lines)

    png = ImageCodec.png(PICTURES[0])
    page = Page(render(ReportData("t", "s", [Stage(EVIL, "vae", drawn=[Drawn(EVIL, EVIL, png)], judged=judged,
                                                   warnings=[EVIL])])))
    addresses = [value for name, value in page.attributes if name == "src"]
    assert [base64.b64decode(address.removeprefix("data:image/png;base64,")) for address in addresses] == [png]
    for part in ("What it drew", "shows class", "Gaussian", "the judge is right on held-out pictures", EVIL[:25]):
        assert part in page.text, part
    assert "script" not in page.tags
    assert "What it wrote" not in page.text
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    policy = next(value for _, value in page.attributes if "default-src" in value)
    assert re.fullmatch(r"default-src 'none'; style-src 'unsafe-inline'; img-src data:", policy)
