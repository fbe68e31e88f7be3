"""What a `tabular` model says of the hidden columns of rows while one column after another becomes visible.

Rows are made column after column, and each column seen changes mean and covariance of the base by a matrix of as many
columns as it has features (the update of a Kalman filter, 1960); the network's first layer is linear, so that its sum
is changed alike. Nothing is worked out twice, and the codes of one column only are scored.
`pytest tests/families/test_tabular_reading.py` holds it beside the whole computation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from bottega.families.copula import RIDGE, Copula

if TYPE_CHECKING:
    from bottega.families.tabular import Tabular


class Reading:
    """Rows that become visible column by column.

    Args:
        model: in evaluation mode; its best network is asked.
        base: of these rows.
        rows: their number.

    Attributes:
        means: float32 [B, F], features of the base: seen ones as they are, the others as they are expected.
    """

    def __init__(self, model: Tabular, base: Copula, rows: int) -> None:
        self.model, self.base = model, base
        self.means = base.mean.float().expand(rows, -1).clone()
        self._covariance = base.covariance.clone()
        self._seen: list[int] = []
        best = model.best
        self._plain = not bool(best.head.weight.any() or best.head.bias.any())
        self._enter = best.enter.weight[:, :base.features].double()
        empty = torch.cat([self.means[:1], self.means.new_zeros(1, len(base.sizes))], 1)
        self._sum = (best.enter(empty) + len(base.sizes) * best.codes.weight[best.nothing]).expand(rows, -1).clone()

    @property
    def plain(self) -> bool:
        """Whether the network adds nothing to the base."""
        return self._plain

    def spread(self) -> Tensor:
        """Return how far hidden features are from their means, float32 [F]."""
        return self._covariance.diagonal().clamp_min(1e-6).sqrt().float()

    def take(self, rows: Tensor) -> None:
        """Go on with these rows, int64 [R]; repeats are allowed."""
        self.means, self._sum = self.means[rows], self._sum[rows]

    def see(self, column: int, codes: Tensor, places: Tensor, values: Tensor | None = None) -> None:
        """Make a column visible.

        Args:
            column: a hidden one.
            codes: int64 [B], places: float32 [B], what the rows hold.
            values: their features, where they are known, float32 [B, features of the column].
        """
        features = self.base.columns[column]
        values = self.base.encode_column(column, codes, places) if values is None else values
        if features:
            own = slice(features[0], features[-1] + 1)
            spread = self._covariance[:, own]
            noise = self.base.covariance.diagonal()[own] * RIDGE + 1e-9
            gain = torch.linalg.solve(spread[own] + torch.diag(noise), spread.T).T
            self._covariance -= gain @ spread.T
            gain[self._seen] = 0.0  # what is seen stands as it is
            gain[own] = torch.eye(len(features), dtype=gain.dtype, device=gain.device)
            self._seen += features
            off = values - self.means[:, own]
            self.means.addmm_(off, gain.T.float())
            if not self._plain:
                self._sum.addmm_(off, (self._enter @ gain).T.float())
        if not self._plain:
            best = self.model.best
            self._sum += best.codes.weight[codes + int(self.base.starts[column])]
            self._sum += best.enter.weight[:, self.base.features + column] - best.codes.weight[best.nothing]

    def logits(self, column: int) -> Tensor:
        """Return the log-probabilities of a hidden column's codes up to a constant a row, float32 [B, size]."""
        spread = self.spread()
        found = self.base.column_logits(column, self.means, spread)
        if self._plain:
            return found
        best, (start, end) = self.model.best, self.model.offsets[column:column + 2]
        x = self._sum
        for block in best.blocks:
            x = block(x)
        return found + functional.linear(best.norm(x), best.head.weight[start:end], best.head.bias[start:end])
