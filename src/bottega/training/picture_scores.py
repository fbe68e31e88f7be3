"""How good a finished model of pictures is, beside real pictures: `bottega evaluate MODEL` prints it.

Pictures are asked for as the held-out ones would be, and judged by a judge trained on the model's own data
(`evaluation/pictures.py`). The same model, number and seed give the same scores; they are kept in the workshop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from bottega.codecs.image import ImageCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import DataError, InputError
from bottega.core.files import digest_json, read_json, write_json
from bottega.core.lineage import code_digest
from bottega.core.progress import say, timed
from bottega.core.recipe import Recipe
from bottega.core.validate import validate
from bottega.data.pictures.scenes import attributes
from bottega.evaluation.picture_features import Judge
from bottega.evaluation.picture_judges import kept_judge
from bottega.evaluation.picture_prompts import Answers, scene_answers
from bottega.evaluation.pictures import judge_pictures
from bottega.families.bases import open_generator
from bottega.families.diffusion import Diffusion
from bottega.families.pictures import PictureGenerator
from bottega.training.media import MEDIA
from bottega.training.picture_look import Data, draw_all, random_wishes

CACHE = "evaluations"  # below the workshop's cache
_MANY = 50  # steps of denoising that fewer ones are compared with


def data_of(bundle: Bundle, home: Path) -> Data:
    """Return the pictures that a model was trained on, prepared again where they are not there.

    Raises:
        InputError: the model does not make pictures, or does not say what it was trained on.
        DataError: the data has gone.
    """
    if bundle.meta.get("codec") != "image" or "recipe" not in bundle.meta:
        what = "was not trained here" if bundle.meta.get("codec") == "image" else "does not make pictures"
        raise InputError(f"{bundle.name} {what}: there are no held-out pictures to compare it with",
                         fix="name a model of pictures that 'bottega train' made")
    recipe = validate(Recipe, bundle.meta["recipe"], where=str(bundle.path), error=InputError)
    codec = ImageCodec.load(bundle.path)
    if codec.tokenizer is not None:  # the model has its text encoder inside; the one it was made from may be gone
        recipe = recipe.model_copy(update={"generator": recipe.generator.model_copy(update={"text_encoder": None})})
    data: Data = MEDIA["image"].dataset(recipe, bundle if recipe.base else None, home)
    return data if codec.tokenizer is None else data.with_codec(codec)


def scores(bundle: Bundle, home: Path, *, n: int = 500, seed: int = 0) -> dict[str, Any]:
    """Draw pictures with a model and judge them; see `judge_pictures` for the result.

    Of a diffusion that draws in fewer than 50 steps also `few_steps`: its `steps`, the `many` it is compared with, and
    `figures`, name → `few` and `many`: the Fréchet distance and the prompt's following of the same wishes either way.

    Args:
        bundle: a finished model.
        home: the workshop.
        n: pictures to draw, at least 20.
        seed: of the wishes, the pictures and the comparison.

    Raises:
        InputError: as in `data_of`, or fewer than 20 pictures.
        DataError: there are too few real pictures.
    """
    kept = home / "cache" / CACHE / f"{digest_json([bundle.digest, n, seed, code_digest()])[:16]}.json"
    if kept.is_file():
        found: dict[str, Any] = read_json(kept)
        return found
    data = data_of(bundle, home)
    generator = cast(PictureGenerator, open_generator(bundle))
    wished = random_wishes(data, n, seed)
    made = draw_all(generator, data.codec, wished, bundle.controls, seed, f"drawing with {bundle.name}")
    train, test = data.images("train"), data.images("validation")
    judge, train_labels, test_labels = _judge(data, home)
    asked = None
    if test_labels is not None:
        asked = {question: [given[place] for place in wished.places] for question, given in test_labels.items()}
    with timed(f"comparing {n} pictures of {bundle.name} with real ones"):
        found = judge_pictures(train, test, made, train_labels=train_labels, test_labels=test_labels, asked=asked,
                               judge=judge, seed=seed)
    if isinstance(generator, Diffusion) and generator.steps(bundle.controls) < _MANY:
        many = draw_all(generator, data.codec, wished, bundle.controls.model_copy(update={"steps": _MANY}), seed,
                        f"drawing in {_MANY} steps")
        slow = judge_pictures(train, test, many, train_labels=train_labels, test_labels=test_labels, asked=asked,
                              judge=judge, seed=seed, two_sample_steps=0)["scores"]
        found["few_steps"] = {"steps": generator.steps(bundle.controls), "many": _MANY, "figures": {
            name: {"few": score["made"]["value"], "many": slow[name]["made"]["value"]}
            for name, score in found["scores"].items() if name == "frechet" or name.startswith("shows ")}}
    found["model"], found["controls"] = bundle.digest, bundle.controls.model_dump(mode="json", exclude_none=True)
    write_json(kept, found)
    return found


def _judge(data: Data, home: Path) -> tuple[Judge, Answers | None, Answers | None]:
    """Return the judge of a dataset and its labels; without labels where it could not be believed with them."""
    train, test = data.images("train"), data.images("validation")
    folder = home / "cache" / "judges"
    labels = answers(data)
    if labels is not None:
        judge = kept_judge(folder, data.digest, train, labels[0], (test, labels[1]))
        try:
            judge.require()
            return judge, *labels
        except DataError as error:
            say(f"warning: {error.problem}; pictures are compared by their pixels, without labels")
    return kept_judge(folder, data.digest, train, None, None), None, None


def answers(data: Data) -> tuple[Answers, Answers] | None:
    """Return what training and held-out pictures show, as questions and answers; None where nothing is known.

    Classes when there are at least two, else the attributes that captions in the language of `symbols` state.
    """
    classes = data.codec.classes
    if len(classes) > 1:
        train, test = ({"class": [classes[label] if label >= 0 else None for label in data.labels(split).tolist()]}
                       for split in ("train", "validation"))
        return _askable(train, test)
    both = [data.captions("train"), data.captions("validation")]
    if not all(map(len, both)):
        return None
    try:
        scenes = [[attributes(caption) for caption in captions] for captions in both]
    except InputError:
        return None
    train, test = (scene_answers(side, common=("ground",)) for side in scenes)
    return _askable(train, test)


def _askable(train: Answers, test: Answers) -> tuple[Answers, Answers]:
    """Leave out of the held-out answers what training never shows: no judge can learn it."""
    return train, {question: [answer if answer in train[question] else None for answer in given]
                   for question, given in test.items() if question in train}
