"""One column of a `tabular` model as its definition has it, to hold `tabular_reading` against."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from bottega.families.tabular import Tabular


def whole_column(model: Tabular, column: int, codes: Tensor, features: Tensor, visible: Tensor, *,
                 plain: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return the base's means [B, F] and spreads [F] and one column's logits float32 [B, size].

    Args:
        model: in evaluation mode.
        column: a hidden one.
        codes: int64 [B, D].
        features: of the base, float32 [B, F]; those of hidden columns are not looked at.
        visible: bool [D].
        plain: leave the network out.
    """
    base = model.base_of(codes)
    means, spread = base.conditional(features, visible)
    start, end = model.offsets[column], model.offsets[column + 1]
    found = base.column_logits(column, means, spread)
    if not plain:
        hidden = model.best.hidden(means, codes + base.starts, visible)
        found = found + functional.linear(hidden, model.best.head.weight[start:end], model.best.head.bias[start:end])
    return means, spread, found
