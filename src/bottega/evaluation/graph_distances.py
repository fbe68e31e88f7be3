"""How far apart two sets of graphs are, as papers on graph generators measure it, beside what chance does.

`pytest tests/evaluation/test_graph_distances.py` runs it. Each distance is the squared maximum mean discrepancy
(Gretton et al. 2012, the biased estimate) of what the graphs are described by: degrees, clustering and small subgraphs
(You et al., "GraphRNN", 2018), the spectrum (Liao et al., "GRAN", 2019), with the kernels that GRAN, SPECTRE and
DiGress share.

A biased estimate is above zero for two samples of one distribution, the more the smaller they are: a value means
something only beside its floor, the distance of real graphs from other real graphs in samples of the same sizes.
The kernel of total variations is none for certain (O'Bray et al. 2022): a value may be slightly below zero. The one
for clustering is so narrow that dense graphs all look unlike each other, and bad ones no worse than good ones; then
the distance is `blind`, and clustering by the earth mover's distance, as in GraphRNN, stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import InputError
from bottega.core.graph import Graph
from bottega.evaluation.graph_orbits import adjacency, orbits, triangles

MOST = 1000  # graphs of a set that are compared: the work grows with the square
SPLITS = 100  # random splits of the real graphs behind a floor
CLUSTERING_BINS, SPECTRUM_BINS = 100, 200
_BLIND = 0.05  # mean likeness of two real graphs below which a kernel tells none from another: our choice

Values = NDArray[np.float64]


def degrees(graph: Graph) -> Values:
    """Return the share of nodes of each degree: float64 [highest degree + 1]."""
    return _shares(np.bincount(adjacency(graph).sum(1)))


def clustering(graph: Graph) -> Values:
    """Return the histogram of clustering coefficients (Watts & Strogatz 1998) in 100 bins of 0 to 1: float64 [100].

    A node's coefficient is the share of pairs of its neighbours that are joined; 0 with fewer than two neighbours.
    """
    near = adjacency(graph)
    degree = near.sum(1)
    pairs = degree * (degree - 1)
    return _shares(np.histogram(triangles(near).sum(1) / np.maximum(pairs, 1), CLUSTERING_BINS, (0.0, 1.0))[0])


def mean_orbits(graph: Graph) -> Values:
    """Return the mean over nodes of how often one is in each of 15 orbits: float64 [15]."""
    return np.asarray(orbits(graph).mean(0), np.float64)


def spectrum(graph: Graph) -> Values:
    """Return the histogram of eigenvalues of I - D^-½ A D^-½ in 200 bins of 0 to 2: float64 [200].

    A node without neighbours counts as an eigenvalue 0, as a part of its own.
    """
    near = adjacency(graph).astype(np.float64)
    degree = near.sum(1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0.0)
    laplacian = np.diag((degree > 0).astype(np.float64)) - scale[:, None] * near * scale
    # the first bin begins just below 0 and values are kept inside, so that rounding loses none
    values = np.clip(np.linalg.eigvalsh(laplacian), -1e-5, 2.0)
    return _shares(np.histogram(values, SPECTRUM_BINS, (-1e-5, 2.0))[0])


@dataclass(frozen=True, slots=True)
class Measure:
    """What graphs are described by, and how alike two descriptions are: exp(-d² / 2σ²).

    Attributes:
        describe: graph → float64 [d]; descriptions of different length are filled up with zeros.
        between: d is the `total variation` of histograms (half of the summed differences), their `earth mover`'s
            distance (in ranges: from the first bin to the last is just below 1) or `euclidean`.
        sigma: σ, in units of d.
        about: one line.
    """

    describe: Callable[[Graph], Values]
    between: Literal["total variation", "earth mover", "euclidean"]
    sigma: float
    about: str


MEASURES: dict[str, Measure] = {
    "degree": Measure(degrees, "total variation", 1.0, "how many neighbours nodes have"),
    "clustering": Measure(clustering, "total variation", 0.1, "how many neighbours of a node are joined"),
    "clustering, earth mover": Measure(clustering, "earth mover", 0.1, "the same; near coefficients count as alike"),
    "orbit": Measure(mean_orbits, "euclidean", 30.0, "how often nodes are in each part of subgraphs of four"),
    "spectrum": Measure(spectrum, "total variation", 1.0, "eigenvalues of the Laplacian: the shape as a whole")}


@dataclass(frozen=True, slots=True)
class Distance:
    """How far made graphs are from real ones.

    Attributes:
        name: what is measured.
        value: of the made graphs; lower is better, and no better than `floor` can be asked for.
        floor: mean over random splits of real graphs into two sets of the sizes compared.
        high: 95 % of those splits are below it: a value below it may be chance.
        baselines: value of other sets of graphs, by name.
        blind: the measure sees any two real graphs as unlike, and cannot tell good graphs from bad ones.
        about: one line.
    """

    name: str
    value: float
    floor: float
    high: float
    baselines: dict[str, float] = field(default_factory=dict)
    blind: bool = False
    about: str = ""


def mmd(one: Sequence[Graph], other: Sequence[Graph], name: str) -> float:
    """Return the squared maximum mean discrepancy of two sets, the biased estimate, by one of `MEASURES`."""
    described = _described([*one, *other], MEASURES[name])
    kernel = _kernel(described, MEASURES[name])
    places = np.arange(len(described))
    return float(_discrepancies(kernel, [(places[:len(one)], places[len(one):])])[0])


def graph_distances(made: Sequence[Graph], real: Sequence[Graph], *, fresh: Sequence[Graph] = (),
                    baselines: Mapping[str, Sequence[Graph]] | None = None, seed: int = 0) -> list[Distance]:
    """Measure all distances of made graphs from real ones, each beside its floor.

    Args:
        made: graphs of a model; at most 1,000 of each set, drawn at random, are compared.
        real: graphs that the model was not trained on.
        fresh: more real graphs (those it was trained on): they and `real` are split at random into sets as large as
            `made` and `real`. Without them, or with fewer than were made, the floor is of smaller sets, down to the
            halves of `real`, and higher than it need be.
        baselines: other graphs to measure in the same way, by name.
        seed: of samples and splits.

    Raises:
        InputError: no graph was made, or there are fewer than two real ones.
    """
    if not made or len(real) < 2:
        raise InputError(f"{len(made)} made and {len(real)} real graphs are too few to compare",
                         fix="give one made graph and two real ones at least")
    rng = np.random.default_rng(seed)
    made, real, fresh = (drawn(graphs, MOST, rng) for graphs in (made, real, fresh))
    others = {name: drawn(graphs, MOST, rng) for name, graphs in (baselines or {}).items()}
    splits = split(len(made), len(real), len(fresh), rng)
    sets = [[*real, *fresh], made, *others.values()]
    ends = np.cumsum([0, *map(len, sets)])
    pairs = [*splits, *((np.arange(start, end), np.arange(len(real))) for start, end in pairwise(ends[1:]))]
    found = []
    for name, measure in MEASURES.items():
        kernel = _kernel(_described([graph for graphs in sets for graph in graphs], measure), measure)
        apart = _discrepancies(kernel, pairs)
        floors, (value, *beside) = apart[:SPLITS], apart[SPLITS:].tolist()
        found.append(Distance(name, value, float(floors.mean()), float(np.quantile(floors, 0.95)),
                              dict(zip(others, beside, strict=True)), _blind(kernel[:len(real), :len(real)]),
                              measure.about))
    return found


def split(made: int, real: int, fresh: int, rng: np.random.Generator) -> list[tuple[NDArray[np.int64], ...]]:
    """Draw pairs of sets without a common member from `real + fresh` graphs, as large as those that are compared.

    Where there are too few, both are half of all.
    """
    pool = real + fresh
    one, other = (made, real) if made + real <= pool else (min(made, pool // 2), min(real, pool - pool // 2))
    orders = [rng.permutation(pool) for _ in range(SPLITS)]
    return [(order[:one], order[one:one + other]) for order in orders]


def drawn(graphs: Sequence[Graph], most: int, rng: np.random.Generator) -> list[Graph]:
    """Return all graphs, or `most` of them in random order."""
    return list(graphs) if len(graphs) <= most else [graphs[place] for place in rng.permutation(len(graphs))[:most]]


def _described(graphs: Sequence[Graph], measure: Measure) -> Values:
    """Return rows whose differences make up the distance: float64 [N, d]."""
    rows = [measure.describe(graph) for graph in graphs]
    found = np.zeros((len(rows), max(map(len, rows))))
    for place, row in enumerate(rows):
        found[place, :len(row)] = row
    if measure.between == "earth mover":
        return np.asarray(found.cumsum(1) / found.shape[1])
    return found[:, found.any(0)]  # bins that are empty everywhere add nothing


def _kernel(rows: Values, measure: Measure) -> Values:
    """Return how alike each two rows are: float64 [N, N]."""
    squares = np.empty((len(rows), len(rows)))
    columns = np.ascontiguousarray(rows.T)
    for place, row in enumerate(rows):
        before = slice(None, place + 1)
        if measure.between == "euclidean":
            squares[place, before] = np.square(rows[before] - row).sum(1)
        elif measure.between == "earth mover":
            squares[place, before] = np.square(np.abs(rows[before] - row).sum(1))
        else:  # what two histograms do not share: only bins of this one matter, and a small graph fills few
            filled = np.flatnonzero(row)
            squares[place, before] = np.square(1 - np.minimum(columns[filled, before], row[filled, None]).sum(0))
        squares[:place, place] = squares[place, :place]
    return np.asarray(np.exp(squares / (-2 * measure.sigma ** 2)), np.float64)


def _blind(kernel: Values) -> bool:
    count = len(kernel)
    return bool((kernel.sum() - count) / (count * (count - 1)) < _BLIND)


def _discrepancies(kernel: Values, pairs: Sequence[tuple[NDArray[np.int64], ...]]) -> Values:
    """Return wᵀ K w for each pair of sets; w is 1 / size for members of one, -1 / size for those of the other."""
    weights = np.zeros((len(kernel), len(pairs)))
    for place, (one, other) in enumerate(pairs):
        weights[one, place] += 1 / len(one)
        weights[other, place] -= 1 / len(other)
    return np.asarray((weights * (kernel @ weights)).sum(0), np.float64)


def _shares(counts: NDArray[np.int64]) -> Values:
    return np.asarray(counts / counts.sum(), np.float64)
