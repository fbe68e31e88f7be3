"""Graphs on the way from a recipe to a model; `bottega train recipes/communities-graph.yaml` uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bottega import families, objectives
from bottega.codecs.graph import GraphCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import RecipeError
from bottega.core.recipe import Recipe
from bottega.core.request import Controls
from bottega.data.graphs.dataset import GraphDataset
from bottega.data.graphs.prepare import prepare_graphs
from bottega.families.base import Generator
from bottega.families.graph import GraphGenerator
from bottega.objectives.base import Objective
from bottega.training.sizes import Sizes
from bottega.training.starting import check_base, started

_SHOWN = 120  # characters of a graph in the terminal


class Graphs:
    """Graphs with types; see `media.Medium`."""

    def check(self, recipe: Recipe, base: Bundle | None, home: Path) -> None:
        """See `Medium.check`."""
        if recipe.objective.kind != "graphs":
            raise RecipeError(f"graphs are not trained by objective '{recipe.objective.kind}'", where="objective.kind",
                              fix="write objective: {kind: graphs}")
        if base is not None:
            check_base(recipe, base)
            recipe.controls.require(GraphGenerator.understands, "graph")
            return
        with torch.device("meta"):
            family = type(build_graphs(recipe, GraphCodec.of(recipe.codec.overrides)))
        recipe.controls.require(family.understands, recipe.generator.family)

    def dataset(self, recipe: Recipe, base: Bundle | None, home: Path) -> GraphDataset[GraphCodec]:
        """See `Medium.dataset`."""
        if base is not None:
            return prepare_graphs(recipe.data, GraphCodec.load(base.path), home=home, seed=recipe.seed, known=True)
        return prepare_graphs(recipe.data, GraphCodec.of(recipe.codec.overrides), home=home, seed=recipe.seed)

    def codec(self, recipe: Recipe, dataset: GraphDataset[GraphCodec], base: Bundle | None, home: Path) -> GraphCodec:
        """Return the codec that the dataset was prepared with."""
        return dataset.codec

    def save_codec(self, codec: GraphCodec, folder: Path, recipe: Recipe) -> None:
        """See `Medium.save_codec`."""
        codec.save(folder)

    def generator(self, recipe: Recipe, codec: GraphCodec, base: Bundle | None, home: Path) -> Generator:
        """See `Medium.generator`."""
        torch.manual_seed(recipe.seed)
        return build_graphs(recipe, codec) if base is None else started(base)

    def objective(self, recipe: Recipe, dataset: GraphDataset[GraphCodec], codec: GraphCodec, generator: Any,
                  base: Bundle | None, chosen: Sizes, settings: Any, home: Path) -> Objective:
        """See `Medium.objective`."""
        found: Objective = objectives.objective_class("graphs")(
            generator, dataset, batch=chosen.batch_tokens, micro_batch=chosen.micro_batch, seed=recipe.seed)
        return found

    def sampler(self, recipe: Recipe, generator: Any, codec: GraphCodec, dataset: GraphDataset[GraphCodec],
                run: Path) -> Callable[[int], str]:
        """Return a function that shows graphs as they come."""
        def sample(_: int) -> str:
            from bottega.generation.graphs import GraphEngine

            engine = GraphEngine(generator, codec, controls=Controls(), model_digest="", lineage={})
            drawn = engine.draw(engine.sampler(Controls(), free=True), recipe.seed, 0)
            good = sum(not codec.broken(graph) for graph in drawn)
            shown = "\n  ".join(codec.text(graph)[:_SHOWN] for graph in drawn[:4])
            return f"{good} of {len(drawn)} keep the rule '{codec.rule}' by themselves:\n  {shown}"

        return sample

    def finish(self, recipe: Recipe, generator: Any, codec: GraphCodec, dataset: GraphDataset[GraphCodec],
               base: Bundle | None, home: Path, *, resume: bool) -> None:
        """Do nothing."""

    def report(self, bundle: Bundle, dataset: GraphDataset[GraphCodec], home: Path) -> None:
        """Write the run's report.html: graphs it makes, and their distances to real ones."""
        from bottega.core.progress import say
        from bottega.training import graph_report

        say(f"report: {graph_report.write(bundle, dataset, home)}")


def build_graphs(recipe: Recipe, codec: GraphCodec) -> GraphGenerator:
    """Return a fresh model of a codec's graphs; weights are drawn from torch's global generator.

    Raises:
        RecipeError: unknown family or key, or a bad value.
    """
    family = families.graph_family(recipe.generator.family)
    facts = {"kinds": max(1, len(codec.kinds)), "types": max(1, len(codec.types)),
             "largest": codec.largest if codec.graphs else codec.spec.largest}
    config: Any = family.Config
    return family(config.derive(recipe.generator.depth, facts, recipe.generator.overrides))
