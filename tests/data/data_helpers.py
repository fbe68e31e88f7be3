"""Texts that are unlike each other, and a look at all rows: shared by the data tests."""

import random
from typing import Any

from bottega.data.dataset import Dataset

WORDS = [a + b + c for a in ("ba", "di", "ko", "lu", "me", "ra", "so", "ti", "ve", "nu", "pla", "gri")
         for b in ("n", "r", "st", "l", "m", "ck") for c in ("a", "e", "in", "or", "us", "ing", "y")]


def prose(seed: int, words: int = 120) -> str:
    """Return made-up sentences that share nothing with those of another seed."""
    draw = random.Random(seed)
    sentences = []
    while words > 0:
        count = draw.randint(6, 14)
        sentences.append(" ".join(draw.choice(WORDS) for _ in range(count)).capitalize() + ".")
        words -= count
    return " ".join(sentences)


def everything(dataset: Dataset) -> list[dict[str, Any]]:
    """Return all rows, kept and dropped, with origin, reason and split."""
    return list(dataset.scan(["origin", "document", "kind", "text", "split", "keep", "reason", "cluster",
                              "cluster_size", "id", "licence", "format", "language", "overlap"]))
