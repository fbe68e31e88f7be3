"""Tables of known worth that a score is printed beside: without them no score says anything; `pytest tests/evaluation`.

Fresh real rows are what a perfect model would give. Independent columns know every column and no link: a score that
they pass says nothing about links. A copy of training rows is perfect and gives everyone away: a score that it passes
says nothing about privacy.
"""

from __future__ import annotations

import numpy as np

from bottega.core.table import Table


def independent(table: Table, rows: int, seed: int) -> Table:
    """Return rows of which each column is drawn on its own (without replacement as far as rows reach)."""
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    columns = []
    for name in table.schema.names:
        draws = [rng.permutation(len(table)) for _ in range(-(-rows // len(table)))]
        columns.append(table.data[name].take(pa.array(np.concatenate(draws)[:rows])))
    return Table(table.schema, pa.table(columns, names=table.schema.names))


def copied(table: Table, rows: int, seed: int) -> Table:
    """Return rows drawn with replacement: a bootstrap copy."""
    return table.take(np.random.default_rng(seed).integers(len(table), size=rows))


def halves(table: Table, seed: int) -> tuple[Table, Table]:
    """Return two halves of a table, at random: one plays a perfect model's rows, the other what it is judged by."""
    order = np.random.default_rng(seed).permutation(len(table))
    middle = len(table) // 2
    return table.take(np.sort(order[:middle])), table.take(np.sort(order[middle:]))
