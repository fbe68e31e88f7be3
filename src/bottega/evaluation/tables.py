"""How good a synthetic table is, and whom it gives away: every score beside its references; `pytest tests/evaluation`.

`judge_table` puts shapes, the two-sample test, usefulness, distances and attacks together. Each is measured for three
more tables: fresh real rows (what a perfect model would give), independent columns (useless) and copied training rows
(everyone given away). `gate` lists reasons not to release a table. Passing is no proof of anonymity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import InputError
from bottega.core.table import Table
from bottega.evaluation import table_attacks, table_privacy
from bottega.evaluation.statistics import Figure, Z, difference
from bottega.evaluation.table_attacks import Attack, attacks
from bottega.evaluation.table_detection import detection
from bottega.evaluation.table_outliers import Outliers, outliers
from bottega.evaluation.table_privacy import Privacy, privacy
from bottega.evaluation.table_references import copied, halves, independent
from bottega.evaluation.table_scores import Score, plain, score
from bottega.evaluation.table_sequences import Change
from bottega.evaluation.table_shapes import Shapes, compare
from bottega.evaluation.table_utility import Target, utility
from bottega.evaluation.table_views import sample

FEWEST = 20  # rows of each table: half of the held-out rows play fresh ones, and ten of a side can be told apart
QUICK_ROWS, QUICK_TRIES, QUICK_TARGETS = 2000, 300, 3
# Reasons to refuse a release; each must also be beyond what chance does in tables of this size. A dozen questions at
# 95 % would refuse one harmless table in six; at three standard errors each is wrong about once in 700.
ERRORS = 3.0
CLOSER_LIMIT = 0.55  # models that train without copying reach .50 to .54; trees that copy one row in twenty .71
MEMBERSHIP_LIMIT = 0.55  # the same models .49 to .53, the same trees .59
RISK_LIMIT = 0.05  # one person in twenty beyond what held-out rows show: our choice, no standard


class Rule(Protocol):
    """A constraint on rows."""

    @property
    def text(self) -> str:
        """The rule as a person writes it."""
        ...

    def broken(self, table: Table) -> NDArray[np.bool_]:
        """Return which rows break it: bool [N]."""
        ...


@dataclass(frozen=True, slots=True)
class Broken:
    """How many rows break a rule, as shares: a rule that real rows break is none."""

    text: str
    made: float
    train: float
    holdout: float
    rows: int


@dataclass(frozen=True, slots=True)
class TableScores:
    """All that was found about a synthetic table.

    Attributes:
        scores: in the order of the page.
        shapes: columns and pairs of columns, against the training rows.
        targets: usefulness for each column; `scores` of `made`, `real`, `independent`, `copy`.
        privacy, attacks: in full.
        outliers: isolated records that come out; None where there are too few records.
        broken: rules, with how many rows break them.
        counts: rows of `synthetic`, `train`, `holdout`, and how many were `compared` of each.
        texts: columns of free text, whose copies `privacy.repeated` tells.
        seed: that makes the same scores again.
        quick: fewer rows, tries and targets.
        sequences: of rows of entities, how each column changes from row to row (`table_sequences`).
    """

    scores: list[Score]
    shapes: Shapes
    targets: list[Target]
    privacy: Privacy
    attacks: list[Attack]
    outliers: Outliers | None
    broken: list[Broken]
    counts: dict[str, int]
    texts: list[str]
    seed: int
    quick: bool
    sequences: list[Change] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Return everything as JSON takes it, with the reasons of `gate`; what was not measured is None."""
        return {**plain(self), "refused": gate(self)}

    def score(self, name: str) -> Score:
        """Return a score by its name.

        Raises:
            InputError: it was not measured.
        """
        for found in self.scores:
            if found.name == name:
                return found
        raise InputError(f"'{name}' was not measured", fix=f"there is {', '.join(each.name for each in self.scores)}")


