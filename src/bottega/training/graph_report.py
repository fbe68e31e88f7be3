"""The page of a model of graphs: rules kept, novelty and distances of graphs it makes, beside real and random ones.

`bottega train` writes it into the run; `bottega evaluate NAME` judges again with more graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bottega.codecs.graph import GraphCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import InputError
from bottega.core.graph import Graph
from bottega.core.progress import timed
from bottega.core.recipe import Recipe
from bottega.core.request import Controls
from bottega.core.validate import validate
from bottega.data.graphs.dataset import GraphDataset
from bottega.evaluation.graph_distances import drawn
from bottega.evaluation.graph_report import write_page
from bottega.evaluation.graphs import GraphScores, judge_graphs
from bottega.generation.graphs import CHUNK, GraphEngine
from bottega.training.media_graphs import Graphs

REPORT = "report.html"
_QUICK, _WHOLE = 256, 1024  # graphs that are judged
_DRAWN = 12


@dataclass(frozen=True)
class JudgedGraphs:
    """Graphs of a model with their scores.

    Attributes:
        free: scores of graphs as they come, without the limits of the rule: what was learned.
        kept: scores of graphs as they are given out.
        real, made: graphs to draw, with a line about each.
    """

    free: GraphScores
    kept: GraphScores
    real: list[tuple[Graph, str]]
    made: list[tuple[Graph, str]]
    title: str
    facts: dict[str, str]

    def save(self, path: Path) -> Path:
        """Write the page, and its figures as JSON beside it.

        Raises:
            ResourceError: the disk is full.
        """
        return write_page(self.kept, self.real, self.made, path, title=self.title, facts=self.facts)


def judged(bundle: Bundle, home: Path, *, seed: int = 0) -> JudgedGraphs:
    """Judge a model on graphs that it makes, beside the graphs it was made from and the held-out ones.

    Args:
        bundle: a model of graphs that was trained in this workshop.
        home: the workshop; the data is prepared again where it is gone.
        seed: of the graphs, and of what is random in the judging.

    Raises:
        InputError: the model has no recipe, or its data is not there.
    """
    if "recipe" not in bundle.meta or bundle.meta.get("codec") != "graph":
        raise InputError(f"'{bundle.name}' was not trained here on graphs", fix="name a model of graphs")
    recipe = validate(Recipe, bundle.meta["recipe"], where="bottega.json", error=InputError)
    data = Graphs().dataset(recipe, bundle if recipe.base else None, home)
    return judge(bundle, data, seed=seed)


def judge(bundle: Bundle, data: GraphDataset[GraphCodec], *, seed: int = 0, quick: bool = False) -> JudgedGraphs:
    """Judge a model on its prepared data; see `judged`."""
    engine, count, codec = GraphEngine.open(bundle), _QUICK if quick else _WHOLE, data.codec
    train, held = data.graphs("train"), data.graphs("validation")
    if len(held) < 2:
        held = [*held, *held]  # nothing can be said of one graph; the counts show it
    rules = [codec.rule] if codec.rule != "none" else []
    with timed(f"drawing {count:,} graphs, twice"):
        sampler = engine.sampler(Controls(), free=True)
        free = [graph for chunk in range(-(-count // CHUNK)) for graph in engine.draw(sampler, seed, chunk)][:count]
        kept = engine.sample(count, seed=seed)
    with timed(f"judging them beside {len(train):,} real ones"):
        scores = [judge_graphs(graphs, train, held, rules=rules, seed=seed) for graphs in (free, kept)]
    valid = next(share.made for share in scores[0].shares if share.name == "valid")
    facts = {"rule": codec.rule, "keep it by themselves": "–" if valid is None else f"{valid['value']:.1%}",
             "node types": ", ".join(codec.kinds)[:80], "edge types": ", ".join(codec.types)[:80],
             "steps": f"{bundle.meta['training']['steps']:,}",
             "seconds": f"{bundle.meta['training']['seconds']:.0f}"}
    return JudgedGraphs(scores[0], scores[1], _shown(drawn(held, _DRAWN, np.random.default_rng(seed)), codec),
                        _shown(kept[:_DRAWN], codec),
                        f"{bundle.name}: a model of graphs", facts)


def _shown(graphs: list[Graph], codec: GraphCodec) -> list[tuple[Graph, str]]:
    return [(graph, codec.text(graph) if codec.form == "molecules" else
             f"{len(graph)} nodes, {len(graph.edges)} edges") for graph in graphs]


def write(bundle: Bundle, data: GraphDataset[GraphCodec], home: Path) -> Path:
    """Write the page of a model into its run, judged on few graphs, and return its path.

    Raises:
        ResourceError: the disk is full.
    """
    return judge(bundle, data, quick=True).save(home / "runs" / bundle.name / REPORT)
