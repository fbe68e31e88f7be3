"""Boosted trees that read a table as it is: categories as categories, missing as missing; `pytest tests/evaluation`.

The two-sample test and train-on-synthetic use them: scikit-learn's histogram gradient boosting, which needs no scaling
and no imputation and sees interactions that a linear judge misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import MissingExtraError
from bottega.evaluation.table_views import Values, View

LEVELS = 255  # that scikit-learn's trees take; rarer ones are folded into the last


@dataclass(frozen=True, slots=True)
class Features:
    """Columns as boosted trees take them.

    Attributes:
        matrix: float64 [N, C]; codes of categories as numbers, NaN is missing.
        coded: bool [C], which columns are categories.
    """

    matrix: Values
    coded: NDArray[np.bool_]

    def take(self, rows: NDArray[np.integer[Any]]) -> Features:
        """Return the given rows."""
        return Features(self.matrix[rows], self.coded)


def features(tables: Sequence[View], columns: Sequence[str]) -> list[Features]:
    """Return columns of tables that were viewed together, rare levels folded alike in all of them.

    Args:
        tables: of at least one row each.
        columns: at least one name.
    """
    coded = np.array([name in tables[0].codes for name in columns])
    folds = {name: _fold(tables, name) for name in columns if name in tables[0].codes}
    found = []
    for view in tables:
        parts = []
        for name in columns:
            if name in view.values:
                parts.append(view.values[name])
            else:
                folded = folds[name][view.codes[name]].astype(np.float64)
                parts.append(np.where(view.codes[name] < 0, np.nan, folded))
        found.append(Features(np.column_stack(parts), coded))
    return found


def _fold(tables: Sequence[View], name: str) -> NDArray[np.int64]:
    """Return the new code of each level: the most frequent of all tables keep one of their own."""
    levels = max(1, len(tables[0].levels[name]))
    counts = np.zeros(levels, np.int64)
    for view in tables:
        counts += np.bincount(view.codes[name][view.codes[name] >= 0], minlength=levels)
    order = np.argsort(-counts, kind="stable")
    places = np.empty(levels, np.int64)
    places[order] = np.minimum(np.arange(levels), LEVELS - 1)
    return places


def classifier(coded: NDArray[np.bool_], classes: int, seed: int) -> Any:
    """Return an untrained classifier for features of these kinds.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    trees = _trees("HistGradientBoostingClassifier")
    if classes <= 2:
        return trees(max_iter=100, categorical_features=coded, early_stopping=False, random_state=seed)
    # each round grows a tree a class; without a penalty the trees of rare classes run away (macro AUC .53 for .77)
    return trees(max_iter=20, learning_rate=0.2, max_leaf_nodes=8, l2_regularization=5.0, categorical_features=coded,
                 early_stopping=False, random_state=seed)


def regressor(coded: NDArray[np.bool_], seed: int) -> Any:
    """Return an untrained regressor for features of these kinds.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    return _trees("HistGradientBoostingRegressor")(max_iter=100, categorical_features=coded, early_stopping=False,
                                                   random_state=seed)


def _trees(name: str) -> Any:
    try:
        import sklearn.ensemble
    except ImportError:
        raise MissingExtraError("tables", "judging tables by classifiers") from None
    return getattr(sklearn.ensemble, name)