def judge_table(synthetic: Table, train: Table, holdout: Table, *, seed: int, quick: bool = False,
                rules: Sequence[Rule] = (), everyone: Table | None = None) -> TableScores:
    """Score a synthetic table.

    Args:
        synthetic: rows of a model, in no chosen order, not picked by hand.
        train: the rows that it was trained on.
        holdout: real rows that it was not trained on, from the same source, best as many; take duplicates away first.
        seed: of samples, folds, trees, predicates and references; the same seed gives the same scores.
        quick: at most 2,000 rows of each table, 300 tries an attack and three targets, for a look while training.
        rules: constraints whose violations are counted.
        everyone: all training rows, where `train` is a sample: a text that is repeated may be that of any.

    Raises:
        InputError: fewer than 20 rows of a table, or columns that do not fit each other.
        DataError: a number is infinite.
        MissingExtraError: scikit-learn is not installed.
    """
    for name, table in (("synthetic", synthetic), ("train", train), ("holdout", holdout)):
        if len(table) < FEWEST:
            raise InputError(f"the {name} table has {len(table)} rows: too few to say anything about it",
                             fix=f"give at least {FEWEST}")
    counts = {"synthetic": len(synthetic), "train": len(train), "holdout": len(holdout)}
    most = QUICK_ROWS if quick else table_privacy.MOST
    tries = QUICK_TRIES if quick else table_attacks.TRIES
    rng, everyone = np.random.default_rng(seed), everyone or train
    if quick:
        synthetic, train, holdout = (table.take(sample(len(table), most, rng)) for table in
                                     (synthetic, train, holdout))
    one, other = halves(holdout, seed)
    rows = min(len(synthetic), most)
    made = {"made": synthetic, "independent": independent(train, rows, seed), "copy": copied(train, rows, seed)}
    # fresh rows are judged by the other half of the held-out rows: beside themselves they would be copies
    judged = {**{key: (table, holdout) for key, table in made.items()}, "fresh": (one, other)}
    shapes = {key: compare(train, holdout if key == "fresh" else table) for key, (table, _) in judged.items()}
    told = {key: detection(table, against, seed=seed, most=most) for key, (table, against) in judged.items()}
    near = {key: privacy(table, train, against, seed=seed, most=most, everyone=everyone)
            for key, (table, against) in judged.items()}
    tried = {key: attacks(table, train, against, seed=seed, tries=tries, most=most)
             for key, (table, against) in judged.items()}
    alone = {key: outliers(table, train, against, seed=seed, most=most) for key, (table, against) in judged.items()}
    chosen = train.schema.learned[-QUICK_TARGETS:] if quick else train.schema.learned
    targets = utility({"real": train, **made}, holdout, targets=[column.name for column in chosen], seed=seed,
                      most=most)
    broken = [_broken(rule, synthetic, train, holdout) for rule in rules]
    texts = [column.name for column in train.schema.columns if column.kind == "text"]
    scores = [*_quality(shapes, told), *_broken_scores(rules, judged), *_usefulness(targets), *_nearness(near),
              _repeats(near, texts), _isolated(alone), *_attacked(tried)]
    return TableScores([found for found in scores if found is not None], shapes["made"], targets, near["made"],
                       tried["made"], alone["made"], broken,
                       {**counts, "compared": min(most, *(len(table) for table in (synthetic, train, holdout)))},
                       texts, seed, quick)


def _quality(shapes: Mapping[str, Shapes], told: Mapping[str, Figure]) -> list[Score | None]:
    def of(name: str) -> dict[str, Figure | float]:
        return {key: float(getattr(found, name)) for key, found in shapes.items()}

    return [score("column shapes", "quality", "higher", "independent", of("shapes"),
                  "mean over columns of 1 - distance of the distributions"),
            score("pair trends", "quality", "higher", "independent", of("trends"),
                  "mean over all pairs of columns of how alike their links are"),
            score("linked pair trends", "quality", "higher", "independent", of("linked"),
                  "the same over pairs that are clearly linked in the training rows"),
            score("coverage", "quality", "higher", "independent", of("coverage"),
                  "share of levels and ranges of the training rows that appear"),
            score("missing values", "quality", "lower", "independent", of("missing"),
                  "mean difference of the shares of missing values"),
            score("told apart", "quality", "lower", "independent", dict(told),
                  "AUC of boosted trees that tell synthetic from held-out rows; 0.5 is chance")]


def _broken(rule: Rule, synthetic: Table, train: Table, holdout: Table) -> Broken:
    made, known, fresh = (float(rule.broken(table).mean()) for table in (synthetic, train, holdout))
    return Broken(rule.text, made, known, fresh, round(made * len(synthetic)))


def _broken_scores(rules: Sequence[Rule], judged: Mapping[str, tuple[Table, Table]]) -> list[Score | None]:
    if not rules:
        return []
    shares: dict[str, Figure | float] = {
        key: float(np.logical_or.reduce([rule.broken(table) for rule in rules]).mean())
        for key, (table, _) in judged.items()}
    return [score("rows that break a rule", "quality", "lower", "independent", shares, "share of rows")]


def _usefulness(targets: Sequence[Target]) -> list[Score | None]:
    found = []
    for name, kinds, about in (("predicted classes", ("auc", "macro auc"), "mean AUC of boosted trees trained on the "
                                "rows, tested on held-out ones, over all columns of classes; fresh: trained on real"),
                               ("predicted numbers", ("r2",), "mean R² of the same (at least -1) over all columns of "
                                "numbers; fresh: trained on real")):
        asked = [target for target in targets if target.measure in kinds]
        if asked:
            means: dict[str, Figure | float] = {
                key: fmean(max(-1.0, target.scores[label]) for target in asked)
                for key, label in (("made", "made"), ("fresh", "real"), ("independent", "independent"),
                                   ("copy", "copy"))}
            found.append(score(name, "utility", "higher", "independent", means, about))
    return found


