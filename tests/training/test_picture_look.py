"""What training leaves for people to look at, and the scores of a finished model: `bottega evaluate` on tiny models."""

import json
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from tests.cli.pictures import command

from bottega.codecs.image import ImageCodec, PictureSpec
from bottega.core.bundle import Bundle
from bottega.core.errors import InputError
from bottega.core.recipe import Recipe
from bottega.data.pictures.prepare import prepare_pictures
from bottega.evaluation.picture_report import few_steps, score_lines
from bottega.evaluation.pictures import judge_pictures
from bottega.families.bases import open_generator
from bottega.families.pictures import PictureGenerator
from bottega.families.vae import VAE
from bottega.generation.pictures import generators
from bottega.training import picture_report, picture_scores
from bottega.training.picture_look import random_wishes, sheet, sheet_wishes, wishes
from bottega.training.picture_scores import answers, data_of, scores
from bottega.training.run import make

pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install 'bottega[images]'")


def recipe(family: str, steps: int, name: str, **training: object) -> Recipe:
    return Recipe.model_validate({
        "name": name, "data": {"sources": ["digits"], "validation": 0.25},
        "codec": {"kind": "image", "size": 8, "channels": 1}, "generator": {"family": family, "depth": 1},
        "objective": {"kind": "pictures"},
        "training": {"budget": {"steps": steps}, "batch": 32, "optimizer": "adamw", "weight_decay": 0,
                     "precision": "fp32", "compile": "off", "validate_every": 1, **training}})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("looked-at")


@pytest.fixture(scope="module")
def vae(home: Path) -> Bundle:
    return make(recipe("vae", 60, "vae", sample_every=1 / 15), home=home)


def test_sheets_are_drawn_on_the_way_and_the_last_ten_are_kept(vae: Bundle, home: Path) -> None:
    sheets = sorted((home / "runs" / "vae" / "samples").iterdir())
    assert [int(sheet.stem) for sheet in sheets] == [*range(20, 60, 4), 60]
    first, last = (ImageCodec(1, 100, 100).decode_file(sheet.read_bytes()) for sheet in (sheets[0], sheets[-1]))
    assert not np.array_equal(first, last)  # it has learned in between


def test_drawing_on_the_way_changes_no_weight(vae: Bundle, home: Path) -> None:
    quiet = make(recipe("vae", 60, "quiet", sample_every=0), home=home)
    assert (quiet.path / "model.safetensors").read_bytes() == (vae.path / "model.safetensors").read_bytes()


def test_the_page_of_a_vae_shows_its_codes(vae: Bundle, home: Path) -> None:
    page = (home / "runs" / "vae" / "report.html").read_text()
    for part in ("What it draws", "Between two pictures", "What a code means", "a row a class", "train pictures",
                 "8x8, grey", "CC-BY-4.0", "60", "bottega evaluate vae", "pictures a second"):
        assert part in page, part
    assert page.count("<img ") == 3
    assert page.count("<svg ") == 3  # loss, mse and kl


def test_the_sheet_of_a_vae_of_maps_shows_what_its_codes_keep(home: Path) -> None:
    spatial = recipe("vae", 200, "maps", sample_every=0)
    spatial = spatial.model_copy(update={"generator": spatial.generator.model_copy(update={"spatial": True})})
    bundle = make(spatial, home=home)
    data = data_of(bundle, home)
    drawn = sheet(cast(PictureGenerator, open_generator(bundle)), data, bundle.controls, 0)
    assert drawn.title == "What its codes keep"
    assert "What its codes keep" in (home / "runs" / "maps" / "report.html").read_text()
    vae = cast(VAE, open_generator(bundle))
    real = data.codec.to_tensor(np.asarray(data.images("validation")[:64]))
    again = vae.vary(real, 0.0, generators(0, range(64)))
    assert float((again - real).square().mean()) < 0.5 * float(real.var())  # the sheet shows something to look at
    with pytest.raises(InputError, match="neither class nor caption"):
        scores(bundle, home, n=20)


def test_the_page_of_a_diffusion_shows_its_steps_and_of_a_gan_both_players(home: Path) -> None:
    make(recipe("diffusion", 4, "flow", sample_every=0), home=home)
    page = (home / "runs" / "flow" / "report.html").read_text()
    assert "How a picture comes to be" in page
    assert "at each of 8 steps" in page
    make(recipe("gan", 12, "pair", sample_every=0), home=home)
    page = (home / "runs" / "pair" / "report.html").read_text()
    for player in ("generator", "discriminator"):
        assert f">{player}</li>" in page, player


