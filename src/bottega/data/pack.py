"""Documents to one long row of tokens a split, memory-mapped: what pretraining reads.

    train.tokens        uint16 (uint32 when the vocabulary is larger than 65,536), little-endian, documents one after
    validation.tokens   the other, each preceded by the beginning-of-sequence token
    train.starts …      int64, little-endian: where each document's first token (that bos) stands
    shards.json         data type, counts, UTF-8 bytes
    manifest.json       SHA-256 of every file

The folder is addressed by the digests of dataset and codec, and reused while it verifies. `bottega train` makes one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import CorruptError, InputError, suggest
from bottega.core.files import atomic_dir, digest_json, read_json, remove_unfinished, verify_manifest, write_json
from bottega.core.progress import say, track
from bottega.data.dataset import SPLITS, Dataset
from bottega.data.record import Split

META = "shards.json"
_FORMAT = 1
_BATCH_DOCUMENTS, _BATCH_CHARACTERS = 256, 4 << 20


class Shards:
    """Verified token shards of one dataset under one codec.

    Attributes:
        path: the folder.
        meta: content of shards.json.
        digest: SHA-256 over the manifest.
    """

    def __init__(self, path: Path, meta: dict[str, Any], digest: str) -> None:
        self.path, self.meta, self.digest = path, meta, digest

    @staticmethod
    def open(path: Path) -> Shards:
        """Check every file against the manifest.

        Raises:
            InputError: the folder is not there.
            CorruptError: a file is missing or changed; the message names it.
        """
        digest = verify_manifest(path)
        return Shards(path, read_json(path / META), digest)

    def tokens(self, split: Split) -> NDArray[np.uint16] | NDArray[np.uint32]:
        """Return all tokens of a split, 1-D, memory-mapped read-only (uint16 or uint32)."""
        self._entry(split)
        dtype: Any = np.dtype(self.meta["dtype"]).newbyteorder("<")
        mapped: NDArray[np.uint16] | NDArray[np.uint32] = _map(self.path / f"{split}.tokens", dtype)
        return mapped

    def starts(self, split: Split) -> NDArray[np.int64]:
        """Return the position of each document's bos in `tokens(split)`, int64, rising, memory-mapped."""
        self._entry(split)
        mapped: NDArray[np.int64] = _map(self.path / f"{split}.starts", np.dtype("<i8"))
        return mapped

    def bytes(self, split: Split) -> int:
        """Return the UTF-8 bytes of a split's text; bos stands for none."""
        return int(self._entry(split)["bytes"])

    def documents(self, split: Split) -> int:
        """Return the number of documents of a split."""
        return int(self._entry(split)["documents"])

    def _entry(self, split: Split) -> dict[str, int]:
        if split not in SPLITS:
            raise InputError(f"token shards have no split '{split}'", fix=suggest(split, SPLITS))
        entry: dict[str, int] = self.meta["splits"][split]
        return entry


def _map(path: Path, dtype: Any) -> NDArray[Any]:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")


def pack(dataset: Dataset, encode: Callable[[list[str]], list[list[int]]], *, codec_digest: str, vocab_size: int,
         bos: int, home: Path) -> Shards:
    """Encode a dataset's kept texts into token shards, or reuse those made before.

    Args:
        dataset: what to encode.
        encode: texts to token ids, in the same order, without special tokens.
        codec_digest: identity of the codec.
        vocab_size: number of ids; decides between uint16 and uint32.
        bos: id put before each document.
        home: the workshop; shards lie in its cache/tokens.

    Raises:
        InputError: `bos` or an encoded id is not below `vocab_size`.
        ResourceError: the disk is full; nothing half made stays.
    """
    if not 0 <= bos < vocab_size:
        raise InputError(f"the bos id {bos} is outside the vocabulary of {vocab_size}", fix="pass the codec's own bos")
    key = digest_json({"format": _FORMAT, "dataset": dataset.digest, "codec": codec_digest,
                       "vocab_size": vocab_size, "bos": bos})
    path = home / "cache" / "tokens" / key[:16]
    remove_unfinished(path.parent)
    if path.is_dir():
        try:
            return Shards.open(path)
        except CorruptError as error:
            say(f"packing again: {error.problem}")
    dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    meta: dict[str, Any] = {"dtype": "uint16" if dtype.itemsize == 2 else "uint32", "dataset": dataset.digest,
                            "codec": codec_digest, "vocab_size": vocab_size, "bos": bos, "splits": {}}
    with atomic_dir(path, replace=True) as folder:
        for split in SPLITS:
            with (folder / f"{split}.tokens").open("wb") as tokens, (folder / f"{split}.starts").open("wb") as starts:
                meta["splits"][split] = _write(dataset, split, encode, tokens, starts, dtype, bos, vocab_size)
        write_json(folder / META, meta)
    return Shards.open(path)


def _write(dataset: Dataset, split: Split, encode: Callable[[list[str]], list[list[int]]], tokens: BinaryIO,
           starts: BinaryIO, dtype: np.dtype[Any], bos: int, vocab_size: int) -> dict[str, int]:
    """Write one split and return its counts of documents, tokens and UTF-8 bytes."""
    position = documents = size = 0
    texts = iter(track(dataset.texts(split), f"packing {split}", total=dataset.count(split)))
    for batch in _batches(texts):
        size += sum(len(text.encode("utf-8")) for text in batch)
        encoded = encode(batch)
        lengths = np.array([len(ids) + 1 for ids in encoded], dtype=np.int64)
        row = np.fromiter((i for ids in encoded for i in (bos, *ids)), dtype=np.int64, count=int(lengths.sum()))
        if row.size and (int(row.min()) < 0 or int(row.max()) >= vocab_size):
            raise InputError(f"the codec made token id {int(row.max())} with a vocabulary of {vocab_size}",
                             fix="pass the vocab_size of the codec that encodes")
        tokens.write(row.astype(dtype).tobytes())
        starts.write((position + np.cumsum(lengths) - lengths).astype("<i8").tobytes())
        position += int(lengths.sum())
        documents += len(batch)
    return {"documents": documents, "tokens": position, "bytes": size}


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    """Group texts so that a batch is bounded in number and in characters."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) >= _BATCH_DOCUMENTS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
