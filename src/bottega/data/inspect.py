"""Look into a prepared dataset: counts, samples of what was kept or dropped, and the signals that rules may use.

    bottega data inspect recipes/text-lm.yaml --dropped -n 3
"""

from __future__ import annotations

import heapq
import json
import random
from typing import Any

from bottega.core.errors import InputError, suggest
from bottega.data.dataset import Dataset
from bottega.data.rules import DEFAULTS
from bottega.data.signals import SIGNALS


def signals() -> dict[str, str]:
    """Return what each signal measures, by name."""
    return dict(SIGNALS)


def default_rules() -> dict[str, str]:
    """Return the default rules: reason and expression."""
    return dict(DEFAULTS)


def summary(dataset: Dataset) -> dict[str, Any]:
    """Return the card's counts: kind, stages, splits, sources, licences, languages, rules, copies."""
    card = dataset.card["bottega"]
    stages = card["stages"]
    return {
        "kind": dataset.kind, "license": dataset.card["license"], "rows read": stages["read"], "kept": stages["kept"],
        "skipped": stages["skipped"], "dropped": stages["dropped"],
        "splits": {name: f"{split['rows']} rows, {split['bytes'] / 1e6:.2f} MB"
                   for name, split in card["splits"].items()},
        "held out whole": card["held_out_unit"], "sources": card["sources"], "licences": card["licences"],
        "languages": card["languages"], "duplicates": card["duplicates"], "rules": card["rules"],
        "could not be read": card["skipped_examples"],
    }


def samples(dataset: Dataset, *, reason: str | None, kept: bool | None, n: int, seed: int) -> list[dict[str, Any]]:
    """Return up to n random rows with all their columns, the same for the same seed.

    Args:
        dataset: where to look.
        reason: only rows dropped for this reason.
        kept: only kept (true) or dropped (false) rows; None takes both.
        n: how many.
        seed: which ones.

    Raises:
        InputError: no row was dropped for that reason; the message names the reasons there are.
    """
    dropped = dataset.card["bottega"]["stages"]["dropped"]
    if reason is not None and reason not in dropped:
        raise InputError(f"no row was dropped for the reason '{reason}'", where=str(dataset.path),
                         fix=suggest(reason, dropped))
    choose = random.Random(seed)
    columns = ["id", "origin", "source", "kind", "licence", "split", "keep", "reason", "cluster", "cluster_size",
               "meta", *SIGNALS, "text"]
    matching = (row for row in dataset.scan(columns, keep=False if reason else kept)
                if reason is None or row["reason"] == reason)
    chosen = heapq.nsmallest(n, ((choose.random(), place, row) for place, row in enumerate(matching)))
    rows = [row for _, _, row in sorted(chosen, key=lambda item: item[1])]
    return [{**row, "meta": json.loads(row["meta"])} for row in rows]
