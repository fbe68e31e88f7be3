"""Step 2 of a slice: every number about every row, in one pass. Run by `bottega data prepare`.

Row-aligned with the extracted slice: id, content hash, signals, and the band hashes of the row's MinHash signature.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bottega.data.dedupe import SIGNATURE, Banding, band_hashes
from bottega.data.parquet import row_groups
from bottega.data.record import document_id, payload_of, prose
from bottega.data.signals import MEASURED, language, measure
from bottega.data.words import Hashes, hash_words, sequences, shingles, split_words

if TYPE_CHECKING:
    import pyarrow as pa

SEQUENCE = 13  # words: the length of a decontamination match (Brown et al. 2020, appendix C)


def _schema(banding: Banding | None) -> pa.Schema:
    import pyarrow as pa

    bands = banding.bands if banding else 0
    return pa.schema([("id", pa.binary(16)), ("content", pa.binary(16)), ("draw", pa.float64()),
                      ("part_draw", pa.float64()), ("format", pa.string()), ("language", pa.string()),
                      ("language_score", pa.float64()), *((name, pa.float64()) for name in MEASURED),
                      ("comparable", pa.bool_()), *((f"band{i}", pa.uint64()) for i in range(bands))])


def draw(identity: str) -> float:
    """Return a number in [0, 1) that depends on an id alone (32 hex digits)."""
    return int(identity[:13], 16) / 16**13


def measure_slice(source: Path, banding: Banding | None, path: Path) -> dict[str, Any]:
    """Write the numbers of an extracted slice and return `{"rows": …}`.

    Args:
        source: Parquet file of the extracted slice.
        banding: how signatures are cut into bands; None when near-duplicates are not wanted.
        path: file to write.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(banding)
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1) as writer:
        columns = ["origin", "document", "kind", "format", "text"]
        for data in row_groups(source, columns):
            measured, sets = [], []
            for row in data:
                values, runs = _one(row, banding is not None)
                measured.append(values)
                sets.append(runs)
            table: dict[str, Any] = {name: [values[name] for values in measured] for name in measured[0]}
            if banding:
                bands = band_hashes(_signatures(sets), banding)
                table |= {f"band{i}": bands[:, i] for i in range(banding.bands)}
            writer.write_table(pa.table(table, schema=schema))
            rows += len(data)
    return {"rows": rows}


def _one(row: dict[str, str], compare: bool) -> tuple[dict[str, Any], Hashes]:
    text = row["text"]
    readable = prose(row["kind"], payload_of(row["kind"], text))
    words = split_words(readable)
    hashes = hash_words(words)
    code, score = language(readable) if row["format"] != "code" else ("", 0.0)
    identity = document_id(row["origin"])
    # Conversations of one template differ in few words on purpose: only texts are compared for nearness.
    runs = shingles(hashes) if compare and row["kind"] == "text" else np.zeros(0, dtype=np.uint64)
    return {
        "id": bytes.fromhex(identity),
        "content": hashlib.sha256(f"{row['kind']}\0{text}".encode()).digest()[:16],
        "draw": draw(document_id(row["document"])), "part_draw": draw(identity),
        "format": row["format"], "language": code, "language_score": score,
        **measure(readable, words, hashes), "comparable": len(runs) > 0,
    }, runs


def _signatures(sets: list[Hashes]) -> NDArray[np.uint32]:
    """Return MinHash signatures, uint32 [rows, SIGNATURE]."""
    from rensa import RMinHash

    offsets = np.cumsum([0, *map(len, sets)], dtype=np.uint64)
    flat = np.concatenate(sets)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, SIGNATURE, 0)
    return np.asarray(matrix.to_rows(), dtype=np.uint32)


def overlap_slice(source: Path, forbidden: Path, path: Path) -> dict[str, Any]:
    """Write how many word sequences of each row of an extracted slice stand in `forbidden` and return `{"rows": …}`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = pq.read_table(forbidden)["sequence"].to_numpy()
    counts: list[int] = []
    for data in row_groups(source, ["kind", "text"]):
        for row in data:
            text = prose(row["kind"], payload_of(row["kind"], row["text"]))
            runs = sequences(hash_words(split_words(text)), SEQUENCE)
            places = np.minimum(np.searchsorted(known, runs), max(0, len(known) - 1))
            counts.append(int(np.count_nonzero(known[places] == runs)) if len(known) else 0)
    pq.write_table(pa.table({"overlap": pa.array(counts, pa.float64())}), path, compression="zstd")
    return {"rows": len(counts)}


def sequence_slice(sources: list[Path], path: Path) -> dict[str, Any]:
    """Write the sorted set of word sequences of extracted slices (uint64) and return `{"sequences": …}`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: list[Hashes] = [np.zeros(0, dtype=np.uint64)]
    for source in sources:
        for data in row_groups(source, ["kind", "text"]):
            for row in data:
                text = prose(row["kind"], payload_of(row["kind"], row["text"]))
                found.append(np.unique(sequences(hash_words(split_words(text)), SEQUENCE)))
            found = [np.unique(np.concatenate(found))]
    pq.write_table(pa.table({"sequence": found[0]}), path, compression="zstd")
    return {"sequences": len(found[0])}
