"""The baselines are what they say: real compressors on the concatenated text, an exact smoothed unigram."""

import bz2
import gzip
import lzma
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.core.errors import DataError
from bottega.evaluation.baselines import (
    compressed_bits_per_byte,
    gzip_bits_per_byte,
    token_counts,
    unigram_bits_per_byte,
)

COMPRESS = {"gzip": lambda data: gzip.compress(data, 9), "bz2": lambda data: bz2.compress(data, 9),
            "xz": lambda data: lzma.compress(data, preset=9)}


@given(st.lists(st.text(), min_size=1).filter(lambda texts: any(texts)))
def test_streamed_gzip_equals_gzip_of_the_whole(texts: list[str]) -> None:
    whole = "".join(texts).encode()
    assert gzip_bits_per_byte(texts) == pytest.approx(8 * len(gzip.compress(whole, 9)) / len(whole))


@pytest.mark.parametrize("name", COMPRESS)
def test_each_compressor_equals_its_library_on_a_long_text(name: str) -> None:
    texts = [f"line {i % 97} of {i % 13} — ünïcode\n" * 3 for i in range(5000)]
    whole = "".join(texts).encode()
    assert compressed_bits_per_byte(texts)[name] == pytest.approx(8 * len(COMPRESS[name](whole)) / len(whole))


def test_texts_are_read_once_as_they_come() -> None:
    def texts() -> Iterator[str]:
        yield from ("a" * 1000, "b" * 1000)

    assert set(compressed_bits_per_byte(texts())) == {"gzip", "bz2", "xz"}


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_nothing_to_compress_is_a_data_error(texts: list[str]) -> None:
    with pytest.raises(DataError, match="no held-out text"):
        compressed_bits_per_byte(texts)


def test_unigram_by_hand() -> None:
    train = np.array([3, 1, 0])
    held_out = np.array([0, 0, 2], dtype=np.uint16)
    expected = -(2 * math.log2(3.5 / 5.5) + math.log2(0.5 / 5.5)) / 7
    assert unigram_bits_per_byte(train, held_out, 7) == pytest.approx(expected)


def test_unigram_of_uniform_tokens_is_the_entropy() -> None:
    tokens = np.tile(np.arange(256), 2000)
    assert unigram_bits_per_byte(token_counts(tokens, 256), tokens[:2560], 2560) == pytest.approx(8.0, abs=1e-6)


def test_counts_of_a_memory_mapped_file_span_its_pieces(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 300, size=(1 << 20) + 12345).astype(np.uint16)
    tokens.tofile(tmp_path / "tokens.bin")
    mapped = np.memmap(tmp_path / "tokens.bin", dtype=np.uint16, mode="r")
    assert (token_counts(mapped, 300) == np.bincount(tokens, minlength=300)).all()


def test_unigram_without_text_is_a_data_error() -> None:
    with pytest.raises(DataError, match="no held-out text"):
        unigram_bits_per_byte(np.array([1, 2]), np.array([], dtype=np.uint16), 0)
