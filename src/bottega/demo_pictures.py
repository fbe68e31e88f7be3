"""The part of the demo that draws: three families of pictures, judged beside real ones. `bottega demo --all` runs it.

Digits by a variational autoencoder and by two players, and pictures from a sentence by diffusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bottega.codecs.image import ImageCodec, PictureSpec
from bottega.core.bundle import Bundle
from bottega.core.home import recipe_path
from bottega.core.progress import say
from bottega.core.recipe import Recipe
from bottega.core.validate import validate
from bottega.data.pictures.sources import open_sources
from bottega.evaluation.picture_report import score_lines
from bottega.evaluation.report import DataCard, Stage
from bottega.training import picture_report
from bottega.training.picture_look import Data
from bottega.training.picture_scores import data_of, scores

NAMES = ("digits-vae", "digits-gan", "symbols-diffusion")
DRAWN = 500  # pictures that each model is judged by
ABOUT = {
    "digits-vae": "Learns codes that pictures can be drawn, blended and varied from.",
    "digits-gan": "Two players: one draws, the other tells its pictures from real ones.",
    "symbols-diffusion": "Learns to draw what a sentence says, step by step out of noise.",
}


@dataclass(frozen=True, slots=True)
class Painted:
    """One finished model of pictures with what it was trained on and its scores."""

    recipe: Recipe
    bundle: Bundle
    data: Data
    judged: dict[str, Any]
    reused: bool


def recipes(seed: int) -> list[Recipe]:
    """Return the recipes of the part, once everything that they need is there.

    Raises:
        MissingExtraError: the built-in pictures need libraries that are not installed.
    """
    found = [Recipe.load(recipe_path(name), [f"seed={seed}"]) for name in NAMES]
    for recipe in found:
        open_sources(recipe.data, ImageCodec.of(validate(PictureSpec, recipe.codec.overrides, where="codec")))
    return found


def judge(recipe: Recipe, bundle: Bundle, reused: bool, home: Path, seed: int) -> Painted:
    """Judge a finished model, say what was found, and write the page of its run.

    Raises:
        DataError: see `picture_scores.scores`.
    """
    judged, data = scores(bundle, home, n=DRAWN, seed=seed), data_of(bundle, home)
    for line in score_lines(judged):
        say(f"  {line}")
    say(f"  {picture_report.write(bundle, data, home, judged)}")
    return Painted(recipe, bundle, data, judged, reused)


def stages(painted: Sequence[Painted], home: Path) -> list[Stage]:
    """Return the models as stages of the demo's report."""
    return [picture_report.stage(one.bundle, one.data, home, one.judged, one.reused) for one in painted]


def cards(painted: Sequence[Painted]) -> list[DataCard]:
    """Return a card for each different set of pictures."""
    sets = {one.data.digest: one for one in painted}
    return [DataCard.of(one.data.card, ", ".join(one.recipe.data.sources)) for one in sets.values()]


def results(painted: Sequence[Painted]) -> dict[str, Any]:
    """Return what was made and measured, ready for JSON."""
    return {one.recipe.name: {"path": str(one.bundle.path), "digest": one.bundle.digest, "reused": one.reused,
                              "metrics": one.bundle.meta["metrics"], "training": one.bundle.meta["training"],
                              "scores": one.judged["scores"], "warnings": one.judged["warnings"],
                              "counts": one.judged["counts"]} for one in painted}
