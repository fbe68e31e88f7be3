"""A small model of a table of customers, made in two seconds: its base is fitted, its network is as it was drawn."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bottega.codecs.table import TableCodec
from bottega.core.bundle import Bundle
from bottega.core.lineage import Lineage
from bottega.core.recipe import Recipe
from bottega.core.validate import validate
from bottega.data.tables.prepare import prepare_table
from bottega.evaluation.table_references import copied
from bottega.evaluation.table_verdict import TableVerdict
from bottega.evaluation.tables import judge_table
from bottega.objectives.tables import TableTraining
from bottega.training.media_tables import build_table

NAME = "small-table"
EVIL = "<img src=x onerror=alert(1)>"  # a level that must stay text wherever it is shown
CITIES = ["Rome", "Bari, old town", EVIL]


def make_table_model(home: Path, name: str = NAME) -> Path:
    """Save a model of 600 customers in a workshop; conditions hold for what it makes, whatever it has learned."""
    rng, rows = np.random.default_rng(0), 600
    age = rng.integers(18, 90, rows)
    income = np.where(rng.random(rows) < 0.1, np.nan, np.round(800 + 40 * age + rng.normal(0, 300, rows), 2))
    days = rng.integers(0, 900, rows)
    data = pa.table({
        "age": pa.array(age), "city": pa.array(rng.choice(CITIES, rows, p=[0.6, 0.3, 0.1])),
        "income": pa.array(income, pa.float64(), from_pandas=True), "active": pa.array(rng.random(rows) < 0.3),
        "since": pa.array((np.datetime64("2022-01-01") + days).astype("datetime64[us]"))})
    source = home / "uploads" / f"{name}.parquet"
    source.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(data, source)
    recipe = validate(Recipe, {
        "name": name, "description": "rows like those of customers",
        "data": {"sources": [str(source)], "validation": 0.1},
        "codec": {"kind": "table", "rules": ["18 <= age <= 90"]},
        "generator": {"family": "tabular", "depth": 1}, "objective": {"kind": "tables"},
        "training": {"budget": {"steps": 1}, "batch": 64}}, where="test")
    dataset = prepare_table(recipe.data, TableCodec.of(recipe.codec.overrides), home=home, seed=0)
    model = build_table(recipe, dataset.codec)
    TableTraining(model, dataset, batch=64, micro_batch=64, seed=0)  # fits the base

    def write(folder: Path) -> None:
        model.save(folder)
        dataset.codec.save(folder)

    meta = {"name": name, "family": "tabular", "objective": "tables", "codec": "table", "controls": {}, "metrics": {},
            "recipe": recipe.plain(), "derived": {}, "context": 1}
    return Bundle.create(home / "models" / name, meta=meta, card=f"# {name}\n", write=write, lineage=lambda content:
                         Lineage(kind="model", name=name, step="tables", content=content)).path


def keep_bad_verdict(home: Path, name: str = NAME, *, seed: int = 0) -> TableVerdict:
    """Judge copies of training rows as if they were the model's, and let that be the last verdict on it."""
    bundle = Bundle.open(home / "models" / name)
    recipe = validate(Recipe, bundle.meta["recipe"], where="test")
    data = prepare_table(recipe.data, TableCodec.of(recipe.codec.overrides), home=home, seed=0)
    train = data.table("train")
    scores = judge_table(copied(train, 200, seed), train, data.table("validation"), seed=seed, quick=True)
    verdict = TableVerdict.of(scores, bundle.name, bundle.digest)
    verdict.keep(home)
    return verdict
