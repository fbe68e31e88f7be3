"""Rules of graphs: true ones, and ones that are broken by a single edge or node."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.core.errors import RecipeError
from bottega.core.graph import Graph
from bottega.core.graph_rules import RULES, broken, distances
from bottega.core.smiles import read_smiles
from tests.core.test_smiles import MOLECULES


def plain(count: int, pairs: list[tuple[int, int]]) -> Graph:
    return Graph.of(["node"] * count, [(*pair, "edge") for pair in pairs])


def lattice(height: int, width: int) -> list[tuple[int, int]]:
    return [(row * width + column, beside) for row in range(height) for column in range(width)
            for beside in ([row * width + column + 1] if column + 1 < width else [])
            + ([(row + 1) * width + column] if row + 1 < height else [])]


@given(st.integers(2, 7), st.integers(2, 7), st.randoms())
def test_a_grid_in_any_order_is_one_and_one_edge_more_or_less_is_none(height: int, width: int,
                                                                      chance: random.Random) -> None:
    count, pairs = height * width, lattice(height, width)
    order = list(range(count))
    chance.shuffle(order)
    assert broken(plain(count, pairs).permuted(order), "grid") == ""
    lost = chance.choice(pairs)
    assert broken(plain(count, [pair for pair in pairs if pair != lost]).permuted(order), "grid")
    more = chance.choice([pair for pair in itertools.combinations(range(count), 2) if pair not in set(pairs)])
    assert broken(plain(count, [*pairs, more]).permuted(order), "grid")


@pytest.mark.parametrize(("count", "pairs", "said"), [
    (8, [*lattice(2, 2), (4, 5), (4, 6), (5, 7), (6, 7)], "2 parts"),
    (5, [(i, i + 1) for i in range(4)], "3 of its nodes"),
    (8, [(i, (i + 1) % 8) for i in range(8)], "8 of its nodes"),
    (9, [pair for pair in lattice(3, 3) if pair != (4, 5)], "not 4"),
    # a grid of 4 × 4 whose two middle edges are crossed: as many edges, corners and sides as a true one
    (16, [pair for pair in lattice(4, 4) if pair not in ((5, 6), (9, 10))] + [(5, 10), (6, 9)], "node 8 is in no row")])
def test_what_is_no_grid(count: int, pairs: list[tuple[int, int]], said: str) -> None:
    assert said in broken(plain(count, pairs), "grid")


def test_grids_and_only_grids_among_all_small_graphs() -> None:
    """Of all graphs on 4 numbered nodes 3 are squares; on 5 none is a grid."""
    for count, squares in ((4, 3), (5, 0)):
        pairs = list(itertools.combinations(range(count), 2))
        found = sum(not broken(plain(count, [pair for pair, use in zip(pairs, uses, strict=True) if use]), "grid")
                    for uses in itertools.product([0, 1], repeat=len(pairs)))
        assert found == squares


def test_as_many_trees_as_cayley_says() -> None:
    pairs = list(itertools.combinations(range(5), 2))
    found = [broken(plain(5, [pair for pair, use in zip(pairs, uses, strict=True) if use]), "tree")
             for uses in itertools.product([0, 1], repeat=len(pairs))]
    assert found.count("") == 5 ** 3
    assert any("close cycles" in reason for reason in found)


def test_molecules() -> None:
    assert {text: broken(read_smiles(text).graph, "molecule") for text in MOLECULES if "." not in text} == \
        {text: "" for text in MOLECULES if "." not in text}
    assert broken(read_smiles("CC.O").graph, "molecule") == "it is in 2 parts"
    assert broken(Graph.of("CCCCCC", [(0, other, "1") for other in range(1, 6)]), "molecule") == \
        "node 0, C, has bonds of order 5 in all"
    assert "'e' is no bond" in broken(Graph.of("CC", [(0, 1, "e")]), "molecule")
    assert "'node' is no atom" in broken(plain(1, []), "molecule")


def test_one_node_is_connected_and_a_tree() -> None:
    assert {name: bool(broken(plain(1, []), name)) for name in RULES if name != "molecule"} == \
        {"connected": False, "tree": False, "grid": True}


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(RecipeError, match="did you mean 'tree'"):
        broken(plain(1, []), "trees")


def test_distances_stop_at_the_end_of_a_part() -> None:
    assert distances(plain(4, [(0, 1), (1, 2)]), 0) == [0, 1, 2, -1]
