"""Tables on the way from a recipe to a model; `bottega train recipes/patients-table.yaml` uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bottega import families, objectives
from bottega.codecs.table import TableCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import RecipeError
from bottega.core.progress import timed
from bottega.core.recipe import Recipe
from bottega.core.request import Controls
from bottega.data.dataset import SPLITS
from bottega.data.tables.dataset import TableDataset
from bottega.data.tables.prepare import prepare_table
from bottega.families.base import Generator
from bottega.families.tabular import Tabular
from bottega.objectives.base import Objective
from bottega.objectives.tables import Stage
from bottega.training.beside import Beside
from bottega.training.sizes import Sizes
from bottega.training.starting import check_base, started
from bottega.training.table_texts import learn_texts

_SHOWN = 4  # rows of a sample; two entities may have more
_FEW, _NARROW = 2000, 64  # training rows under which a wide network knows them by heart, and the width then
_FACTS = {"sizes": [2, 2], "ordered": [False, False], "missing": [False, False], "shares": [0.5] * 4,
          "spikes": [False] * 4}


class Tables:
    """One table; see `media.Medium`."""

    def check(self, recipe: Recipe, base: Bundle | None, home: Path) -> None:
        """See `Medium.check`."""
        if recipe.objective.kind != "tables":
            raise RecipeError(f"tables are not trained by objective '{recipe.objective.kind}'", where="objective.kind",
                              fix="write objective: {kind: tables}")
        if base is not None:
            check_base(recipe, base)
            recipe.controls.require(Tabular.understands, "tabular")
            if TableCodec.load(base.path).layout is not None:
                raise RecipeError("a model of sequences cannot be trained further", where="base",
                                  fix="train one on all rows together")
            return
        spec = TableCodec.of(recipe.codec.overrides).spec
        if len(set(spec.names)) != len(spec.names):
            raise RecipeError("codec.names holds a name twice", where="codec.names", fix="give each column its own")
        if spec.texts and spec.entity:
            raise RecipeError(f"codec.texts writes texts of single rows, and the rows of a '{spec.entity}' are made "
                              "together", where="codec.texts", fix="leave out codec.texts or codec.entity")
        family = families.table_family(recipe.generator.family)
        family.Config.derive(recipe.generator.depth, _FACTS, recipe.generator.overrides)  # type: ignore[arg-type]
        recipe.controls.require(family.understands, recipe.generator.family)

    def dataset(self, recipe: Recipe, base: Bundle | None, home: Path) -> TableDataset[TableCodec]:
        """See `Medium.dataset`."""
        if base is not None:
            return prepare_table(recipe.data, TableCodec.load(base.path), home=home, seed=recipe.seed, known=True)
        return prepare_table(recipe.data, TableCodec.of(recipe.codec.overrides), home=home, seed=recipe.seed)

    def codec(self, recipe: Recipe, dataset: TableDataset[TableCodec], base: Bundle | None, home: Path) -> TableCodec:
        """Return the codec that the dataset was prepared with."""
        return dataset.codec

    def save_codec(self, codec: TableCodec, folder: Path, recipe: Recipe) -> None:
        """See `Medium.save_codec`."""
        codec.save(folder)

    def generator(self, recipe: Recipe, codec: TableCodec, base: Bundle | None, home: Path) -> Generator:
        """See `Medium.generator`."""
        torch.manual_seed(recipe.seed)
        return build_table(recipe, codec) if base is None else started(base)

    def objective(self, recipe: Recipe, dataset: TableDataset[TableCodec], codec: TableCodec, generator: Any,
                  base: Bundle | None, chosen: Sizes, settings: Any, home: Path) -> Objective:
        """See `Medium.objective`."""
        found: Objective = objectives.objective_class("tables")(
            generator, dataset, batch=chosen.batch_tokens, micro_batch=chosen.micro_batch, seed=recipe.seed,
            stages=stages(codec, dataset), fresh=base is None)
        return found

    def sampler(self, recipe: Recipe, generator: Any, codec: TableCodec, dataset: TableDataset[TableCodec],
                run: Path) -> Callable[[int], str]:
        """Return a function that shows two rows, or the first ones of two entities."""
        def sample(_: int) -> str:
            from bottega.generation.tables import TableEngine

            engine = TableEngine(generator, codec, controls=Controls(), model_digest="", lineage={})
            rows = engine.sample(2, seed=recipe.seed).data.slice(0, _SHOWN).to_pylist()
            return "\n  ".join(", ".join(f"{name} {value}" for name, value in list(row.items())[:8]) for row in rows)

        return sample

    def finish(self, recipe: Recipe, generator: Any, codec: TableCodec, dataset: TableDataset[TableCodec],
               base: Bundle | None, home: Path, *, resume: bool) -> Beside | None:
        """Bring the shares of what it makes to those of the training rows, and learn to write texts where wanted."""
        from bottega.generation.table_calibration import calibrate, calibrate_sequences

        if codec.layout is not None:
            with timed("calibrating"):
                calibrate_sequences(generator, codec, np.asarray(dataset.codes("train")))
            return None
        codes = dataset.codes("train")
        counts = [np.bincount(codes[:, column], minlength=size) for column, size in enumerate(codec.sizes)]
        with timed("calibrating"):
            calibrate(generator, counts, [latent.coding.forbidden for latent in codec.latents])
        return learn_texts(recipe, codec, dataset, base, home, resume=resume)

    def report(self, bundle: Bundle, dataset: TableDataset[TableCodec], home: Path) -> None:
        """Write the run's report.html, quality and privacy of as many rows as are held out, and keep the verdict."""
        from bottega.core.progress import say
        from bottega.training import table_report

        judged = table_report.judge(bundle, dataset, quick=True)
        say(f"report: {table_report.keep(judged, home)}")
        for reason in judged.reasons:
            say(f"warning: its rows are not released: {reason}")


def stages(codec: TableCodec, dataset: TableDataset[TableCodec]) -> list[Stage]:
    """Return what a model of sequences is asked: entities at their first rows, and rows given all that goes before.

    Returns:
        Nothing for a table of single rows.
    """
    if codec.layout is None:
        return []
    once, given = codec.within(codec.layout.of_entity), codec.within(codec.layout.given)
    known = codec.within([*codec.layout.of_entity, *codec.layout.given])
    first, later = dict[str, Any](), dict[str, Any]()
    for split in SPLITS:
        codes = np.asarray(dataset.codes(split))
        first[split] = codec.first_rows(codes)
        later[split] = np.setdiff1d(np.arange(len(codes)), first[split])
    found = [Stage(given, once, first), Stage(known, ~known, first)]
    return [*found, Stage(known, ~known, later)] if all(map(len, later.values())) else found


def build_table(recipe: Recipe, codec: TableCodec) -> Tabular:
    """Return a fresh model of a codec's columns; weights are drawn from torch's global generator.

    Raises:
        RecipeError: unknown family or key, or a bad value.
    """
    family = families.table_family(recipe.generator.family)
    codings = [latent.coding for latent in codec.latents]
    facts = {"sizes": codec.sizes, "ordered": [coding.column.ordered for coding in codings],
             "missing": [coding.missing for coding in codings],
             "shares": [share for coding in codings for share in coding.share],
             "spikes": [spike for coding in codings for spike in coding.spikes],
             "place": codec.place if codec.layout else None} if codings else _FACTS
    config: Any = family.Config
    keys = dict(recipe.generator.overrides)
    if 0 < codec.rows < _FEW:
        keys.setdefault("width", _NARROW)
    return family(config.derive(recipe.generator.depth, facts, keys))
