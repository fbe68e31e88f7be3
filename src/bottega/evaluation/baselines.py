"""What a language model must beat on its held-out text: general compressors and a unigram over the same tokens.

Both are measured in bits per byte, like the model, so that the tokenizer does not matter; `bottega demo` prints them.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import DataError

_CHUNK = 1 << 20


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _compressors() -> dict[str, _Compressor]:
    """Return each compressor at its strongest setting; window bits 31 is zlib with gzip's header and trailer."""
    return {"gzip": zlib.compressobj(9, zlib.DEFLATED, 31), "bz2": bz2.BZ2Compressor(9),
            "xz": lzma.LZMACompressor(preset=9)}


def compressed_bits_per_byte(texts: Iterable[str], names: Iterable[str] = ("gzip", "bz2", "xz")) -> dict[str, float]:
    """Return bits per UTF-8 byte of the concatenated texts under each compressor, in one streaming pass.

    Args:
        texts: the held-out documents, in order; nothing is put between them.
        names: which of gzip, bz2, xz.

    Raises:
        DataError: there is no text to compress.
    """
    chosen = {name: _compressors()[name] for name in names}
    sizes, total = dict.fromkeys(chosen, 0), 0
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        total += len(data)
        for name, compressor in chosen.items():
            sizes[name] += len(compressor.compress(data))
    if total == 0:
        raise DataError("there is no held-out text to compare with", fix="raise data.validation or add documents")
    return {name: 8 * (sizes[name] + len(compressor.flush())) / total for name, compressor in chosen.items()}


def gzip_bits_per_byte(texts: Iterable[str]) -> float:
    """Return bits per byte of gzip -9 over the concatenated texts (see `compressed_bits_per_byte`)."""
    return compressed_bits_per_byte(texts, ("gzip",))["gzip"]


def token_counts(tokens: NDArray[Any], vocab_size: int) -> NDArray[np.int64]:
    """Return how often each id occurs: int64 [vocab_size]. A memory-mapped array is read in 1 Mi-token pieces."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for start in range(0, len(tokens), _CHUNK):
        counts += np.bincount(np.asarray(tokens[start:start + _CHUNK]), minlength=vocab_size)
    return counts


def unigram_bits_per_byte(train: NDArray[np.int64], held_out: NDArray[Any], held_out_bytes: int) -> float:
    """Return bits per byte of a model that knows only how frequent each token is.

    Additive smoothing with 1/2 a count a token (Krichevsky and Trofimov 1981): p(t) = (c_t + 1/2) / (N + V/2).

    Args:
        train: int64 [vocab], counts in the training split.
        held_out: ids of the held-out split (1-D, may be memory-mapped).
        held_out_bytes: UTF-8 bytes those ids stand for.

    Raises:
        DataError: there is no held-out text.
    """
    if held_out_bytes <= 0 or len(held_out) == 0:
        raise DataError("there is no held-out text to compare with", fix="raise data.validation or add documents")
    bits = np.log2(train.sum() + len(train) / 2) - np.log2(train + 0.5)
    return float(token_counts(held_out, len(train)) @ bits / held_out_bytes)
