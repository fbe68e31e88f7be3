"""What happens to each row: kept or dropped and why, and on which side of the split. Part of `bottega data prepare`.

Works on numbers only, a slice of columns at a time. Rules come first, then copies: of each cluster the smallest row
(in the order of sources and documents) that passed the rules survives, so every dropped copy has a kept member.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import DataError
from bottega.core.recipe import DataSpec
from bottega.data.record import CONVERSATIONS
from bottega.data.rules import Rule, rules_of, used_signals

EXACT, NEAR = "exact-duplicate", "near-duplicate"
_TAIL_CHARACTERS = 1000  # a shorter text is not divided for the sake of the split


@dataclass(slots=True)
class Decisions:
    """One entry a row of the dataset.

    Attributes:
        reasons: names that `reason` indexes.
        reason: int16, -1 for kept rows.
        held_out: bool, true for the validation split.
        cluster, cluster_size: int64; the smallest row number of the cluster, and its number of rows.
        cut: int64; above 0, the characters of this row from there on are held out as a row of their own.
        unit: what was held out whole: `document`, `part`, `tail` or `none`.
    """

    reasons: list[str]
    reason: NDArray[np.int16]
    held_out: NDArray[np.bool_]
    cluster: NDArray[np.int64]
    cluster_size: NDArray[np.int64]
    cut: NDArray[np.int64]
    unit: str = field(default="none")


def decide(spec: DataSpec, texts: list[Path], measures: list[Path], overlaps: list[Path], clusters: Path,
           rows: int) -> Decisions:
    """Judge every row.

    Args:
        spec: rules, duplicates and split of the recipe.
        texts, measures, overlaps: extracted slices and their row-aligned numbers; `overlaps` may be empty.
        clusters: output of `dedupe.find_clusters`.
        rows: rows in use; later ones are beyond `spec.limit`.

    Raises:
        RecipeError: a rule is not valid.
        DataError: two rows have the same origin.
    """
    import pyarrow.parquet as pq

    rules = rules_of(spec)
    reason = _judge(rules, measures, overlaps)[:rows]
    _check_unique(measures, rows)
    table = pq.read_table(clusters)
    exact, cluster = table["exact"].to_numpy()[:rows], table["cluster"].to_numpy()[:rows]
    if not spec.exact_duplicates and spec.near_duplicates <= 0:
        cluster = np.arange(rows, dtype=np.int64)
    survivor = np.full(rows, rows, dtype=np.int64)
    passed = np.flatnonzero(reason < 0)
    np.minimum.at(survivor, cluster[passed], passed)
    dropped = passed[survivor[cluster[passed]] != passed]
    same = exact[dropped] == exact[survivor[cluster[dropped]]]
    if not spec.exact_duplicates:
        same[:] = False
    reason[dropped] = np.where(same, len(rules), len(rules) + 1)
    size = np.bincount(cluster, minlength=rows)[cluster] if rows else np.zeros(0, dtype=np.int64)
    decisions = Decisions([rule.reason for rule in rules] + [EXACT, NEAR], reason, np.zeros(rows, dtype=bool), cluster,
                          size, np.zeros(rows, dtype=np.int64))
    _split(decisions, spec.validation, texts, measures)
    return decisions


def _judge(rules: list[Rule], measures: list[Path], overlaps: list[Path]) -> NDArray[np.int16]:
    """Return the index of the first rule that drops each row, else -1."""
    import pyarrow.parquet as pq

    names = [name for name in used_signals(rules) if name != "overlap"]
    found = []
    for place, file in enumerate(measures):
        table = pq.read_table(file, columns=list(dict.fromkeys([*names, "chars"])))
        columns: dict[str, NDArray[Any]] = {}
        for name in table.column_names:
            values = table[name].to_numpy(zero_copy_only=False)
            columns[name] = values.astype(str) if values.dtype == object else values
        columns["overlap"] = (pq.read_table(overlaps[place])["overlap"].to_numpy() if overlaps
                              else np.zeros(len(table)))
        reason = np.full(len(table), -1, dtype=np.int16)
        for index, rule in enumerate(rules):
            reason[(reason < 0) & rule(columns)] = index
        found.append(reason)
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int16)


def _check_unique(measures: list[Path], rows: int) -> None:
    import pyarrow.parquet as pq

    raw = b"".join(b"".join(pq.read_table(file, columns=["id"])["id"].to_pylist()) for file in measures)
    values = np.sort(np.frombuffer(raw, dtype="S16")[:rows])
    if len(values) > 1 and (values[1:] == values[:-1]).any():
        raise DataError("two documents have the same origin", where="data.sources",
                        fix="a built-in source must give each record an origin of its own")


def _split(decisions: Decisions, share: float, texts: list[Path], measures: list[Path]) -> None:
    """Choose what is held out: whole documents by a hash of their id, where that gives about the wanted share.

    A few long documents cannot be divided so: then parts of documents are held out, and of a single part its end.
    """
    import pyarrow.parquet as pq

    rows = len(decisions.reason)
    numbers = [pq.read_table(file, columns=["draw", "part_draw", "chars"]) for file in measures]
    draw, part, chars = (np.concatenate([table[name].to_numpy() for table in numbers] or [np.zeros(0)])[:rows]
                         for name in ("draw", "part_draw", "chars"))
    forced = np.concatenate([pq.read_table(file, columns=["split"])["split"].to_numpy(zero_copy_only=False)
                             for file in texts] or [np.zeros(0, dtype=object)])[:rows]
    kept = decisions.reason < 0
    free = np.array([value is None for value in forced], dtype=bool)
    decisions.held_out = np.array([value == "validation" for value in forced], dtype=bool)
    total = float(chars[kept & free].sum())
    has_validation = bool((decisions.held_out & kept).any())
    for unit, value in (("document", draw), ("part", part)):
        chosen = free & (value < share)
        held = float(chars[chosen & kept].sum())
        enough = has_validation or held >= 0.25 * share * total
        if total == 0 or (enough and held <= 4 * share * total and held < total):
            decisions.held_out |= chosen
            decisions.unit = unit
            return
    if has_validation:
        decisions.unit = "document"
        return
    candidates = np.flatnonzero(kept & free)
    longest = int(candidates[np.argmax(chars[candidates])])
    if chars[longest] >= _TAIL_CHARACTERS and not _is_conversation(measures, longest):
        decisions.cut[longest] = int(chars[longest] - min(max(share * total, 200), chars[longest] / 2))
        decisions.unit = "tail"
    elif len(candidates) > 1:
        decisions.held_out[candidates[np.argmin(part[candidates])]] = True
        decisions.unit = "part"


def _is_conversation(measures: list[Path], row: int) -> bool:
    import pyarrow.parquet as pq

    for file in measures:
        formats = pq.read_table(file, columns=["format"])["format"]
        if row < len(formats):
            return formats[row].as_py() in CONVERSATIONS
        row -= len(formats)
    return False


def check(decisions: Decisions) -> None:
    """Verify what must hold on every run: each dropped copy belongs to a cluster with a kept member.

    Raises:
        DataError: it does not; a fault of Bottega.
    """
    names = decisions.reasons
    copies = np.isin(decisions.reason, [names.index(EXACT), names.index(NEAR)])
    living = np.zeros(len(decisions.reason), dtype=bool)
    living[decisions.cluster[decisions.reason < 0]] = True
    if not living[decisions.cluster[copies]].all():
        raise DataError("a dropped duplicate has no surviving copy", where="data preparation",
                        fix="this is a fault of Bottega: please report it with the recipe")
