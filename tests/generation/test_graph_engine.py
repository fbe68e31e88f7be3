"""Graphs from untrained models: their number, their seed, the rule that is kept all the same, what cannot be asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bottega.core.errors import ControlError, InputError
from bottega.core.graph import Graph
from bottega.core.graph_rules import broken
from bottega.core.molecule import valences
from bottega.core.request import Controls, Request
from bottega.core.smiles import read_smiles
from bottega.data.graphs.synthetic import synthetic
from bottega.generation.graph_sampler import GraphSampler, Limits
from bottega.generation.graphs import CHUNK, GraphEngine
from tests.graph_models import MOLECULES, NAME, engine_of, make_graph_model, molecules, trees


@pytest.fixture(scope="module")
def engine() -> GraphEngine:
    return engine_of(trees(), "tree")


def test_graphs_are_as_many_as_asked_and_follow_their_seed(engine: GraphEngine) -> None:
    graphs = engine.sample(CHUNK + 10, seed=3)
    assert len(graphs) == CHUNK + 10
    assert engine.sample(CHUNK + 10, seed=3) == graphs
    assert engine.sample(7, seed=3) == graphs[:7]
    assert engine.sample(CHUNK + 10, seed=4) != graphs
    assert len(set(graphs)) > 10
    assert len(engine.sample(1)) == 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_untrained_model_keeps_the_rule(seed: int) -> None:
    for made, rule in ((engine_of(trees(), "tree", seed=seed), "tree"),
                       (engine_of(synthetic("communities", 10, 0), "connected", seed=seed), "connected"),
                       (engine_of(molecules(), "molecule", "molecules", seed=seed), "molecule")):
        sampler = made.sampler(Controls())
        graphs = made.draw(sampler, seed, 0)  # as they are drawn: nothing is thrown away
        assert [broken(graph, rule) for graph in graphs] == [""] * CHUNK
        free = made.draw(made.sampler(Controls(), free=True), seed, 0)
        assert any(broken(graph, rule) for graph in free)
        assert max(map(len, graphs)) <= made.codec.largest


def test_every_atom_has_the_bonds_it_can_have() -> None:
    made = engine_of(molecules(), "molecule", "molecules")
    for graph in made.sample(1000, seed=1):
        for kind, near in zip(graph.nodes, graph.neighbours, strict=True):
            assert sum(map(int, near.values())) <= max(valences(kind))
        assert made.codec.key(read_smiles(made.codec.text(graph)).graph) == made.codec.key(graph)


def test_atoms_without_room_for_the_lightest_bond_are_closed() -> None:
    """Only double and triple bonds were seen: what is left of a valence may be too little for any of them."""
    made = engine_of([read_smiles(text).graph for text in ("C=O", "N#N", "O=C=O", "C#C", "F", "N=N")], "molecule",
                     "molecules")
    for seed in range(3):
        drawn = made.sampler(Controls()).draw(CHUNK, torch.Generator().manual_seed(seed))
        assert drawn.nats.isfinite().all()
        assert all(not made.codec.broken(graph) for graph in made.draw(made.sampler(Controls()), seed, 0))


def test_the_number_of_nodes_can_be_asked_for(engine: GraphEngine) -> None:
    for nodes in (1, 2, engine.codec.largest):
        assert {len(graph) for graph in engine.sample(20, seed=1, nodes=nodes)} == {nodes}
    small = engine_of(molecules(), "molecule", "molecules")
    # a molecule may be full before it is large enough; those are drawn again
    assert {len(graph) for graph in small.sample(20, seed=1, nodes=small.codec.largest)} == {small.codec.largest}
    with pytest.raises(ControlError, match=f"largest graph the model was shown has {engine.codec.largest}"):
        engine.sample(1, nodes=engine.codec.largest + 1)
    with pytest.raises(ControlError):
        engine.sample(1, nodes=0)


def test_what_cannot_grow_is_refused() -> None:
    """Hydrogen and fluorine have one bond: three atoms never hold together."""
    made = engine_of([*(read_smiles(text).graph for text in ("FF", "F")), Graph.of(["F"] * 3, [])], "molecule",
                     "molecules")
    assert {len(graph) for graph in made.sample(30, seed=0)} == {1, 2}
    with pytest.raises(ControlError, match=r"none of 3,200 graphs with 3 nodes keeps the rule 'molecule'"):
        made.sample(1, seed=0, nodes=3)


def test_a_rule_that_nothing_keeps_is_told() -> None:
    made = engine_of(synthetic("grids", 10, 0), "grid")
    with pytest.raises(ControlError, match=r"none of 3,200 graphs with 11 nodes keeps the rule 'grid'"):
        made.sample(2, seed=0, nodes=11)  # a prime


def test_temperature_zero_takes_the_likeliest(engine: GraphEngine) -> None:
    graphs = engine.sample(10, seed=1, temperature=0)
    assert len(set(graphs)) == 1
    assert engine.sample(10, seed=2, temperature=0) == graphs
    assert engine.sample(10, seed=1, temperature=0.5) != engine.sample(10, seed=1, temperature=2.0)


def test_isolated_nodes_and_several_parts_where_nothing_forbids_them() -> None:
    apart = [Graph.of(["a"] * 4, []), Graph.of(["a", "b"] * 3, [(0, 1, "x"), (2, 3, "y")])]
    made = engine_of(apart, "none").sample(60, seed=0)
    assert any(len(graph.components()) > 1 for graph in made)
    assert all(graph.components() for graph in made)


def test_valences_without_connection_are_kept_too() -> None:
    made = engine_of(molecules(), "molecule", "molecules")
    kept = made.codec.limits()
    limits = Limits(capacity=torch.tensor(kept.capacity), order=torch.tensor(kept.order))
    graphs = made.draw(GraphSampler(made.model, limits), 0, 0)
    assert any(len(graph.components()) > 1 for graph in graphs)
    for graph in graphs:
        for kind, near in zip(graph.nodes, graph.neighbours, strict=True):
            assert sum(map(int, near.values())) <= max(valences(kind))


def test_other_media_are_refused(engine: GraphEngine, tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="does not understand the control 'steps'"):
        engine.plan(Request(prompt="", controls=Controls(steps=3)))
    with pytest.raises(InputError, match="takes no text"):
        engine.plan(Request(prompt="graphs please"))


def test_a_bundle_makes_the_same_graphs(tmp_path: Path) -> None:
    for name in (NAME, MOLECULES):
        path = make_graph_model(tmp_path, name)
        one, other = GraphEngine.open(path), GraphEngine.open(path)
        assert not one.model.training
        assert one.sample(20, seed=5) == other.sample(20, seed=5)
        steps = [step for steps in one.steps(one.plan(Request(prompt="", controls=Controls(rows=70, seed=5))))
                 for step in steps]
        assert [step.finish for step in steps] == [None] * (len(steps) - 1) + ["end"]
        assert [graph for step in steps for graph in step.data] == one.sample(70, seed=5)
        assert all(len(step.text.splitlines()) == len(step.data) for step in steps)
        signed = one.sign(one.plan(Request(prompt="", controls=Controls(seed=5))))
        assert (signed["name"], signed["seed"], signed["model"]) == (name, 5, one.model_digest)
