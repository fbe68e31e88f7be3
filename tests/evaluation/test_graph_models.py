"""Random graphs have the edges, sizes and types of the graphs they were fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from bottega.core.errors import InputError
from bottega.core.graph import Graph
from bottega.core.graph_rules import broken
from bottega.core.smiles import read_smiles
from bottega.data.graphs.synthetic import synthetic
from bottega.evaluation.graph_models import BarabasiAlbert, ErdosRenyi, RandomGraphs

MODELS = [ErdosRenyi, BarabasiAlbert]


def test_the_share_of_edges_is_that_of_each_size() -> None:
    train = synthetic("communities", 200, 0)
    made = ErdosRenyi.fit(train).sample(500, 1)
    for size in (14, 16, 18):
        real, random = (np.mean([len(graph.edges) for graph in graphs if len(graph) == size])
                        for graphs in (train, made))
        assert random == pytest.approx(real, rel=0.06)


def test_links_are_found_again() -> None:
    train = BarabasiAlbert(ErdosRenyi.fit(synthetic("communities", 50, 0)).labels, 2).sample(60, 0)
    model = BarabasiAlbert.fit(train)
    assert model.links == 2
    assert {len(graph.edges) - 2 * (len(graph) - 2) for graph in model.sample(20, 1)} == {0}
    assert BarabasiAlbert.fit(synthetic("trees", 50, 0)).links == 1


def test_grown_graphs_have_hubs_and_one_part() -> None:
    model = BarabasiAlbert(ErdosRenyi.fit(synthetic("trees", 50, 0)).labels, 1)
    grown, trees = model.sample(200, 0), synthetic("trees", 200, 0)
    assert {broken(graph, "tree") for graph in grown} == {""}
    assert np.mean([max(map(len, graph.neighbours)) for graph in grown]) > \
        1.5 * np.mean([max(map(len, graph.neighbours)) for graph in trees])


@pytest.mark.parametrize("kind", MODELS)
def test_types_are_as_frequent_and_a_seed_gives_the_same(kind: type[ErdosRenyi] | type[BarabasiAlbert]) -> None:
    model: RandomGraphs = kind.fit([read_smiles(text).graph for text in ("CC=O", "CCN", "C#N", "OCC=C")])
    made = model.sample(300, 0)
    nodes = [node for graph in made for node in graph.nodes]
    assert nodes.count("C") / len(nodes) == pytest.approx(8 / 12, abs=0.06)
    assert {edge for graph in made for *_, edge in graph.edges} == {"1", "2", "3"}
    assert made == model.sample(300, 0) != model.sample(300, 1)


@pytest.mark.parametrize("kind", MODELS)
def test_single_nodes_and_no_graph(kind: type[ErdosRenyi] | type[BarabasiAlbert]) -> None:
    assert kind.fit([Graph.of("a", [])]).sample(3, 0) == [Graph.of("a", [])] * 3
    with pytest.raises(InputError, match="fitted to no graph"):
        kind.fit([])
