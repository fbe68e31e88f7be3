"""Built-in source `json-cards`: a sentence about a person, answered as one JSON object of a stated schema.

Whether a person is held out is decided by a hash of all facts. `bottega train recipes/arithmetic-sft.yaml
data.sources=[json-cards]` teaches the format; a reward of kind `json` checks it.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

from bottega.data.record import Record, Split

LICENCE = "Apache-2.0"
CARDS = 10_000
SCHEMA: dict[str, Any] = {
    "type": "object", "required": ["name", "age", "city", "likes"], "additionalProperties": False,
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
                   "city": {"type": "string", "minLength": 1},
                   "likes": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3}}}

_NAMES = ("Ana", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Hugo", "Iris", "Jack", "Kim", "Leo")
_CITIES = ("Rome", "Oslo", "Lima", "Kyoto", "Porto", "Cairo", "Quito", "Turin")
_LIKES = ("chess", "tea", "music", "hiking", "films", "bread", "maps", "cats")
_FORMS = ("{n} is {a} years old, lives in {c} and likes {l}.", "Meet {n} from {c}: {a} years old, fond of {l}.",
          "{n}, {a}, {c}. Likes {l}.")


def records() -> Iterator[Record]:
    """Yield the sentences with their objects, no sentence twice; about a tenth is forced into the validation split."""
    rng, seen = random.Random("json-cards"), set[str]()
    while len(seen) < CARDS:
        likes = rng.sample(_LIKES, rng.randrange(1, 4))
        card = {"name": rng.choice(_NAMES), "age": rng.randrange(10, 100), "city": rng.choice(_CITIES), "likes": likes}
        listed = " and ".join(filter(None, [", ".join(likes[:-1]), likes[-1]]))
        asked = rng.choice(_FORMS).format(n=card["name"], a=card["age"], c=card["city"], l=listed)
        if asked in seen:
            continue
        seen.add(asked)
        answer = json.dumps(card, separators=(",", ":"))
        split: Split = "validation" if hashlib.sha256(answer.encode()).digest()[0] % 10 == 0 else "train"
        yield Record.chat(f"builtin:json-cards/{len(seen)}", [{"role": "user", "content": f"As JSON: {asked}"},
                          {"role": "assistant", "content": answer}], licence=LICENCE, split=split, meta=card)
