"""How finely the values of a column are written, and its ends. `pytest tests/codecs/test_table.py` exercises it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.core.table import Column

Floats = NDArray[np.float64]


def rounded(values: Floats, column: Column) -> Floats:
    """Return values in the decimals of a column: negative decimals are tens, hundreds …, of times seconds."""
    if column.decimals is None:
        return np.array(values)
    found: Floats = np.round(values, column.decimals) if column.kind != "datetime" else \
        np.round(values / _tick(column.decimals)) * _tick(column.decimals)
    return found


def unit(column: Column) -> float:
    """Return the step between neighbouring values of a column, of times in seconds; 0 where there is none."""
    if column.decimals is None:
        return 0.0
    return _tick(column.decimals) if column.kind == "datetime" else 10.0 ** -column.decimals


def _tick(decimals: int) -> float:
    """Return seconds of a tick of time: 86400, 3600, 60 for -3, -2, -1, else a power of ten."""
    return {-3: 86400.0, -2: 3600.0, -1: 60.0}.get(decimals, 10.0 ** -decimals)


def decimals_of(values: Floats, kind: str) -> int | None:
    """Return the decimals that hold all values (NaN left out), from days or millions down; None when 10 do not."""
    known = np.unique(values[~np.isnan(values)])
    if not len(known):
        return 0
    steps: list[int] = [-3, -2, -1, *range(7)] if kind == "datetime" else list(range(-6, 11))
    for decimals in steps:
        tick = _tick(decimals) if kind == "datetime" else 10.0 ** -decimals
        if np.allclose(np.round(known / tick) * tick, known, rtol=1e-12, atol=min(tick * 1e-4, 1e-6)):
            return decimals
    return None


def ends(values: Floats) -> dict[str, Any]:
    """Return `low` and `high` of values with NaN for missing, nothing where there are none."""
    known = values[~np.isnan(values)]
    return {"low": float(known.min()), "high": float(known.max())} if len(known) else {}
