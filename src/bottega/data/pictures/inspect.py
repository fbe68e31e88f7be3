"""Look into a prepared set of pictures: counts by class and by reason, and samples of what was used or dropped.

    bottega data inspect recipes/symbols-diffusion.yaml -n 16 --sheet symbols.png
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from bottega.core.errors import InputError, suggest
from bottega.data.dataset import SPLITS
from bottega.data.pictures.dataset import ROWS, Codec, PictureDataset
from bottega.data.pictures.record import Pixels


def summary(data: PictureDataset[Codec]) -> dict[str, Any]:
    """Return the card's counts: shape, stages, splits, classes, captions, sources, licences, what could not be read."""
    card, codec = data.card["bottega"], data.codec
    stages, classes = card["stages"], card["classes"]
    return {
        "kind": data.kind, "license": data.card["license"],
        "shape": f"{codec.width}x{codec.height}, {'grey' if codec.channels == 1 else 'colour'}",
        "pictures read": stages["read"], "kept": stages["kept"], "skipped": stages["skipped"],
        "dropped": stages["dropped"],
        "splits": {name: f"{split['pictures']} pictures" for name, split in card["splits"].items()},
        "classes": {name: ", ".join(f"{classes[split].get(name, 0)} {split}" for split in SPLITS)
                    for name in codec.classes},
        "captions": card["captions"], "sources": card["sources"], "licences": card["licences"],
        "could not be read": card["skipped_examples"],
    }


def samples(data: PictureDataset[Codec], *, reason: str | None, kept: bool | None, n: int,
            seed: int) -> list[dict[str, Any]]:
    """Return up to n random rows with all their columns, the same for the same seed.

    `place` is the picture's number in the array of its split; a dropped picture has none, its pixels are not kept.

    Args:
        data: where to look.
        reason: only pictures dropped for this reason.
        kept: only used (true) or dropped (false) pictures; None takes both.
        n: how many.
        seed: which ones.

    Raises:
        InputError: no picture was dropped for that reason; the message names the reasons there are.
    """
    import pyarrow.parquet as pq

    dropped = data.card["bottega"]["stages"]["dropped"]
    if reason is not None and reason not in dropped:
        raise InputError(f"no picture was dropped for the reason '{reason}'", where=str(data.path),
                         fix=suggest(reason, dropped))
    table = pq.read_table(data.path / ROWS)
    keep, why, split = (table[name].to_pylist() for name in ("keep", "reason", "split"))
    matching = [row for row in range(len(keep)) if (kept is None or keep[row] == kept)
                and (reason is None or why[row] == reason)]
    chosen = sorted(random.Random(seed).sample(matching, min(n, len(matching))))
    first = {name: split.index(name) for name in SPLITS if name in split}  # rows stand in the order of the arrays
    rows: list[dict[str, Any]] = table.take(chosen).to_pylist()
    return [{**row, "place": place - first[row["split"]] if row["keep"] else None}
            for row, place in zip(rows, chosen, strict=True)]


def pixels(data: PictureDataset[Codec], rows: list[dict[str, Any]]) -> Pixels:
    """Return the pictures of used rows of `samples`, uint8 [n, C, H, W]."""
    used = [row for row in rows if row["keep"]]
    shape = (0, data.codec.channels, data.codec.height, data.codec.width)
    return np.stack([data.images(row["split"])[row["place"]] for row in used]) if used else np.empty(shape, np.uint8)
