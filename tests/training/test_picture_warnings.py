"""A run of pictures that goes wrong says so while it runs, with advice."""

from pathlib import Path

import pytest

from bottega.core.errors import DivergedError
from bottega.core.recipe import Recipe
from bottega.training.metrics import read_history
from bottega.training.run import make

pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install 'bottega[images]'")

RECIPE = """
name: small-gan
data: {sources: [digits], validation: 0.25}
codec: {kind: image, size: 8, channels: 1}
generator: {family: gan, depth: 1}
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
    try:
        make(Recipe.load(file, overrides), home=tmp_path)
    except DivergedError:  # on a machine that rounds otherwise the same run may end before it has to be warned of
        assert collapses
        return
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning:")]
    assert bool(said) == collapses, said
    if collapses:
        assert any("classes are missing or mixed up" in line for line in said), said
        assert any("raise generator.gamma" in line for line in said), said
    looks = [line["validation"] for line in read_history(tmp_path / "runs" / "small-gan") if line.get("validation")]
    assert {"covered", "covered_real", "balance", "loss"} <= looks[-1].keys()
