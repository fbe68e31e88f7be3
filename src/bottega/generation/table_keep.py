"""Which rows that were drawn are given out, and how much they rest on. `pytest tests/generation/test_tables.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.codecs.table import TableCodec
from bottega.core.errors import ControlError
from bottega.core.table import Table
from bottega.generation.table_conditions import Condition

_THIN = 1e-4  # probability of what is asked for under which rows are a scenario, not evidence
HOPELESS = 50  # chunks in a row without one row that passes, after which it is given up
IDS = 1 << 24  # kind of chance for fresh ids


@dataclass
class Support:
    """How probable what was asked for is, and how much was drawn to get it.

    Attributes:
        probability: of the conditions, by the model; 1 without any.
        expected: rows among the training rows that probability stands for.
        drawn, kept: rows; of sequences entities.
        made: of these, how many were given out so far.
    """

    probability: float = 1.0
    expected: float = 0.0
    drawn: int = 0
    kept: int = 0
    made: int = 0
    _chances: list[float] = field(default_factory=list)

    def see(self, probability: float, drawn: int, kept: int, rows: int) -> None:
        """Note a draw.

        Args:
            probability: of what was asked for, by the model.
            drawn, kept: of them.
            rows: among the training rows, or entities.
        """
        self.drawn, self.kept = self.drawn + drawn, self.kept + kept
        self._chances.append(probability * max(kept, 0.5) / drawn)
        self.probability = float(np.mean(self._chances))
        self.expected = self.probability * rows

    @property
    def warning(self) -> str | None:
        """What people must know of these rows, if anything."""
        if self.probability < _THIN or self.expected < 5:
            return (f"about {self.expected:.1f} training rows are like this (probability {self.probability:.2g}): "
                    "take the rows as a scenario, not as evidence")
        return None


class Keep:
    """Which rows pass: all rules, all conditions, and no key twice."""

    def __init__(self, codec: TableCodec) -> None:
        self._rules = [rule for rule in codec.rules if rule.form not in ("unique", "function", "combination")]
        self._unique = [(rule.columns, set[tuple[Any, ...]]()) for rule in codec.rules if rule.form == "unique"]

    def keeps(self, table: Table) -> NDArray[np.bool_]:
        """Return which rows keep the rules that are about one row, bool [N]."""
        good = np.ones(len(table), bool)
        for rule in self._rules:
            good &= ~rule.broken(table)
        return good

    def passes(self, table: Table, conditions: list[Condition]) -> NDArray[np.bool_]:
        """Return which rows pass, bool [N]."""
        good = self.keeps(table)
        for condition in conditions:
            good &= condition.met(table)
        for columns, seen in self._unique:
            new = set[tuple[Any, ...]]()  # not a copy of all that was seen: that would grow with the square of the rows
            for row, key in enumerate(self._keys(table, columns)):
                if good[row] and None not in key:
                    good[row] = key not in seen and key not in new
                    new.add(key)
        return good

    def remember(self, table: Table) -> None:
        """Note the keys of rows that were given out."""
        for columns, seen in self._unique:
            seen.update(key for key in self._keys(table, columns) if None not in key)

    @staticmethod
    def _keys(table: Table, columns: list[str]) -> list[tuple[Any, ...]]:
        return list(zip(*(table.data[name].to_pylist() for name in columns), strict=True))


def hopeless(drawn: int, name: str) -> ControlError:
    """Return what to raise when nothing that was drawn passes; `name` says what was asked."""
    return ControlError(f"none of {drawn:,} rows meets {name}", where="conditions",
                        fix="no such record may exist, or no value of a unique key is left; ask for fewer rows, or for "
                            "less")
