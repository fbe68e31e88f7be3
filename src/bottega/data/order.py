"""The order in which training sees its data: a keyed permutation that needs no memory and no shuffle buffer.

`Permutation(n, seed, epoch)[i]` is a pure function, so that the whole state of a data loader is one integer and a
resumed run goes on exactly where it stopped, with any number of workers. A balanced Feistel network over the smallest
even number of bits that holds n, walked along its cycle until the value is below n (Black & Rogaway, "Ciphers with
Arbitrary Finite Domains", 2002, §4). Exercised by `pytest tests/data/test_order.py`.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 6


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the splitmix64 finaliser of each value: all output bits depend on all input bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Permutation:
    """A bijection on range(n) chosen by (seed, epoch).

    Args:
        n: size of the range, at least 0 and below 2**62.
        seed: any integer.
        epoch: pass over the data; each has an order of its own.

    Raises:
        ValueError: n is out of range.
    """

    def __init__(self, n: int, seed: int, epoch: int = 0) -> None:
        if not 0 <= n < 1 << 62:
            raise ValueError(f"n must be in 0 … 2**62 - 1, not {n}")
        self.n, self.seed, self.epoch = n, seed, epoch
        self._half = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
        key = hashlib.sha256(f"bottega order {n} {seed} {epoch}".encode()).digest() * 2
        self._keys = np.frombuffer(key, dtype="<u8")[:_ROUNDS].astype(np.uint64)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        """Return the image of one index; negative ones count from the end as in a list.

        Raises:
            IndexError: the index is outside range(n).
        """
        if not -self.n <= index < self.n:
            raise IndexError(f"{index} is outside range({self.n})")
        return int(self.take(np.array([index % self.n], dtype=np.int64))[0])

    def take(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the images of an integer array of any shape, as int64.

        Raises:
            IndexError: an index is outside range(n).
        """
        flat = np.asarray(indices).reshape(-1)
        if flat.size and (int(flat.min()) < 0 or int(flat.max()) >= self.n):
            raise IndexError(f"an index is outside range({self.n})")
        values = self._encrypt(flat.astype(np.uint64))
        while (outside := np.flatnonzero(values >= np.uint64(self.n))).size:
            values[outside] = self._encrypt(values[outside])
        return values.astype(np.int64).reshape(np.shape(indices))

    def _encrypt(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        half, mask = np.uint64(self._half), np.uint64((1 << self._half) - 1)
        left, right = values >> half, values & mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right + key) & mask)
        return (left << half) | right
