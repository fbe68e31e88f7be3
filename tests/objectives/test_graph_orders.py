"""The order in which nodes and graphs are seen: breadth first, from the rim, and a pure function of the step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bottega.codecs.graph import GraphCodec
from bottega.core.errors import DataError
from bottega.core.recipe import DataSpec
from bottega.data.graphs.dataset import GraphDataset
from bottega.data.graphs.prepare import prepare_graphs
from bottega.objectives.graphs import GraphTraining, breadth_first
from tests.graph_models import model_of


def matrices(count: int, share: float) -> list[NDArray[np.int64]]:
    """Return random graphs as matrices, sparse ones in several parts."""
    rng, found = np.random.default_rng(0), []
    for size in range(1, count + 1):
        upper = np.triu(rng.random((size, size)) < share, 1)
        found.append((upper | upper.T).astype(np.int64))
    return found


@pytest.mark.parametrize("share", [0.0, 0.08, 0.3, 1.0])
def test_orders_are_breadth_first(share: float) -> None:
    for number, matrix in enumerate(matrices(24, share)):
        order = breadth_first(matrix, np.random.default_rng(number))
        assert sorted(order) == list(range(len(matrix)))
        assert order == breadth_first(matrix, np.random.default_rng(number))
        turned = matrix[np.ix_(order, order)]
        first = [int(np.flatnonzero(row[:place])[0]) if row[:place].any() else place
                 for place, row in enumerate(turned)]
        assert first == sorted(first)  # nodes come in the order of the node they were found from
        for place, start in enumerate(first):
            if start == place and place:  # a new part begins when the one before is whole
                assert not turned[:place, place:].any()


def test_orders_differ_and_begin_at_the_rim() -> None:
    path = np.eye(9, k=1, dtype=np.int64) + np.eye(9, k=-1, dtype=np.int64)
    starts = {breadth_first(path, np.random.default_rng(seed))[0] for seed in range(20)}
    assert starts == {0, 8}
    whole = 1 - np.eye(6, dtype=np.int64)
    assert len({tuple(breadth_first(whole, np.random.default_rng(seed))) for seed in range(40)}) > 30


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> GraphDataset[GraphCodec]:
    spec = DataSpec(sources=["trees"], validation=0.1, limit=30)
    return prepare_graphs(spec, GraphCodec.of({"rule": "tree"}), home=tmp_path_factory.mktemp("graphs"))


def test_batches_are_a_function_of_the_step_alone(dataset: GraphDataset[GraphCodec]) -> None:
    def training(seed: int = 0, micro_batch: int = 8) -> GraphTraining:
        return GraphTraining(model_of(dataset.codec), dataset, batch=8, micro_batch=micro_batch, seed=seed)

    one, other = training(), training()
    for _ in range(2):
        one.batch(0)
    for step in (7, 0, 3):
        (mine,), (theirs,) = one.batch(step), other.batch(step)
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    (first,), (next_one,), (else_one,) = one.batch(0), one.batch(1), training(seed=1).batch(0)
    assert first["sizes"].tolist() != next_one["sizes"].tolist() or not torch.equal(first["edges"], next_one["edges"])
    assert first["sizes"].tolist() != else_one["sizes"].tolist() or not torch.equal(first["edges"], else_one["edges"])
    parts = training(micro_batch=3).batch(0)
    assert [len(part["sizes"]) for part in parts] == [3, 3, 2]
    assert [size for part in parts for size in part["sizes"].tolist()] == first["sizes"].tolist()
    seen = sorted(size for step in range(one.count) for size in one.batch(step)[0]["sizes"].tolist())
    assert seen == sorted(8 * [len(graph) for graph in dataset.graphs("train")])  # whole passes


def test_held_out_graphs_are_always_seen_alike_and_fewer_than_a_batch(dataset: GraphDataset[GraphCodec]) -> None:
    training = GraphTraining(model_of(dataset.codec), dataset, batch=64, micro_batch=64, seed=0)
    one, other = list(training.validation()), list(training.validation())
    assert len(one) == 2  # looks
    assert 0 < len(one[0]["sizes"]) == len(dataset.coded("validation")) < 64
    for mine, theirs in zip(one, other, strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    totals = training.summarise({"loss": 30.0, "nodes": 10.0, "edges": 20.0}, 10.0)
    assert totals == {"nats": 3.0, "best": 3.0, "nodes": 1.0, "edges": 2.0}


def test_an_empty_split_is_refused(dataset: GraphDataset[GraphCodec]) -> None:
    class Without:
        def coded(self, split: str) -> list[object]:
            return [] if split == "validation" else list(dataset.coded("train"))

    with pytest.raises(DataError, match="validation split holds no graphs"):
        GraphTraining(model_of(dataset.codec), Without(), batch=4, micro_batch=4, seed=0)  # type: ignore[arg-type]
