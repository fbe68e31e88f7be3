"""Copies: rows that are equal, and rows whose word 5-grams overlap, joined to clusters. Part of `bottega data prepare`.

MinHash signatures (Broder 1997) are cut into bands; rows that agree on a band are candidates, and every candidate is
verified by the true Jaccard similarity of its word 5-grams, so that no two texts are joined by chance. Clusters are
kept beside the rows, and which member survives is decided later, among those that pass the rules.

Memory: about 100 bytes a row; the 5-gram sets of candidates lie in a memory-mapped file.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.data.parquet import row_groups
from bottega.data.record import payload_of, prose
from bottega.data.words import Hashes, hash_words, shingles, split_words

SIGNATURE = 112  # MinHash values a row
_RECALL = 0.9    # wanted probability that two rows at exactly the threshold become candidates
_COMPARED = 64   # texts of one bucket that a row is compared with


@dataclass(frozen=True, slots=True)
class Banding:
    """`bands` x `rows` values of a signature."""

    bands: int
    rows: int

    @staticmethod
    def of(threshold: float) -> Banding | None:
        """Return the banding with the longest bands that still finds 9 of 10 pairs at the threshold; 0 gives None.

        Two rows of similarity t agree on some band with probability 1 - (1 - t^rows)^bands (Leskovec et al., "Mining
        of Massive Datasets", §3.4.2).
        """
        if threshold <= 0:
            return None
        fitting = [rows for rows in range(1, 17)
                   if 1 - (1 - threshold**rows) ** (SIGNATURE // rows) >= _RECALL]
        rows = max(fitting, default=1)
        return Banding(SIGNATURE // rows, rows)


def band_hashes(signatures: NDArray[np.uint32], banding: Banding) -> Hashes:
    """Return one uint64 for each band of each signature: [rows, bands]."""
    used = signatures[:, :banding.bands * banding.rows].astype(np.uint64).reshape(-1, banding.bands, banding.rows)
    value = np.zeros(used.shape[:2], dtype=np.uint64)
    for column in range(banding.rows):
        value = (value ^ used[:, :, column]) * np.uint64(0x9E3779B97F4A7C15)
        value ^= value >> np.uint64(29)
    return value


class _Clusters:
    """Union-find over row numbers; the root of a cluster is its smallest row."""

    def __init__(self, rows: int) -> None:
        self.parent = np.arange(rows, dtype=np.int64)

    def find(self, row: int) -> int:
        parent = self.parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    def union(self, a: int, b: int) -> None:
        a, b = self.find(a), self.find(b)
        self.parent[max(a, b)] = min(a, b)

    def roots(self) -> NDArray[np.int64]:
        while not np.array_equal(above := self.parent[self.parent], self.parent):
            self.parent = above
        return self.parent


class _Sets:
    """The 5-gram sets of some rows in a memory-mapped temporary file: uint32, sorted, unique."""

    def __init__(self, sources: list[Path], starts: NDArray[np.int64], wanted: NDArray[np.int64], folder: Path) -> None:
        self._wanted = wanted
        bounds = [0]
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the map of it
        for source, start, end in zip(sources, starts[:-1], starts[1:], strict=True):
            inside = wanted[np.searchsorted(wanted, start):np.searchsorted(wanted, end)] - start
            if not len(inside):
                continue
            pick, position = iter(inside.tolist()), 0
            next_row = next(pick, None)
            for data in row_groups(source, ["kind", "text"]):
                while next_row is not None and next_row < position + len(data):
                    row = data[next_row - position]
                    text = prose(row["kind"], payload_of(row["kind"], row["text"]))
                    runs = np.unique(shingles(hash_words(split_words(text))).astype(np.uint32))
                    self._file.write(runs.tobytes())
                    bounds.append(bounds[-1] + len(runs))
                    next_row = next(pick, None)
                position += len(data)
        self._file.flush()
        self._bounds = np.array(bounds, dtype=np.int64)
        self._data = (np.memmap(self._file, dtype=np.uint32, mode="r") if bounds[-1]
                      else np.zeros(0, dtype=np.uint32))

    def similarity(self, a: int, b: int) -> float:
        """Return the Jaccard similarity of two rows."""
        x, y = self._of(a), self._of(b)
        shared = len(np.intersect1d(x, y, assume_unique=True))
        return shared / max(1, len(x) + len(y) - shared)

    def _of(self, row: int) -> NDArray[Any]:
        place = int(np.searchsorted(self._wanted, row))
        return np.asarray(self._data[self._bounds[place]:self._bounds[place + 1]])


def find_clusters(texts: list[Path], measures: list[Path], counts: list[int], threshold: float, folder: Path,
                  path: Path) -> dict[str, Any]:
    """Write `exact` and `cluster` (int64, the smallest row number that a row equals, or is joined with) for all rows.

    Args:
        texts: extracted slices; `measures`: their measured rows; `counts`: rows of each, in the order of the dataset.
        threshold: Jaccard similarity from which two texts are copies; 0 joins equal rows only.
        folder: place for temporary files.
        path: Parquet file to write.

    Returns:
        `candidates` (rows that shared a band with another), `verified` (pairs compared), `clusters` (of two or more).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    contents = np.concatenate([np.frombuffer(b"".join(pq.read_table(file, columns=["content"])["content"].to_pylist()),
                                             dtype="V16") for file in measures] or [np.zeros(0, dtype="V16")])
    _, first, inverse = np.unique(contents.view("S16"), return_index=True, return_inverse=True)
    exact = first[inverse].astype(np.int64)
    del contents, first, inverse
    clusters = _Clusters(len(exact))
    clusters.parent = exact.copy()
    facts = {"candidates": 0, "verified": 0}
    banding = Banding.of(threshold)
    if banding and len(exact):
        comparable = np.concatenate([pq.read_table(file, columns=["comparable"])["comparable"].to_numpy()
                                     for file in measures])
        rows = np.flatnonzero(comparable & (exact == np.arange(len(exact))))
        facts = _join(texts, measures, starts, rows, banding, threshold, clusters, folder)
    cluster = clusters.roots()
    pq.write_table(pa.table({"exact": exact, "cluster": cluster}), path, compression="zstd")
    sizes = np.bincount(cluster, minlength=len(exact)) if len(exact) else np.zeros(0, dtype=np.int64)
    return {**facts, "clusters": int(np.count_nonzero(sizes > 1))}


def _join(texts: list[Path], measures: list[Path], starts: NDArray[np.int64], rows: NDArray[np.int64],
          banding: Banding, threshold: float, clusters: _Clusters, folder: Path) -> dict[str, int]:
    """Join verified near copies among `rows` (sorted row numbers) and return what was counted."""
    candidate = np.zeros(len(rows), dtype=bool)
    for band in range(banding.bands):
        for bucket in _buckets(_band(measures, band)[rows]):
            candidate[bucket] = True
    wanted = rows[candidate]
    sets = _Sets(texts, starts, wanted, folder)
    rejected: set[tuple[int, int]] = set()
    verified = 0
    for band in range(banding.bands):
        for bucket in _buckets(_band(measures, band)[wanted]):
            earlier: list[int] = []
            for row in wanted[bucket].tolist():
                mine = clusters.find(row)
                for other in earlier:
                    if clusters.find(other) == mine:
                        break
                    if (other, row) in rejected:
                        continue
                    verified += 1
                    if sets.similarity(other, row) >= threshold:
                        clusters.union(other, row)
                        break
                    rejected.add((other, row))
                if len(earlier) < _COMPARED:
                    earlier.append(row)
    return {"candidates": len(wanted), "verified": verified}


def _band(measures: list[Path], band: int) -> Hashes:
    import pyarrow.parquet as pq

    name = f"band{band}"
    return np.concatenate([pq.read_table(file, columns=[name])[name].to_numpy() for file in measures])


def _buckets(values: Hashes) -> list[NDArray[np.int64]]:
    """Return the positions of equal values, for values that occur at least twice; positions rise in each bucket."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    edges = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1], [True])))
    long = np.flatnonzero(np.diff(edges) > 1)
    return [order[edges[i]:edges[i + 1]] for i in long]
