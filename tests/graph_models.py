"""Small models of graphs, made in a second: their networks are as they were drawn, so that only limits keep a rule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bottega.codecs.graph import Form, GraphCodec
from bottega.core.bundle import Bundle
from bottega.core.graph import Graph
from bottega.core.lineage import Lineage
from bottega.core.recipe import Recipe
from bottega.core.request import Controls
from bottega.core.smiles import read_smiles
from bottega.core.validate import validate
from bottega.data.graphs.prepare import prepare_graphs
from bottega.data.graphs.synthetic import synthetic
from bottega.families.graph import GraphConfig, GraphGenerator
from bottega.generation.graphs import GraphEngine
from bottega.training.media_graphs import build_graphs

NAME, MOLECULES = "small-graphs", "small-molecules"
SMILES = ["C", "CC", "CCO", "c1ccccc1", "CC(=O)O", "CC#N", "C[N+](C)(C)C", "[O-]C(=O)C", "CS(=O)(=O)C", "FC(F)F",
          "ClCBr", "c1ccoc1", "OP(=O)(O)O", "C1CC1", "N#N", "O=C=O", "CC(C)(C)C", "c1ccncc1", "CSC", "OO"]


def molecules() -> list[Graph]:
    """Return small molecules of many atoms and bonds."""
    return [read_smiles(text).graph for text in SMILES]


def recipe_of(name: str, source: str, rule: str | None, **training: Any) -> Recipe:
    """Return the recipe of a small model."""
    return validate(Recipe, {
        "name": name, "description": "graphs like those of a test", "data": {"sources": [source], "validation": 0.2,
                                                                             "limit": 60},
        "codec": {"kind": "graph", **({"rule": rule} if rule else {})},
        "generator": {"family": "graph", "depth": 1, "width": 16}, "objective": {"kind": "graphs"},
        "training": {"budget": {"steps": 1}, "batch": 8, "optimizer": "adamw", "learning_rate": 0.003,
                     "precision": "fp32", "compile": "off", "sample_every": 0, **training}}, where="test")


def model_of(codec: GraphCodec, *, depth: int = 1, width: int = 16, seed: int = 0, **overrides: Any) -> GraphGenerator:
    """Return an untrained model of a codec's graphs, in evaluation mode."""
    torch.manual_seed(seed)
    facts = {"kinds": len(codec.kinds), "types": len(codec.types), "largest": codec.largest}
    return GraphGenerator(GraphConfig.derive(depth, facts, {"width": width, **overrides})).eval()


def engine_of(graphs: Sequence[Graph], rule: str, form: Form = "graphs", *, seed: int = 0,
              controls: Controls | None = None) -> GraphEngine:
    """Return an engine of an untrained model of some graphs."""
    codec = GraphCodec.of({"rule": rule}).learn(graphs, form)
    return GraphEngine(model_of(codec, seed=seed), codec, controls=controls or Controls(), model_digest="m", lineage={})


def trees(count: int = 30) -> list[Graph]:
    """Return random trees."""
    return synthetic("trees", count, 0)


def make_graph_model(home: Path, name: str = NAME) -> Path:
    """Save an untrained model of trees, or of molecules (`MOLECULES`), in a workshop."""
    source, rule = "trees", "tree"
    if name == MOLECULES:
        file = home / "uploads" / "some.smi"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(SMILES), encoding="utf-8")
        source, rule = str(file), "molecule"
    recipe = recipe_of(name, source, rule)
    dataset = prepare_graphs(recipe.data, GraphCodec.of(recipe.codec.overrides), home=home)
    torch.manual_seed(0)
    model = build_graphs(recipe, dataset.codec)

    def write(folder: Path) -> None:
        model.save(folder)
        dataset.codec.save(folder)

    meta = {"name": name, "family": "graph", "objective": "graphs", "codec": "graph", "controls": {}, "metrics": {},
            "recipe": recipe.plain(), "derived": {}, "context": 1, "training": {"steps": 0, "seconds": 0.0}}
    return Bundle.create(home / "models" / name, meta=meta, card=f"# {name}\n", write=write, lineage=lambda content:
                         Lineage(kind="model", name=name, step="graphs", content=content)).path