def _nearness(near: Mapping[str, Privacy]) -> list[Score | None]:
    def of(name: str) -> dict[str, Figure | float]:
        return {key: getattr(found, name) for key, found in near.items()}

    return [score("closer to training", "privacy", "lower", "copy", of("closer"),
                  "share of rows nearer to a training row than to a held-out row; 0.5 is ideal"),
            score("exact copies", "privacy", "lower", "copy", of("copies"), "share of rows that equal a training row"),
            score("nearest ratio", "privacy", "higher", "copy", of("ratio"),
                  "5th percentile of distance to the nearest over the second nearest training row"),
            score("membership", "privacy", "lower", "copy", of("membership"),
                  "AUC of telling training from held-out rows by the nearest synthetic row; 0.5 is ideal")]


def _repeats(near: Mapping[str, Privacy], texts: Sequence[str]) -> Score | None:
    shares: dict[str, Figure | float] = {}
    for key, found in near.items():
        known = [found.repeated[name]["value"] for name in texts if name in found.repeated]
        if known:
            shares[key] = fmean(known)
    return score("repeated texts", "privacy", "lower", "copy", shares, "share of free texts that are those of training "
                 "rows, whole or ten words in a row, mean over columns")


def _isolated(alone: Mapping[str, Outliers | None]) -> Score | None:
    known: dict[str, Figure | float] = {key: found.risk for key, found in alone.items() if found is not None}
    return score("isolated records", "privacy", "lower", "copy", known, "share of the most isolated training records "
                 "with a synthetic row right beside them, less the same of held-out records")


def _attacked(tried: Mapping[str, list[Attack]]) -> list[Score | None]:
    """Return the risk of each attack; of inference the mean over columns."""
    found = []
    for name in ("singling out, one column", "singling out, several columns", "linkability", "inference"):
        risks: dict[str, Figure | float] = {}
        for key, done in tried.items():
            these = [attack.risk for attack in done if attack.name.startswith(name)]
            if these:
                value, low, high = (fmean(risk[edge] for risk in these) for edge in ("value", "low", "high"))
                risks[key] = Figure(value=value, low=low, high=high, n=these[0]["n"])
        found.append(score(name, "privacy", "lower", "copy", risks, "success on training rows less that on held-out "
                           "rows" + (", mean over columns" if name == "inference" else "")))
    return found


def gate(scores: TableScores) -> list[str]:
    """Return the reasons not to release a table, in plain words; an empty list is no proof of anonymity."""
    said, found = [], scores.privacy
    if found.closer["value"] > CLOSER_LIMIT and _least(found.closer) > 0.5:
        said.append(f"{found.closer['value']:.1%} of the rows are nearer to a training row than to a held-out one "
                    f"(limit {CLOSER_LIMIT:.0%}): the model remembers rows; train for less long, or on more rows")
    if found.membership["value"] > MEMBERSHIP_LIMIT and _least(found.membership) > 0.5:
        said.append(f"training rows are told from held-out ones by their nearest synthetic row with an AUC of "
                    f"{found.membership['value']:.3f} (limit {MEMBERSHIP_LIMIT})")
    if _least(found.excess) > 0:
        said.append(f"{found.copies['value']:.2%} of the rows are exact copies of training rows, of fresh real rows "
                    f"{found.fresh_copies['value']:.2%}")
    alone = scores.outliers
    if alone is not None and alone.risk["low"] > 0:
        said.append(f"of the {alone.given['n']} training records that stand most alone, {alone.given['value']:.0%} "
                    f"have a synthetic row right beside them ({alone.rows} rows), of such held-out records "
                    f"{alone.control['value']:.0%}: leave these records out, or take their repetitions away")
    for attack in scores.attacks:
        if _least(attack.risk) > RISK_LIMIT:
            said.append(f"{attack.name}: works on {attack.success['value']:.1%} of training rows, on "
                        f"{attack.control['value']:.1%} of held-out ones; the risk is at least "
                        f"{_least(attack.risk):.1%} (limit {RISK_LIMIT:.0%})")
    for name in scores.texts:
        if name not in found.repeated:
            continue
        share, fresh = found.repeated[name], found.fresh_repeated.get(name)
        beyond = share if fresh is None else difference(share, fresh)
        if beyond["value"] > RISK_LIMIT and _least(beyond) > 0:
            said.append(f"{share['value']:.1%} of the texts in '{name}' are those of training rows, whole or ten words "
                        f"in a row, of held-out texts {fresh['value'] if fresh else 0:.1%} (limit {RISK_LIMIT:.0%} "
                        "more): leave the texts out, or train on more rows")
    return said


def _least(figure: Figure) -> float:
    """Return what a figure is at least, at the gate's certainty instead of the interval's 95 %."""
    return figure["value"] - (figure["value"] - figure["low"]) * ERRORS / Z
