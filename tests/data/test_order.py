import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.data.order import Permutation


@given(st.integers(1, 3000), st.integers(0, 2**40), st.integers(0, 50))
def test_is_a_bijection(n: int, seed: int, epoch: int) -> None:
    images = Permutation(n, seed, epoch).take(np.arange(n))
    assert np.array_equal(np.sort(images), np.arange(n))


@given(st.integers(1, 2**61), st.data())
def test_scalar_equals_vector_and_stays_in_range(n: int, data: st.DataObject) -> None:
    order = Permutation(n, 7, 3)
    index = data.draw(st.integers(0, n - 1))
    assert order[index] == order.take(np.array([[index]]))[0, 0]
    assert 0 <= order[index] < n


def test_depends_on_seed_and_epoch_and_is_repeatable() -> None:
    indices = np.arange(1000)
    one = Permutation(1000, 1, 0).take(indices)
    assert np.array_equal(one, Permutation(1000, 1, 0).take(indices))
    assert not np.array_equal(one, Permutation(1000, 2, 0).take(indices))
    assert not np.array_equal(one, Permutation(1000, 1, 1).take(indices))


def test_looks_random() -> None:
    """Neighbours land apart, and no place is preferred: chi-square of a 10 x 10 table within wide bounds."""
    n = 100_000
    images = Permutation(n, 5).take(np.arange(n))
    table = np.histogram2d(np.arange(n), images, bins=10)[0]
    assert 40 < ((table - n / 100) ** 2 / (n / 100)).sum() < 160
    assert abs(np.corrcoef(images[:-1], images[1:])[0, 1]) < 0.02


def test_outside_the_range_is_refused() -> None:
    with pytest.raises(IndexError):
        Permutation(10, 0)[10]
    with pytest.raises(IndexError):
        Permutation(10, 0).take(np.array([-1]))
    assert Permutation(10, 0)[-1] == Permutation(10, 0)[9]
    assert Permutation(0, 0).take(np.zeros(0, dtype=np.int64)).size == 0
