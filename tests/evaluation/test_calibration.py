"""Accuracy, calibration and the length rule on rewards whose properties are known."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bottega.evaluation.calibration import calibrate, length_rule, write_page


def drawn(n: int, trust: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Leads whose sign is right as often as σ says (`trust` 1), or as σ of a half says (0.5: twice too sure)."""
    rng = np.random.default_rng(seed)
    lead = np.abs(rng.normal(0, 2, n))
    right = rng.random(n) < 1 / (1 + np.exp(-trust * lead))
    rewards = np.stack([np.where(right, lead, -lead), np.zeros(n)], 1)
    return rewards, rng.integers(10, 200, (n, 2))


def prompts(n: int) -> list[str]:
    return [f"prompt {number}" for number in range(n)]


def test_an_honest_model_is_calibrated_and_a_boastful_one_is_not() -> None:
    honest, boastful = (calibrate(*drawn(20_000, trust), rule="longer", prompts=prompts(20_000)) for trust in (1, 0.5))
    assert honest.error < 0.02 < 0.05 < boastful.error
    assert honest.log_loss < boastful.log_loss
    assert all(one.said == pytest.approx(one.right, abs=0.04) for one in honest.bins)
    assert [one.n for one in honest.bins] == [2000] * 10
    assert honest.accuracy["low"] < honest.accuracy["value"] < honest.accuracy["high"]


def test_figures_of_four_pairs_by_hand() -> None:
    rewards, lengths = [[2, 1], [0, 1], [3, 3], [5, 1]], [[9, 4], [2, 8], [7, 7], [3, 6]]
    found = calibrate(rewards, lengths, rule="shorter", prompts=["a", "a", "b", "c"], sources=["x", "x", "y", "y"])
    assert found.accuracy["value"] == (1 + 0 + 0.5 + 1) / 4
    assert found.length["value"] == (0 + 1 + 0.5 + 1) / 4
    assert found.gain["value"] == 0.0
    losses = [math.log(1 + math.exp(-lead)) for lead in (1, -1, 0, 4)]
    assert found.log_loss == pytest.approx(math.fsum(losses) / 4)
    assert found.prefers_longer == 0.5
    assert {name: part["accuracy"]["value"] for name, part in found.sources.items()} == {"x": 0.5, "y": 0.75}
    assert length_rule(lengths[:1]) == "longer"
    assert length_rule(lengths[1:]) == "shorter"


def test_swapped_rewards_turn_accuracy_and_the_gain_is_paired() -> None:
    rewards, lengths = drawn(2000, 1)
    right = calibrate(rewards, lengths, rule="longer", prompts=prompts(2000))
    wrong = calibrate(-rewards, lengths, rule="longer", prompts=prompts(2000))
    assert wrong.accuracy["value"] == pytest.approx(1 - right.accuracy["value"])
    assert wrong.gain["high"] < 0 < right.gain["low"]
    same = calibrate(lengths, lengths, rule="longer", prompts=prompts(2000))  # a model that is the rule
    assert same.gain == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 2000}
    assert same.reward_length == pytest.approx(1)
    one_prompt = calibrate(rewards, lengths, rule="longer", prompts=["a", "b"] * 1000)
    assert one_prompt.gain["high"] - one_prompt.gain["low"] != right.gain["high"] - right.gain["low"]


def test_constant_rewards_know_nothing() -> None:
    found = calibrate(np.zeros((50, 2)), drawn(50, 1)[1], rule="longer", prompts=prompts(50))
    assert found.accuracy["value"] == 0.5
    assert found.log_loss == pytest.approx(math.log(2))
    assert found.error == pytest.approx(0)
    assert found.reward_length == 0
    with pytest.raises(ValueError, match="no pairs"):
        calibrate(np.zeros((0, 2)), np.zeros((0, 2)), rule="longer", prompts=[])


def test_the_page_shows_the_figures_and_escapes_names(tmp_path: Path) -> None:
    found = calibrate(*drawn(300, 1), rule="shorter", prompts=prompts(300), sources=["<b>x</b>", "y", "z"] * 100)
    path = write_page(found, tmp_path / "report.html", title="judge <1>", facts={"steps": "12"})
    page = path.read_text(encoding="utf-8")
    assert "judge &lt;1&gt;" in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x</b>" not in page
    assert "<script" not in page
    assert f"{100 * found.accuracy['value']:.1f} %" in page
    assert "take the shorter answer" in page
    kept = json.loads((tmp_path / "report.json").read_text())
    assert kept["accuracy"] == found.accuracy
    assert len(kept["bins"]) == 10
    assert any("calibration error" in line for line in found.lines())