def test_a_report_that_cannot_be_written_does_not_cost_the_model(home: Path,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    from bottega.core.errors import ResourceError

    def full(*_: object) -> Path:
        raise ResourceError("the disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture_report, "write", full)
        made = make(recipe("vae", 2, "full", sample_every=0), home=home)
    assert made.meta["family"] == "vae"
    assert "no report: the disk is full" in capsys.readouterr().err


def test_scores_stand_beside_real_pictures_and_are_the_same_again(vae: Bundle, home: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_scores, "judge_pictures", partial(judge_pictures, two_sample_steps=10))
    found = scores(vae, home, n=60, seed=3)
    cache = home / "cache" / "evaluations"
    for kept in cache.iterdir():
        kept.unlink()
    again = scores(vae, home, n=60, seed=3)
    assert found == again
    assert few_steps(found) == ""  # a vae decodes once
    assert found["counts"]["made"] == 60
    named = found["scores"]
    assert named["shows class"]["real"]["value"] > 0.95
    assert named["frechet"]["made"]["value"] > 1.5 * named["frechet"]["real"]["value"]  # 60 steps teach little
    assert len(list((home / "cache" / "judges").iterdir())) == 1


def test_the_price_of_few_steps_is_measured_and_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_scores, "judge_pictures", partial(judge_pictures, two_sample_steps=0))
    spec = recipe("diffusion", 4, "mean", sample_every=0)
    bundle = make(spec.model_copy(update={"generator": spec.generator.model_copy(update={"objective": "meanflow"})}),
                  home=home, report=False)
    found = scores(bundle, home, n=40)
    few = found["few_steps"]
    assert (few["steps"], few["many"]) == (2, 50)
    assert few["figures"].keys() == {"frechet", "shows class"}
    assert few["figures"]["frechet"]["few"] == found["scores"]["frechet"]["made"]["value"]
    assert few["figures"]["frechet"]["few"] != few["figures"]["frechet"]["many"] > 0
    told = few_steps(found)
    assert "in 2 steps and in 50: frechet" in told
    assert told in score_lines(found)
    page = picture_report.write(bundle, data_of(bundle, home), home, found).read_text()
    assert "what few steps cost" in page


def test_evaluate_prints_scores_and_adds_them_to_the_page(vae: Bundle, home: Path, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_scores, "judge_pictures", partial(judge_pictures, two_sample_steps=10))
    done = command("evaluate", "vae", "--n", "60", home=home, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    for name in ("frechet ↓", "precision ↑", "told apart ↓", "nearest =", "shows class ↑"):
        assert name in rows, done.stdout
    assert "shows class" in (home / "runs" / "vae" / "report.html").read_text()
    done = command("evaluate", "--model", "vae", "--n", "60", "--json", home=home, cwd=tmp_path)
    assert json.loads(done.stdout)["model"] == vae.digest


def test_what_cannot_be_evaluated_is_refused(home: Path, vae: Bundle, tmp_path: Path) -> None:
    done = command("evaluate", "vea", home=home, cwd=tmp_path)
    assert done.returncode == 2
    assert "vea" in done.stderr
    done = command("evaluate", "vae", "--n", "3", home=home, cwd=tmp_path)
    assert done.returncode == 2
    assert "20" in done.stderr
    for meta, words in (({"codec": "image", "family": "diffusers"}, "was not trained here"),
                        ({"family": "transformer", "recipe": {}}, "does not make pictures")):
        with pytest.raises(InputError, match=words):
            data_of(Bundle(vae.path, meta, ""), home)


def test_wishes_ask_as_held_out_pictures_would(vae: Bundle, home: Path) -> None:
    data = data_of(vae, home)
    count = data.size("validation")
    many = random_wishes(data, count + 10, seed=1)
    assert sorted(many.places[:count].tolist()) == list(range(count))
    assert many.names == [data.codec.classes[label] for label in data.labels("validation")[many.places]]
    assert not many.text.any()  # a class alone, as people ask
    assert sheet_wishes(data).names == [name for name in "0123456789" for _ in range(8)]


def test_captions_of_scenes_become_questions_and_wishes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="symbols are drawn with a font of matplotlib")
    spec = recipe("vae", 1, "x").data.model_copy(update={"sources": ["symbols"], "limit": 400})
    data = prepare_pictures(spec, ImageCodec.of(PictureSpec(size=16)), home=tmp_path)
    told = answers(data)
    assert told is not None
    assert {"left name", "centre colour", "ground"} <= set(told[0])
    asked = wishes(data, np.array([2, 0]))
    captions = data.captions("validation")
    assert asked.names == [captions[2], captions[0]]
    assert asked.text.tolist() == data.codec.encode_texts(asked.names)
    assert asked.labels.tolist() == [-1, -1]
