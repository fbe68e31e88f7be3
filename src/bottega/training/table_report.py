"""The page of a model of a table: quality and privacy of rows it makes, beside fresh real rows; and the release gate.

`bottega train` writes it into the run; `bottega evaluate NAME` judges again with more rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bottega.codecs.table import TableCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import InputError
from bottega.core.progress import timed
from bottega.core.recipe import Recipe
from bottega.core.table import Table
from bottega.core.validate import validate
from bottega.data.tables.dataset import TableDataset
from bottega.evaluation.table_report import write_page
from bottega.evaluation.table_sequences import judge_sequences
from bottega.evaluation.table_verdict import TableVerdict
from bottega.evaluation.tables import TableScores, judge_table
from bottega.generation.tables import TableEngine
from bottega.training.media_tables import Tables

REPORT = "report.html"
_QUICK, _WHOLE = 2000, 10_000  # rows that are judged


@dataclass(frozen=True)
class Judged:
    """Rows of a model with their scores.

    Attributes:
        scores: see `evaluation.table_judge`.
        verdict: the gate's.
        real: training rows of the same number; `made`: the synthetic rows.
    """

    scores: TableScores
    verdict: TableVerdict
    real: Table
    made: Table
    title: str
    facts: dict[str, str]

    @property
    def reasons(self) -> list[str]:
        """Why the model should not be released; empty when nothing speaks against it."""
        return self.verdict.reasons

    def save(self, path: Path | str) -> Path:
        """Write the page, and its figures as JSON beside it.

        Raises:
            ResourceError: the disk is full.
        """
        return write_page(self.scores, self.real, self.made, Path(path), title=self.title, facts=self.facts)


def judged(bundle: Bundle, home: Path, *, seed: int = 0, quick: bool = False) -> Judged:
    """Judge a model on rows that it makes, beside the rows it was made from and the held-out ones.

    Args:
        bundle: a model of a table that was trained in this workshop.
        home: the workshop; the data is prepared again where it is gone.
        seed: of the rows, and of what is random in the judging.
        quick: fewer rows, and no attack that takes long.

    Raises:
        InputError: the model has no recipe, or its data is not there.
    """
    if "recipe" not in bundle.meta or bundle.meta.get("codec") != "table":
        raise InputError(f"'{bundle.name}' was not trained here on a table", fix="name a model of a table")
    recipe = validate(Recipe, bundle.meta["recipe"], where="bottega.json", error=InputError)
    data = Tables().dataset(recipe, bundle if recipe.base else None, home)
    return judge(bundle, data, seed=seed, quick=quick)


def judge(bundle: Bundle, data: TableDataset[TableCodec], *, seed: int = 0, quick: bool = False) -> Judged:
    """Judge a model on its prepared data; see `judged`."""
    engine, most = TableEngine.open(bundle), _QUICK if quick else _WHOLE
    train, held = data.table("train"), data.table("validation")
    steps, pick = (train, held), np.random.default_rng(seed)
    held = held.take(pick.permutation(len(held))[:most])
    real = train.take(pick.permutation(len(train))[:most])
    made, rules, layout = _made(engine, len(real), seed), data.codec.coded_rules, data.codec.layout
    real = real.take(np.arange(min(len(real), len(made))))
    with timed(f"judging {len(made):,} rows beside {len(real):,} real ones"):
        scores = judge_table(made, real, held, seed=seed, quick=quick, rules=rules, everyone=train)
        if layout is not None:
            more, changes = judge_sequences(made, *steps, layout, seed=seed)
            scores = replace(scores, scores=[*scores.scores, *more], sequences=changes)
    meta = bundle.meta
    facts = {"rows of training": f"{data.codec.rows:,}", "columns": str(len(data.codec.schema.columns)),
             "codes": f"{sum(data.codec.sizes):,}", "steps": f"{meta['training']['steps']:,}",
             "seconds": f"{meta['training']['seconds']:.0f}", "links": "; ".join(
                 f"{one.key} -> {one.column}" for one in data.codec.mappings) or "none",
             "rules": "; ".join(rule.text for rule in data.codec.rules) or "none",
             "rows that anything is kept of": str(data.codec.spec.protect)}
    return Judged(scores, TableVerdict.of(scores, bundle.name, bundle.digest), real, made,
                  f"{bundle.name}: a model of a table", facts)


def _made(engine: TableEngine, rows: int, seed: int) -> Table:
    """Return rows as the model learns them: of sequences steps, so that what leads from row to row is judged too."""
    codec = engine.codec
    if codec.layout is None:
        return engine.sample(rows, seed=seed)
    steps = codec.layout.wide(engine.sample(max(1, rows * codec.entities // codec.rows), seed=seed)).table
    return Table(codec.schema, steps.data)


def keep(judged: Judged, home: Path) -> Path:
    """Keep a verdict as the last one on its model, write the page into its run, and return the page's path.

    Raises:
        ResourceError: the disk is full.
    """
    judged.verdict.keep(home)  # first: no page is needed to refuse a release
    return judged.save(home / "runs" / judged.verdict.model / REPORT)
