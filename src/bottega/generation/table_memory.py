"""What the next row of each entity knows of its earlier ones, row after row; `generation/table_sequences.py` keeps one.

`Layout.wide` tells the same of rows that are all there; `pytest tests/generation/test_table_memory.py` compares both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.core.table import Table
from bottega.core.table_sequences import Layout, averaged


@dataclass(frozen=True)
class Memory:
    """What is known of earlier rows, of N entities.

    Attributes:
        layout: that says what is to be known.
        rows: the steps of the `previous`, `second previous` and `first` row, as far as there are any; N rows each.
        sums: of the averaged columns, sum and number of the values so far: float64 [2, A, N].
    """

    layout: Layout
    rows: dict[str, Table]
    sums: NDArray[np.float64]

    @staticmethod
    def none(layout: Layout, entities: int) -> Memory:
        """Return what is known before the first row: nothing."""
        return Memory(layout, {}, np.zeros((2, len(layout.averages), entities)))

    def take(self, entities: NDArray[np.int64]) -> Memory:
        """Return what is known of some of the entities."""
        return Memory(self.layout, {which: steps.take(entities) for which, steps in self.rows.items()},
                      self.sums[:, :, entities])

    def later(self, steps: Table) -> Memory:
        """Return what is known after one more row of each entity."""
        found = {"previous": steps}
        if self.layout.longer:
            found["first"] = self.rows.get("first", steps)
            if self.rows:
                found["second previous"] = self.rows["previous"]
        sums = self.sums.copy()
        for place, name in enumerate(self.layout.averages):
            values = steps.values(name)
            sums[:, place] += np.nan_to_num(values), ~np.isnan(values)
        return Memory(self.layout, found, sums)

    def told(self, place: int) -> dict[str, Any]:
        """Return the wide columns of earlier rows that a row at a place knows, as Arrow arrays; the rest is missing."""
        import pyarrow as pa

        if not self.rows:
            return {}
        layout = self.layout
        found = {layout.before(name): self.rows["previous"].data[name] for name in layout.of_row}
        for which, name in layout.longer if place >= 2 else []:
            if which == "mean previous":
                mean = averaged(*self.sums[:, layout.averages.index(name)])
                found[layout.past(which, name)] = pa.array(mean, mask=np.isnan(mean))
            else:
                found[layout.past(which, name)] = self.rows[which].data[name]
        return found
