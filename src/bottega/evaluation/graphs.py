"""How good made graphs are: rules kept, repeats, copies of training graphs, distances from real ones.

`pytest tests/evaluation/test_graphs.py` runs it. Every share stands beside that of held-out graphs, every distance
beside real graphs against real ones and beside random graphs fitted to the training graphs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bottega.core.errors import DataError, InputError
from bottega.core.graph import Graph, canonical
from bottega.core.graph_rules import rule
from bottega.core.molecule import molecule_key
from bottega.evaluation.graph_distances import MOST, Distance, drawn, graph_distances
from bottega.evaluation.graph_models import BarabasiAlbert, ErdosRenyi
from bottega.evaluation.graph_types import TYPES, type_distance
from bottega.evaluation.statistics import Figure, rate
from bottega.evaluation.table_scores import plain

MOLECULE = "molecule"  # the rule that makes graphs be named and counted as molecules


@dataclass(frozen=True, slots=True)
class Share:
    """A share of graphs with its interval; None where there was nothing to count.

    Attributes:
        name: what is counted.
        made: of the made graphs.
        held: of as many held-out graphs at most.
        about: of what it is a share.
    """

    name: str
    made: Figure | None
    held: Figure | None
    about: str


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """How many made graphs break a rule, and why the first of them does."""

    rule: str
    count: int
    example: str


@dataclass(frozen=True, slots=True)
class GraphScores:
    """All that was found about made graphs.

    Attributes:
        shares: `valid` (keep all rules), `unique` and `novel` (of those), `valid, unique, novel` (of all).
        broken: rules that are broken.
        distances: of structure, as in graph_distances.py.
        types: of types of nodes and edges, where real graphs have several, and of ring sizes of molecules.
        counts: graphs of `made`, `train`, `held`, and `unnamed`: made ones too regular to be told from others, which
            count as neither unique nor novel.
        seed: that makes the same scores again.
    """

    shares: list[Share]
    broken: list[BrokenRule]
    distances: list[Distance]
    types: list[Distance]
    counts: dict[str, int]
    seed: int

    def plain(self) -> dict[str, Any]:
        """Return everything as JSON takes it; what was not measured is None."""
        found: dict[str, Any] = plain(self)
        return found

    def lines(self) -> list[str]:
        """Return a page for the terminal."""
        counts = self.counts
        said = [f"{counts['made']} made graphs, {counts['train']} trained on, {counts['held']} held out", "",
                f"{'':26}{'made':>20}{'held out':>20}"]
        said += [f"{share.name:26}{_percent(share.made):>20}{_percent(share.held):>20}   {share.about}"
                 for share in self.shares]
        said += [f"{each.count} break the rule '{each.rule}'; the first: {each.example}" for each in self.broken]
        if counts["unnamed"]:
            said.append(f"{counts['unnamed']} are too regular to be told from others and count as neither")
        names = list(self.distances[0].baselines)
        said += ["", f"{'distance, lower is better':26}{'made':>10}{'real':>10}{'95 % below':>12}"
                 + "".join(f"{name:>18}" for name in names)]
        for each in (*self.distances, *self.types):
            beside = "".join(f"{_short(each.baselines[name]) if name in each.baselines else '':>18}" for name in names)
            note = "   (blind here: real graphs all look unlike)" if each.blind else ""
            said.append(f"{each.name:26}{_short(each.value):>10}{_short(each.floor):>10}{_short(each.high):>12}{beside}{note}"
                        .rstrip())
        return said


def judge_graphs(made: Sequence[Graph], train: Sequence[Graph], held: Sequence[Graph], *, rules: Sequence[str] = (),
                 seed: int = 0) -> GraphScores:
    """Score made graphs.

    Args:
        made: graphs of a model, in no chosen order, not picked by hand.
        train: the graphs that it was trained on.
        held: two or more real graphs that it was not trained on, from the same source.
        rules: names in `bottega.core.graph_rules`; with `molecule`, two ways to place the double bonds of a ring are
            the same graph, and rings of valid graphs are counted.
        seed: of samples, splits and random graphs.

    Raises:
        InputError: no graph was made, none was trained on, or fewer than two are held out.
        RecipeError: a rule that is not known.
    """
    if not made or not train or len(held) < 2:
        raise InputError(f"{len(made)} made, {len(train)} training and {len(held)} held-out graphs are too few",
                         fix="give one made and one training graph and two held-out ones at least")
    checks = {name: rule(name) for name in rules}
    name_of = molecule_key if MOLECULE in checks else canonical
    beside = drawn(held, len(made), np.random.default_rng(seed))
    whole, broken = _kept(made, checks)
    names = _Names(name_of, [*whole, *beside], train)
    count = min(len(made), MOST)
    baselines = {"Erdős–Rényi": ErdosRenyi.fit(train).sample(count, seed),
                 "Barabási–Albert": BarabasiAlbert.fit(train, seed=seed).sample(count, seed)}
    types = [type_distance(name, made, held, fresh=train, seed=seed) for name in ("node types", "edge types")
             if len({kind for graph in (*train, *held) for kind in TYPES[name][0](graph)}) > 1]
    if MOLECULE in checks and whole:
        types.append(type_distance("ring sizes", whole, held, fresh=train, seed=seed))
    shares, unnamed = names.shares(whole, len(made))
    others, _ = names.shares(_kept(beside, checks)[0], len(beside))
    return GraphScores(
        [Share(name, shares[name], others[name], about) for name, about in _SHARES.items()], broken,
        graph_distances(made, held, fresh=train, baselines=baselines, seed=seed), types,
        {"made": len(made), "train": len(train), "held": len(held), "unnamed": unnamed}, seed)


_SHARES = {"valid": "of all", "unique": "different ones, of the valid", "novel": "not trained on, of the different",
           "valid, unique, novel": "of all"}


class _Names:
    """Names of graphs, equal for equal ones; of the training graphs only those that could be asked about."""

    def __init__(self, name_of: Callable[[Graph], str], asked: Sequence[Graph], train: Sequence[Graph]) -> None:
        self.name_of = name_of
        sketches = {_sketch(graph) for graph in asked}
        self.known = {self.name(graph) for graph in train if _sketch(graph) in sketches}

    def name(self, graph: Graph) -> str | None:
        try:
            return self.name_of(graph)
        except DataError:
            return None

    def shares(self, whole: Sequence[Graph], of: int) -> tuple[dict[str, Figure | None], int]:
        """Return the shares of valid graphs among `of`, and how many of them have no name."""
        found = [self.name(graph) for graph in whole]
        different = set(found) - {None}
        new = len(different - self.known)
        return {"valid": rate(len(whole), of), "unique": rate(len(different), len(whole)) if whole else None,
                "novel": rate(new, len(different)) if different else None,
                "valid, unique, novel": rate(new, of)}, found.count(None)


def _sketch(graph: Graph) -> tuple[object, ...]:
    """Return what equal graphs share and is cheap to find: types and degrees."""
    return (tuple(sorted(graph.nodes)), tuple(sorted(kind for *_, kind in graph.edges)),
            tuple(sorted(map(len, graph.neighbours))))


def _kept(graphs: Sequence[Graph], checks: Mapping[str, Callable[[Graph], str]]) -> \
        tuple[list[Graph], list[BrokenRule]]:
    """Return the graphs that keep all rules, and the rules that others break."""
    whole, counts, examples = [], Counter[str](), dict[str, str]()
    for graph in graphs:
        reasons = {name: reason for name, check in checks.items() if (reason := check(graph))}
        counts.update(reasons.keys())
        examples = {**reasons, **examples}
        if not reasons:
            whole.append(graph)
    return whole, [BrokenRule(name, count, examples[name]) for name, count in counts.items()]


def _percent(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    return f"{figure['value']:.1%} ({figure['low']:.0%}–{figure['high']:.0%})"


def _short(value: float) -> str:
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"
