"""Words as 64-bit numbers: one split of a document serves its statistics, its signature and decontamination.

Used by `signals`, `dedupe` and `decontaminate`; the numbers are the same in every process and on every machine.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
# Scripts written without spaces count by the character, all others by the word.
_WORD = re.compile(f"[^\\W{_UNSPACED}]+|[{_UNSPACED}]")
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_TABLE_LIMIT = 1 << 18


class _Table(dict[str, int]):
    """Word → number, remembered; forgotten when large, so that memory stays flat."""

    def __missing__(self, word: str) -> int:
        value = int.from_bytes(hashlib.blake2b(word.encode("utf-8"), digest_size=8).digest(), "little")
        self[word] = value
        return value


_table = _Table()


def split_words(text: str) -> list[str]:
    """Return the lower-cased words of a text, in order; punctuation is not part of them."""
    return _WORD.findall(text.lower())


def hash_words(words: list[str]) -> Hashes:
    """Return one uint64 a word."""
    if len(_table) > _TABLE_LIMIT:
        _table.clear()
    return np.fromiter(map(_table.__getitem__, words), dtype=np.uint64, count=len(words))


def sequences(hashes: Hashes, n: int) -> Hashes:
    """Return one uint64 for each run of n words, in order; empty when there are fewer than n words."""
    count = len(hashes) - n + 1
    if count <= 0:
        return np.zeros(0, dtype=np.uint64)
    value = np.zeros(count, dtype=np.uint64)
    for offset in range(n):
        value = value * _PRIME + hashes[offset:offset + count]
    value ^= value >> np.uint64(32)
    return value * np.uint64(0xD6E8FEB86659FD93)


def shingles(hashes: Hashes, n: int = 5) -> Hashes:
    """Return the set of a text's n-word runs as sorted unique uint64; a shorter text is one run of all its words."""
    if 0 < len(hashes) < n:
        n = len(hashes)
    return np.unique(sequences(hashes, n))
