"""The page of a reward model: right how often, sure how rightly, and how much of it is length.

`bottega train` with `kind: reward` writes it into the run, `bottega evaluate NAME` judges again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bottega.codecs.text import TextCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import DataError, InputError
from bottega.core.files import canonical_json
from bottega.core.recipe import Recipe
from bottega.core.validate import validate
from bottega.data.pipeline import prepare
from bottega.evaluation.calibration import Calibration, calibrate, length_rule, write_page
from bottega.families.reward import RewardModel, rewards

REPORT = "report.html"
_MOST = 5000  # held-out pairs that are judged


def judged(bundle: Bundle, home: Path, sources: list[str] | None = None) -> Calibration:
    """Judge a reward model on the held-out pairs of its own data, or on all pairs of other sources.

    Args:
        bundle: a reward model.
        home: the workshop; the data is prepared again where it is gone.
        sources: other preferences, all of them held out; None: those it was trained on.

    Raises:
        InputError: the model has no recipe, or is no reward model.
        DataError: no pair fits the model's context.
    """
    if "recipe" not in bundle.meta or bundle.meta.get("objective") != "reward":
        raise InputError(f"'{bundle.name}' was not trained here to judge answers", fix="name a reward model")
    recipe = validate(Recipe, bundle.meta["recipe"], where="bottega.json", error=InputError)
    own = prepare(recipe.data, home=home, seed=recipe.seed)
    if sources is None:
        return judge(bundle, own)
    other = prepare(recipe.data.model_copy(update={"sources": sources}), home=home, seed=recipe.seed)
    return judge(bundle, own, [row for split in ("train", "validation") for row in other.rows(split)])


def judge(bundle: Bundle, dataset: Any, held_out: list[dict[str, Any]] | None = None) -> Calibration:
    """Judge a reward model on prepared preferences; see `judged`."""
    model, codec = RewardModel.load(bundle.path), TextCodec.load(bundle.path)

    def size(text: str) -> int:
        return len(text)

    rule = length_rule([[size(row["chosen"]), size(row["rejected"])] for row in dataset.rows("train")])
    rows: list[dict[str, Any]] = []
    talks: list[list[dict[str, str]]] = []
    for row in held_out if held_out is not None else dataset.rows("validation"):
        pair = [[*row["messages"], {"role": "assistant", "content": row[key]}] for key in ("chosen", "rejected")]
        if max(len(codec.encode_chat(talk)) for talk in pair) <= model.context and len(rows) < _MOST:
            rows.append(row)
            talks += pair
    if not rows:
        raise DataError(f"no held-out pair fits the context of {model.context} tokens", where="data.sources",
                        fix="give shorter pairs, or train with a longer training.context")
    return calibrate(np.array(rewards(model, codec, talks)).reshape(-1, 2),
                     [[size(row["chosen"]), size(row["rejected"])] for row in rows], rule=rule,
                     prompts=[canonical_json(row["messages"]) for row in rows],
                     sources=[str(row.get("source", "")) for row in rows])


def write(bundle: Bundle, dataset: Any, home: Path) -> Path:
    """Write the page of a model into its run and return its path.

    Raises:
        ResourceError: the disk is full.
    """
    return save(judge(bundle, dataset), bundle, home)


def save(found: Calibration, bundle: Bundle, home: Path) -> Path:
    """Write the page of what was found."""
    training = bundle.meta["training"]
    facts = {"parameters": f"{bundle.meta['derived'].get('parameters', 0):,}", "steps": f"{training['steps']:,}",
             "seconds": f"{training['seconds']:.0f}", "made from": str(bundle.meta["recipe"].get("base", ""))}
    return write_page(found, home / "runs" / bundle.name / REPORT, title=f"{bundle.name}: a judge of answers",
                      facts=facts)
