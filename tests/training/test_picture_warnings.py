"""A run of pictures that goes wrong says so while it runs, with advice."""

from pathlib import Path

import pytest

from bottega.core.recipe import Recipe
from bottega.training.metrics import read_history
from bottega.training.run import make

pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install 'bottega[images]'")

RECIPE = """
name: small-gan
data: {sources: [digits], validation: 0.25}
codec: {kind: image, size: 8, channels: 1}
generator: {family: gan, depth: 1, width: 8}
objective: {kind: pictures}
training: {budget: {steps: 200}, batch: 16, optimizer: adamw, weight_decay: 0, precision: fp32, compile: "off", clip: 0,
           learning_rate: 0.002, validate_every: 0.5, sample_every: 0}
"""


@pytest.mark.parametrize(("overrides", "collapses"), [
    ([], False), (["generator.gamma=0", "generator.gamma_final=0", "training.learning_rate=0.05"], True)])
def test_a_run_that_collapses_warns(overrides: list[str], collapses: bool, tmp_path: Path,
                                    capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE)
    make(Recipe.load(file, overrides), home=tmp_path)
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning:")]
    assert bool(said) == collapses, said
    assert all("raise generator.gamma" in line or "lower training.learning_rate" in line for line in said)
    looks = [line["validation"] for line in read_history(tmp_path / "runs" / "small-gan") if line.get("validation")]
    assert {"covered", "covered_real", "balance", "loss"} <= looks[-1].keys()
    if collapses:
        assert looks[-1]["covered"] < 0.5 * looks[-1]["covered_real"]
