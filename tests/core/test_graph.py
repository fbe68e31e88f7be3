"""Canonical forms: equal for the same graph in any order of nodes, different for different graphs."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bottega.core.errors import DataError
from bottega.core.graph import LARGEST, Graph, canonical


@st.composite
def graphs(draw: st.DrawFn, most: int = 8) -> Graph:
    count = draw(st.integers(1, most))
    nodes = draw(st.lists(st.sampled_from("ab"), min_size=count, max_size=count))
    pairs = list(itertools.combinations(range(count), 2))
    kinds = draw(st.lists(st.sampled_from(["", "", "x", "y"]), min_size=len(pairs), max_size=len(pairs)))
    return Graph.of(nodes, [(i, j, kind) for (i, j), kind in zip(pairs, kinds, strict=True) if kind])


@given(graphs(), st.randoms())
@settings(max_examples=200, deadline=None)
def test_the_order_of_nodes_does_not_matter(graph: Graph, chance: object) -> None:
    order = list(range(len(graph)))
    chance.shuffle(order)  # type: ignore[attr-defined]
    assert canonical(graph.permuted(order)) == canonical(graph)


@pytest.mark.parametrize(("count", "different"), [(3, 4), (4, 11), (5, 34)])
def test_as_many_forms_as_there_are_graphs(count: int, different: int) -> None:
    """Numbers of graphs on n nodes up to isomorphism: OEIS A000088."""
    pairs = list(itertools.combinations(range(count), 2))
    forms = {canonical(Graph.of(["a"] * count, [(*pair, "e") for pair, use in zip(pairs, uses, strict=True) if use]))
             for uses in itertools.product([0, 1], repeat=len(pairs))}
    assert len(forms) == different


def test_refinement_alone_would_not_tell_these_apart() -> None:
    ring = [(i, (i + 1) % 6, "e") for i in range(6)]
    two = [(0, 1, "e"), (1, 2, "e"), (0, 2, "e"), (3, 4, "e"), (4, 5, "e"), (3, 5, "e")]
    assert canonical(Graph.of(["a"] * 6, ring)) != canonical(Graph.of(["a"] * 6, two))


def test_symmetric_graphs_take_no_time() -> None:
    began = time.perf_counter()
    canonical(Graph.of(["a"] * 25, [(0, leaf, "e") for leaf in range(1, 25)]))
    canonical(Graph.of(["a"] * 16, [(i, j, "e") for i in range(16) for j in range(i)]))
    assert time.perf_counter() - began < 5


def test_parts() -> None:
    assert Graph.of("aaaa", [(0, 2, "e")]).components() == [[0, 2], [1], [3]]


@pytest.mark.parametrize(("nodes", "edges", "said"), [
    ([], [], "0 nodes"), (["a"] * (LARGEST + 1), [], f"{LARGEST + 1} nodes"), (["a"], [(0, 1, "e")], "0 and 1 of 1"),
    (["a", "a"], [(1, 1, "e")], "node 1 is joined to itself"),
    (["a", "a"], [(0, 1, "e"), (1, 0, "e")], "0 and 1 are joined twice")])
def test_what_is_no_graph(nodes: list[str], edges: list[tuple[int, int, str]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        Graph.of(nodes, edges)


def test_signs_in_types_do_not_make_graphs_alike() -> None:
    pairs = [(Graph.of(["a,b", "c"], []), Graph.of(["a", "b,c"], [])),
             (Graph.of(["a", "b|0-1:x"], []), Graph.of(["a", "b"], [(0, 1, "x|")])),
             (Graph.of(["a", "a", "a"], [(0, 1, "x,0-2:x")]), Graph.of(["a", "a", "a"], [(0, 1, "x"), (0, 2, "x")])),
             (Graph.of(["a\\", "b"], []), Graph.of(["a", "\\b"], []))]
    for one, other in pairs:
        assert canonical(one) != canonical(other)
