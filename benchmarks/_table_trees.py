"""Sequential decision trees, the baseline of tables.py that is good, quick, and copies rows."""

from __future__ import annotations

import numpy as np

from bottega.core.table import Table

LEAF = 5  # rows


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
