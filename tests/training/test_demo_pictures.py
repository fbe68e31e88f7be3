"""The part of the demo that draws, on a model of some seconds; `bottega demo --all` is the whole of it."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
from tests.cli.conftest import bottega
from tests.evaluation.test_report import Page

from bottega import demo, demo_pictures
from bottega.core.errors import MissingExtraError
from bottega.core.recipe import Recipe
from bottega.evaluation.pictures import judge_pictures
from bottega.evaluation.report import ReportData, render
from bottega.training import picture_scores
from bottega.training.run import make

pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install 'bottega[images]'")
pytest.importorskip("matplotlib", reason="symbols are drawn with a font of matplotlib")


def test_its_recipes_are_there_with_all_that_they_need() -> None:
    found = demo_pictures.recipes(seed=5)
    assert [recipe.name for recipe in found] == list(demo_pictures.NAMES) == list(demo_pictures.ABOUT)
    assert {recipe.seed for recipe in found} == {5}


@pytest.mark.parametrize("library", ["sklearn.datasets", "matplotlib"])
def test_a_missing_library_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                    library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match="images"):
        demo.run(home=tmp_path / "home", folder=tmp_path / "demo", pictures=True)
    assert not list(tmp_path.iterdir())


def test_the_plain_demo_is_told_apart() -> None:
    here = Path(__file__).parent
    said = bottega("demo", "--help", home=here, cwd=here).stdout
    assert "--all" in said
    assert "minutes more" in " ".join(said.replace("│", " ").split())


def test_a_model_is_judged_and_stands_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(picture_scores, "judge_pictures", partial(judge_pictures, two_sample_steps=10))
    monkeypatch.setattr(demo_pictures, "DRAWN", 60)
    plain = demo_pictures.recipes(seed=0)[0].plain()
    plain["training"] |= {"budget": {"steps": 20}, "sample_every": 0}
    recipe = Recipe.model_validate(plain)
    painted = [demo_pictures.judge(recipe, make(recipe, home=tmp_path), False, tmp_path, seed=0)] * 2
    assert "shows class" in capsys.readouterr().err
    page = Page(render(ReportData("t", "s", demo_pictures.stages(painted[:1], tmp_path),
                                  data=demo_pictures.cards(painted))))
    for part in ("What it drew", "digits-vae", "What a code means", "shows class", "validation pictures"):
        assert part in page.text, part
    assert page.text.count("validation pictures") == 1  # one set, one card
    told = json.loads(json.dumps(demo_pictures.results(painted[:1])))["digits-vae"]
    assert told["counts"]["made"] == 60
    assert set(told["scores"]) >= {"frechet", "coverage", "shows class"}
