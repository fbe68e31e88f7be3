"""Gaps of rows, filled so that every rule is kept: `bottega table impute gaps.csv -m patients -o filled.csv`.

Values that are missing are drawn given the rest of their row. A code that cannot go with what is given is not drawn; of
an order whose larger side is given, and of a formula whose result is, several fills are drawn and one is chosen in
proportion to how probable it makes what is given (sampling importance resampling: Rubin 1987). Every filled row is then
checked, and one that breaks a rule is drawn again. `pytest tests/generation/test_table_gaps.py` exercises it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.codecs.table import TableCodec
from bottega.codecs.table_ids import FreshIds
from bottega.core.table import Table, as_text, join
from bottega.families.tabular import Tabular
from bottega.generation.table_complete import barred, complete, log_width, told
from bottega.generation.table_keep import IDS
from bottega.generation.table_possible import faults
from bottega.generation.table_sampler import CHUNK, Sampler
from bottega.generation.table_scoring import summed

_ROUNDS = 24      # draws of a row that breaks a rule, after which its gaps are left
_FILLS = 16       # of a row that are weighed against each other, or drawn at once after the first round
_CHOICE = 1 << 26  # kind of chance for the one that is chosen
_TOLD = 10        # rows that are told one by one
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Filled:
    """Rows without gaps.

    Attributes:
        table: in the order that they came in; what was given is as it was.
        notes: what people must know: rows that cannot be, and rows whose gaps nothing was found for.
    """

    table: Table
    notes: list[str]


class Filler:
    """Fills the gaps of one table.

    Args:
        model: in evaluation mode, not of sequences.
        codec: of it.
        table: rows with gaps.
        seed: of all chance.
    """

    def __init__(self, model: Tabular, codec: TableCodec, table: Table, seed: int) -> None:
        self._model, self._codec, self._seed = model, codec, seed
        self._given = Table(codec.schema, table.data)
        codings = [latent.coding for latent in codec.latents]
        gone = [[coding.size - 1] if coding.missing and coding.size > 1 else [] for coding in codings]
        self._sampler = Sampler(model, [coding.forbidden + more for coding, more in zip(codings, gone, strict=True)])
        self._codes, self._places = codec.encode(self._given)
        self._hopeless = [fault.rows for fault in faults(codec, self._given, gaps=True)]
        self._keys = [(rule.columns, set[tuple[Any, ...]]()) for rule in codec.rules if rule.form == "unique"]
        self._chunk = 0
        self._ids = FreshIds({column.name: dict.fromkeys(as_text(self._given.data[column.name]).to_pylist())
                              for column in codec.schema.columns if column.kind == "id"})

    def fill(self) -> Filled:
        """Return the rows with their gaps filled."""
        gaps = np.stack([self._given.data[name].is_null().to_numpy() for name in self._codec.schema.names], 1)
        for columns, seen in self._keys:
            seen.update(_keys(self._given, columns))
        done, place, empty = [self._given], np.arange(len(gaps)), list[int]()
        total = len(gaps)
        for pattern in np.unique(gaps[gaps.any(1)], axis=0):
            missing = {name for name, hole in zip(self._codec.schema.names, pattern, strict=True) if hole}
            left = np.flatnonzero((gaps == pattern).all(1))
            for turn in range(_ROUNDS):
                copies = _FILLS if turn or told(self._codec, missing) else 1
                failed = []
                for first in range(0, len(left), CHUNK):
                    part = left[first:first + CHUNK]
                    rows, table = self._draw(part, missing, copies, strict=turn < _ROUNDS // 2,
                                             cut=turn == _ROUNDS - 1)
                    done.append(table)
                    place[rows], total = total + np.arange(len(rows)), total + len(rows)
                    failed.append(np.setdiff1d(part, rows))
                left = np.concatenate(failed)
                if not len(left):
                    break
            empty += left.tolist()
        table = join(done).take(place)
        return Filled(table, self._notes(table, empty))

    def _draw(self, part: Rows, missing: set[str], copies: int, *, strict: bool, cut: bool) -> tuple[Rows, Table]:
        """Return which of some rows were filled, and these.

        Args:
            part: rows that all miss the same columns.
            missing: these.
            copies: fills of each row to choose from.
            strict: values that the model never makes are not taken either.
            cut: see `complete`; below the smallest value that is made there are some that were seen.
        """
        codec, rows = self._codec, np.repeat(part, copies)
        given = self._given.take(rows)
        whole = np.array([missing.isdisjoint(latent.columns) for latent in codec.latents], bool)
        weighed = np.isin(np.arange(len(whole)), told(codec, missing))
        self._chunk += 1
        drawn = self._sampler.draw(len(rows), self._seed, self._chunk, columns=~whole & ~weighed,
                                   fixed=(self._codes[rows], self._places[rows], whole),
                                   barred=barred(codec, given, missing))
        made = codec.decode(drawn.codes, drawn.places, rng=np.random.default_rng([self._seed, self._chunk, IDS]),
                            ids=self._ids)
        table = complete(codec, made, given, missing, cut=cut)
        good = np.ones(len(rows), bool)
        for fault, before in zip(faults(codec, table, gaps=True), self._hopeless, strict=True):
            if fault.kind == "rule" or (fault.kind == "value" and strict):
                good &= ~fault.rows | before[rows]
        weight = np.zeros(len(rows))
        if weighed.any():
            codes, places = codec.encode(table)
            weight = summed(self._model, codes, places, ~weighed, weighed, 1, self._seed)
            for index in np.flatnonzero(weighed).tolist():
                weight -= log_width(codec, index)[codes[:, index]]
            weight += np.random.default_rng([self._seed, self._chunk, _CHOICE]).gumbel(size=len(rows))
        chosen = self._chosen(table, good, weight, copies, missing)
        return rows[chosen], table.take(chosen)

    def _chosen(self, table: Table, good: Mask, weight: NDArray[np.float64], copies: int, missing: set[str]) -> Rows:
        """Return which fills are taken: of each row's copies the good one of most weight whose keys are new."""
        order = np.argsort(-np.where(good, weight, -np.inf).reshape(-1, copies), axis=1, kind="stable")
        order += np.arange(len(order))[:, None] * copies
        unique = [(_keys(table, columns), seen) for columns, seen in self._keys if not missing.isdisjoint(columns)]
        found = []
        for row in order.tolist():
            for copy in row:
                if good[copy] and all(keys[copy] not in seen for keys, seen in unique):
                    found.append(copy)
                    for keys, seen in unique:
                        seen.add(keys[copy])
                    break
        return np.array(found, np.int64)

    def _notes(self, table: Table, empty: list[int]) -> list[str]:
        why = dict.fromkeys(empty, "nothing that was drawn keeps the rules, so its gaps are left")
        for fault in faults(self._codec, table, gaps=True):
            for row in np.flatnonzero(fault.rows).tolist():
                why.setdefault(row, f"{fault.say(row)}; what was given is not changed")
        rows = sorted(why)
        return [f"row {row + 1}: {why[row]}" for row in rows[:_TOLD]] + \
            ([f"and {len(rows) - _TOLD} rows more"] if len(rows) > _TOLD else [])


def _keys(table: Table, columns: list[str]) -> list[tuple[Any, ...]]:
    """Return the key of each row; a missing value makes one that no other row has."""
    rows = zip(*(table.data[name].to_pylist() for name in columns), strict=True)
    return [key if None not in key else (object(),) for key in rows]
