"""Ring sizes of molecules that are known, and of random graphs against networkx."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bottega.core.graph import Graph
from bottega.core.smiles import read_smiles
from bottega.evaluation.graph_rings import ring_sizes


@pytest.mark.parametrize(("text", "sizes"), [
    ("CCO", []), ("C1CC1", [3]), ("c1ccc2[nH]ccc2c1", [5, 6]), ("C1CC2CC1C2", [4, 5]), ("C1CC1.C1CCC1", [3, 4]),
    ("C12C3C4C1C5C2C3C45", [4, 4, 4, 4, 4]), ("C1CCC2(CC1)CC2", [3, 6])])
def test_molecules(text: str, sizes: list[int]) -> None:
    assert ring_sizes(read_smiles(text).graph) == sizes


def test_networkx_finds_the_same() -> None:
    networkx = pytest.importorskip("networkx")
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pairs = [pair for pair in itertools.combinations(range(12), 2) if rng.random() < 0.1 + 0.02 * seed]
        theirs = networkx.Graph(pairs)
        assert ring_sizes(Graph.of(["a"] * 12, [(*pair, "e") for pair in pairs])) == \
            sorted(map(len, networkx.minimum_cycle_basis(theirs))), seed
