"""The recipe of a challenger: preference learning from the champion, sized for some dozens of pairs.

`bottega improve ALIAS` keeps it as `recipe.yaml` of the improvement; `bottega train` reads it too.
"""

from __future__ import annotations

import math
from typing import Any

from bottega.codecs.text import TextCodec
from bottega.core.bundle import Bundle
from bottega.core.recipe import Recipe
from bottega.core.request import Message
from bottega.core.validate import validate
from bottega.workshop.preferences import TRAINING, PreferenceSet

_EPOCHS = 6
_PAIRS_A_STEP = 8
_LEAST_STEPS = 16
# Measured with a model of 2.6 million parameters, house tone over curt, 30 held-out customers: 24 pairs at 0.0012 (17
# steps) moved the sampled share in the house tone from 57 to 97 % and left every answer right; at 0.0006 it was 80 %,
# at 0.0025 all were in the house tone and a fifth of the answers wrong. 120 pairs (81 steps) at 0.0005: 100 % in the
# house tone, 93 % right. So the rate falls with the square root of the steps.
_RATE, _RATE_STEPS = 0.0012, 18
_RATE_OF_MINUTES = 0.0003  # how many steps minutes hold is not known beforehand


def challenger_recipe(name: str, champion: Bundle, pairs: PreferenceSet, *, minutes: float | None = None) -> Recipe:
    """Return the recipe.

    Args:
        name: of the challenger.
        champion: the model it starts from; its context, precision, suites and prompts are taken over.
        pairs: what it learns from.
        minutes: of training; None: six times through the pairs, at least 16 steps.
    """
    context = int(champion.meta["context"])
    steps = max(_LEAST_STEPS, math.ceil(_EPOCHS * pairs.pairs / _PAIRS_A_STEP))
    rate = _RATE_OF_MINUTES if minutes else round(_RATE * math.sqrt(_RATE_STEPS / steps), 6)
    budget: dict[str, Any] = {"minutes": minutes} if minutes else {"steps": steps}
    return validate(Recipe, {
        "name": name,
        "description": f"{champion.name} improved by {pairs.pairs} preferences of its users",
        "base": str(champion.path.resolve()),
        "data": {"sources": [str(pairs.training_file.resolve())],
                 "validation": 0.1,      # only to be watched; what decides is held out of this file altogether
                 "near_duplicates": 0},  # answers to one prompt are alike on purpose
        "objective": {"kind": "dpo", "beta": 0.1, "sft_weight": 1.0},
        "training": {"budget": budget, "context": context, "learning_rate": rate, "learning_rate_rest": rate,
                     "batch_tokens": _batch_tokens(champion, pairs, context), "sample_every": 0,
                     "precision": champion.meta.get("choices", {}).get("precision", "auto"), "compile": "off",
                     "checkpoint_every": None if minutes else min(25, steps // 4)},
        "evaluation": champion.meta.get("recipe", {}).get("evaluation", {}),
    }, where=f"recipe of {name}")


def _batch_tokens(champion: Bundle, pairs: PreferenceSet, context: int) -> int:
    """Return the tokens of eight pairs of mean length, in whole rows of the context."""
    codec = TextCodec.load(champion.path)
    rows = pairs.rows(TRAINING)
    tokens = [len(codec.encode_chat([*map(Message.model_validate, row["messages"]),
                                     Message(role="assistant", content=row[answer])]))
              for row in rows for answer in ("chosen", "rejected")]
    return math.ceil(_PAIRS_A_STEP * sum(tokens) / len(rows) / context) * context
