"""Scores of rows for tables.py, by our own evaluation; and the baseline of sequential trees.

All scores of a generator are taken beside the same held-out rows; `evaluation/table_*.py` says how each is measured.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bottega.core.table import Schema, Table
from bottega.evaluation.table_detection import detection
from bottega.evaluation.table_privacy import privacy
from bottega.evaluation.table_shapes import compare
from bottega.evaluation.table_utility import utility

LEAF = 5  # rows of a leaf at least: the usual setting of sequential trees, and the one that copies


def read_rows(path: Path, schema: Schema) -> Table:
    """Return a generator's rows under the schema of the real ones; categories as text."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from bottega.core.table import as_text

    rows, columns = pq.read_table(path), {}
    for column in schema.columns:
        found = rows[column.name].combine_chunks()
        if pa.types.is_dictionary(found.type):
            found = found.cast(found.type.value_type)
        if column.ordered:
            number = pc.cast(found, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            columns[column.name] = pa.array(number, pa.float64(), from_pandas=True)
        else:
            columns[column.name] = as_text(found)
    return Table(schema, pa.table(columns))


def scores(made: Table, train: Table, held: Table, target: str, twins: tuple[str, ...],
           links: tuple[tuple[str, str], ...], seed: int) -> dict[str, float]:
    """Return name → score of a generator's rows."""
    shapes, found = compare(train, made), privacy(made, train, held, seed=seed)
    lesser = [_without(table, twins) for table in (made, train, held)]
    learned = utility({"made": lesser[0], "real": lesser[1]}, lesser[2], targets=[target], seed=seed)[0]
    return {"our shapes": shapes.shapes, "our trends": shapes.trends, "our linked": shapes.linked,
            "c2st": detection(made, held, seed=seed)["value"], "tstr": learned.scores["made"],
            "trtr": learned.scores["real"], "dcr": found.closer["value"], "mia": found.membership["value"],
            "copies": found.copies["value"], "fresh copies": found.fresh_copies["value"],
            **({"broken": broken(made, train, held, links)} if links else {})}


def _without(table: Table, names: tuple[str, ...]) -> Table:
    return Table(Schema(columns=[one for one in table.schema.columns if one.name not in names]), table.data)


def broken(made: Table, train: Table, held: Table, links: tuple[tuple[str, str], ...]) -> float:
    """Return the share of rows in which a pair of linked columns takes values that no real row takes together."""
    wrong = np.zeros(len(made), bool)
    for pair in links:
        known = {row for table in (train, held) for row in _pairs(table, pair)}
        wrong |= np.array([row not in known for row in _pairs(made, pair)])
    return float(wrong.mean())


def _pairs(table: Table, pair: tuple[str, str]) -> list[tuple[str, ...]]:
    sides = []
    for name in pair:
        if table.schema.column(name).ordered:
            sides.append([str(value) for value in table.values(name)])
        else:
            codes, levels = table.codes(name)
            sides.append([levels[code] if code >= 0 else "" for code in codes])
    return list(zip(*sides, strict=True))


def trees(train: Table, rows: int, seed: int) -> Table:
    """Return rows of sequential trees: each column is a training value from the leaf that the columns before lead to.

    As in synthpop (Nowok, Raab and Dibben 2016, section 2), with leaves of five rows.
    """
    import pyarrow as pa
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    rng = np.random.default_rng(seed)
    names = train.schema.names
    seen = {name: train.values(name) if train.schema.column(name).ordered else train.codes(name)[0].astype(float)
            for name in names}
    donors = {names[0]: rng.integers(len(train), size=rows)}
    for place, name in enumerate(names[1:], 1):
        known = np.column_stack([seen[other] for other in names[:place]])
        given = np.column_stack([seen[other][donors[other]] for other in names[:place]])
        if train.schema.column(name).ordered:
            target = seen[name]
            gaps = np.isnan(target)
            low, high = np.nanmin(target), np.nanmax(target)
            target = np.where(gaps, low - (high - low), target)  # missing is a value of its own, far from the others
            tree = DecisionTreeRegressor(min_samples_leaf=LEAF, random_state=seed).fit(known, target)
        else:
            tree = DecisionTreeClassifier(min_samples_leaf=LEAF, random_state=seed).fit(known, seen[name].astype(int))
        leaves, wanted = tree.apply(known), tree.apply(given)
        order = np.argsort(leaves, kind="stable")
        first, last = (np.searchsorted(leaves[order], wanted, side) for side in ("left", "right"))
        donors[name] = order[first + (rng.random(rows) * (last - first)).astype(int)]
    return Table(train.schema, pa.table({name: train.data[name].take(pa.array(donors[name])) for name in names}))
