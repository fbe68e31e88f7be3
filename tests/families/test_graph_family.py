"""The graph family against slow, obvious computations: prefixes, the loss, and the probabilities of all graphs."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch
from torch import Tensor

from bottega.codecs.graph import CodedGraph
from bottega.core.errors import RecipeError
from bottega.core.graph import Graph
from bottega.core.graph_rules import distances
from bottega.families.base import Batch
from bottega.families.graph import GraphConfig, GraphGenerator
from bottega.families.graph_prefix import FAR, WALKS, Prefixes, prefixes
from bottega.generation.graph_sampler import GraphSampler, Limits
from bottega.objectives.graphs import dense

KINDS, TYPES, LARGEST = 3, 2, 9


def model(**overrides: object) -> GraphGenerator:
    """Return an untrained model whose biases are no longer alike."""
    torch.manual_seed(3)
    facts = {"kinds": KINDS, "types": TYPES, "largest": LARGEST, **overrides}
    made = GraphGenerator(GraphConfig.derive(2, facts, {"width": 16}))
    with torch.no_grad():
        for weight in made.network.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
        made.average.shadow.load_state_dict(made.network.state_dict())
        made.best.load_state_dict(made.network.state_dict())
    return made.eval()


def random_graphs(count: int, largest: int = LARGEST, seed: int = 0) -> list[CodedGraph]:
    """Return graphs of one to `largest` nodes, many in several parts."""
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        size = 1 + number % largest
        pairs = [(i, j, int(rng.integers(1, TYPES + 1))) for i, j in combinations(range(size), 2)
                 if rng.random() < (0.15, 0.35, 0.7)[number % 3]]
        found.append(CodedGraph(rng.integers(0, KINDS, size).astype(np.int32),
                                np.array(pairs, np.int32).reshape(-1, 3)))
    return found


def batch_of(graphs: list[CodedGraph], seed: int = 0) -> Batch:
    return dense(graphs, [np.random.default_rng([seed, row]) for row in range(len(graphs))])


def all_prefixes(batch: Batch) -> Prefixes:
    pairs = [(graph, count) for graph, size in enumerate(batch["sizes"].tolist()) for count in range(size + 1)]
    graph, count = torch.tensor(pairs).T
    return prefixes(batch["nodes"], batch["edges"], graph, count, TYPES)


def ways(edges: Tensor, count: int) -> list[list[int]]:
    """Return the lengths of shortest ways among the first nodes, `FAR` for none so short."""
    if not count:
        return []
    graph = Graph.of(["n"] * count, [(i, j, "e") for i, j in combinations(range(count), 2) if edges[i, j]])
    return [[FAR if way < 0 else min(way, FAR) for way in distances(graph, start)] for start in range(count)]


def test_what_is_known_of_a_prefix_is_what_a_slow_search_finds() -> None:
    path = CodedGraph(np.zeros(12, np.int32), np.array([(i, i + 1, 1) for i in range(11)], np.int32))
    batch = batch_of([*random_graphs(27), path])
    at, place, edge = all_prefixes(batch), 0, 0
    for prefix, (row, count) in enumerate(zip(at.graph.tolist(), at.count.tolist(), strict=True)):
        edges = batch["edges"][row, :count, :count]
        assert at.near[prefix, :count, :count].tolist() == ways(edges, count)
        step = (edges > 0).double() / (edges > 0).sum(1, keepdim=True).clamp_min(1)
        for node in range(count):
            assert (int(at.owner[place]), int(at.node[place])) == (prefix, node)
            assert at.kinds[place] == batch["nodes"][row, node]
            degrees = [int((edges[node] == kind).sum()) for kind in range(1, TYPES + 1)]
            returns = [float(torch.matrix_power(step, length)[node, node]) for length in range(2, WALKS + 2)]
            wanted = [*(degree / 4 for degree in degrees), *returns, float(sum(degrees) == 0)]
            assert at.features[place].tolist() == pytest.approx(wanted, abs=1e-6)
            place += 1
        start = place - count
        found = {(int(i) - start, int(j) - start, int(kind) + 1) for (i, j), kind in
                 zip(at.ends.T[edge:], at.bonds[edge:], strict=True) if start <= i < place}
        assert found == {(i, j, int(edges[i, j])) for i, j in edges.nonzero().tolist()}
        edge += len(found)
    assert (place, edge) == (len(at.owner), len(at.bonds))


def test_no_edge_of_a_breadth_first_order_lies_below_low() -> None:
    lowered = 0
    for seed in range(5):
        batch = batch_of(random_graphs(60, 14, seed), seed)
        at = all_prefixes(batch)
        for row, count, low in zip(at.graph.tolist(), at.count.tolist(), at.low.tolist(), strict=True):
            if count < batch["sizes"][row]:
                assert not batch["edges"][row, count, :min(low, count)].any()
                lowered += low
    assert lowered > 1000  # it spares decisions


def walked(made: GraphGenerator, nodes: Tensor, edges: Tensor, size: int) -> float:
    """Return -log p of an ordered graph, decision by decision, each beside a prefix of its own."""
    network, nats = made.best, 0.0
    for count in range(size + 1):
        at = prefixes(nodes[None], edges[None], torch.tensor([0]), torch.tensor([count]), TYPES)
        x, context = network.read(at)
        kind = nodes[count] if count < size else torch.tensor(KINDS)
        nats -= float(network.node_logits(context, at.count)[0].log_softmax(0)[kind])
        if count == size:
            break
        first = [node for node in range(count - 1) if edges[count - 1, node]]  # of the node before
        low = (first or [max(count - 1, 0)])[0]
        between, joined, counts, met = ways(edges, count), torch.zeros(1, x.size(1)), torch.zeros(1, TYPES), list[int]()
        for node in range(low, count):
            near = torch.tensor([min((between[other][node] for other in met), default=FAR + 1)])
            logits = network.edge_logits(x[node:node + 1], context, kind[None], counts, near,
                                         torch.tensor([count - 1 - node]), joined)
            chosen = int(edges[count, node])
            nats -= float(logits[0].log_softmax(0)[chosen])
            if chosen:
                met.append(node)
                counts[0, chosen - 1] += 1
                joined = joined + network.joining(x[node:node + 1], torch.tensor([chosen]))
    return nats


@torch.no_grad()
def test_the_loss_is_the_sum_of_all_decisions_one_after_another() -> None:
    made, batch = model(), batch_of(random_graphs(27))
    slow = [walked(made, batch["nodes"][row], batch["edges"][row], int(size))
            for row, size in enumerate(batch["sizes"])]
    found = made.loss(batch)
    assert float(found.total) == pytest.approx(sum(slow), rel=1e-5)
    assert float(found.metrics["nodes"] + found.metrics["edges"]) == pytest.approx(float(found.total), rel=1e-6)
    assert float(found.weight) == 27
    for row, size in enumerate(batch["sizes"].tolist()):
        alone = {"nodes": batch["nodes"][row:row + 1, :size], "edges": batch["edges"][row:row + 1, :size, :size],
                 "sizes": batch["sizes"][row:row + 1]}
        assert float(made.loss(alone).total) == pytest.approx(slow[row], rel=1e-5)  # padding has no part in it


@torch.no_grad()
def test_a_drawn_graph_has_the_probability_it_was_drawn_with() -> None:
    made = model()
    drawn = GraphSampler(made, Limits()).draw(60, torch.Generator().manual_seed(1))
    assert set(drawn.sizes.tolist()) >= {3, LARGEST}
    for row, size in enumerate(drawn.sizes.tolist()):
        alone = {"nodes": drawn.nodes[row:row + 1, :size], "edges": drawn.edges[row:row + 1, :size, :size],
                 "sizes": drawn.sizes[row:row + 1]}
        assert float(made.loss(alone).total) == pytest.approx(float(drawn.nats[row]), rel=1e-4, abs=1e-4)


@torch.no_grad()
def test_the_order_of_a_batch_does_not_matter() -> None:
    made, batch = model(), batch_of(random_graphs(20))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    turned = {name: tensor[order] for name, tensor in batch.items()}
    assert float(made.loss(turned).total) == pytest.approx(float(made.loss(batch).total), rel=1e-5)


@torch.no_grad()
def test_what_lies_behind_a_graph_is_not_looked_at() -> None:
    made, batch = model(), batch_of(random_graphs(9))
    wider = {"nodes": torch.full((9, 12), 2), "edges": torch.zeros(9, 12, 12, dtype=torch.int64),
             "sizes": batch["sizes"]}
    for row, size in enumerate(batch["sizes"].tolist()):
        wider["nodes"][row, :size] = batch["nodes"][row, :size]
        wider["edges"][row, :size, :size] = batch["edges"][row, :size, :size]
    assert float(made.loss(wider).total) == pytest.approx(float(made.loss(batch).total), rel=1e-5)


@torch.no_grad()
def test_the_probabilities_of_all_graphs_add_up_to_one() -> None:
    made, total, count = model(kinds=2, types=TYPES, largest=3), 0.0, 0
    for size in (1, 2, 3):
        pairs = list(combinations(range(size), 2))
        for kinds, chosen in product(product(range(2), repeat=size), product(range(TYPES + 1), repeat=len(pairs))):
            edges = torch.zeros(1, size, size, dtype=torch.int64)
            for (i, j), kind in zip(pairs, chosen, strict=True):
                edges[0, i, j] = edges[0, j, i] = kind
            if size == 3 and edges[0, 0, 2] and not edges[0, 0, 1]:
                continue  # node 1 has no edge to 0, so that 0 was left before it came: no order of a search
            loss = made.loss({"nodes": torch.tensor([kinds]), "edges": edges, "sizes": torch.tensor([size])})
            total += float(torch.exp(-loss.total))
            count += 1
    assert count == 2 + 4 * 3 + 8 * (27 - 6)
    assert total == pytest.approx(1, abs=1e-5)


def test_training_reaches_every_weight_and_stays_finite() -> None:
    made = model().train()
    made.loss(batch_of(random_graphs(27))).total.backward()
    for name, weight in made.network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


@pytest.mark.parametrize("overrides", [{"width": "wide"}, {"width": 1}, {"kinds": 4}, {"hight": 3}, {"drop": 1.0}])
def test_a_bad_setting_is_refused(overrides: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        GraphConfig.derive(2, {"kinds": 1, "types": 1, "largest": 4}, overrides)
    with pytest.raises(RecipeError, match="depth"):
        GraphConfig.derive(33, {"kinds": 1, "types": 1, "largest": 4})
