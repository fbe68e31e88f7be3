"""How probable rows are to a model of tables, and what it expects of a column: `bottega table score new.csv -m visits`.

Of sequences a row is judged given its entity and the rows before it, the first one together with its entity, so that
the sum over an entity's rows is the log-probability of the whole sequence. What comes after a row is not looked at. A
row that cannot be has probability 0; see `table_possible`.
`pytest tests/training/test_table_sequence_scores.py` exercises it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from bottega.codecs.table import TableCodec
from bottega.core.errors import ControlError, DataError
from bottega.core.table import Table
from bottega.core.table_sequences import Layout, Wide
from bottega.families.tabular import Tabular
from bottega.families.tabular_reading import Reading
from bottega.generation.table_possible import reasons
from bottega.generation.table_sampler import LARGE

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


@torch.no_grad()
def log_prob(model: Tabular, codec: TableCodec, table: Table, *, orders: int = 1, seed: int = 0
             ) -> NDArray[np.float64]:
    """Return the log-probability of each row's codes in nats, float64 [N], as the mean over random orders of columns.

    A row that cannot be has minus infinity; `impossible` says why.

    Args:
        model: in evaluation mode.
        codec: of it.
        table: rows as people give them; of sequences, all rows of each entity, in any order.
        orders: of the columns.
        seed: of them.

    Raises:
        DataError: of a sequence: a row has no entity or no order.
    """
    layout, total = codec.layout, np.zeros(len(table))
    every = np.ones(len(codec.latents), bool)
    if layout is None:
        codes, places = codec.encode(Table(codec.schema, table.data))
        total = summed(model, codes, places, ~every, every, orders, seed)
        return _without(total, reasons(codec, table))
    wide = _steps(layout, table)
    codes, places = codec.encode(Table(codec.schema, wide.table.data))
    first = codec.first_rows(codes)
    given, once = codec.within(layout.given), codec.within(layout.of_entity)
    known = codec.within([*layout.of_entity, *layout.given])
    total[wide.rows[first]] = summed(model, codes[first], places[first], given, once, orders, seed)
    there = np.ones(len(codes), bool) if not layout.parent else wide.table.values(layout.count) > 0
    begins = codec.within([layout.step(layout.order)]) if layout.order else ~every  # nothing goes before a first row
    for rows, seen in ((first, known | begins), (np.setdiff1d(np.arange(len(codes)), first), known)):
        rows = rows[there[rows]]
        total[wide.rows[rows]] += summed(model, codes[rows], places[rows], seen, ~seen, orders, seed)
    return _without(total, reasons(codec, table, wide))


def impossible(codec: TableCodec, table: Table) -> list[str]:
    """Return for each row why the model can never make it, "" where it can.

    Args:
        codec: of the model.
        table: rows as people give them; of sequences, all rows of each entity, in any order.

    Raises:
        DataError: of a sequence: a row has no entity or no order.
    """
    return reasons(codec, table, None if codec.layout is None else _steps(codec.layout, table))


def _without(total: NDArray[np.float64], why: list[str]) -> NDArray[np.float64]:
    return np.where([bool(reason) for reason in why], -np.inf, total)


def _steps(layout: Layout, table: Table) -> Wide:
    """Return the steps of rows.

    Raises:
        DataError: a row has no entity or no order.
    """
    for name in (layout.entity, layout.order):
        if not name:
            continue
        gone = np.flatnonzero(table.data[name].is_null().to_numpy())
        if name == layout.order and layout.parent:  # an entity without rows has none
            gone = np.intersect1d(gone, np.flatnonzero(table.values(layout.count) > 0))
        if len(gone):
            raise DataError(f"'{name}' is missing in row {gone[0] + 1}", where=name,
                            fix="fill it in, or take the row out: nobody can tell where it belongs")
    return layout.wide(table)


def summed(model: Tabular, codes: NDArray[np.int32], places: NDArray[np.float32], shown: Mask, asked: Mask,
           orders: int, seed: int) -> NDArray[np.float64]:
    """Return the log-probability of some columns given others, float64 [N]; the rows are all first ones or none is."""
    total = np.zeros(len(codes))
    for number in range(orders):
        order = np.random.default_rng([seed, number]).permutation(len(asked))
        for part, reading, now, inside in _read(model, codes, places, shown):
            for column in order[asked[order]].tolist():
                total[part] += reading.logits(column).log_softmax(1).gather(1, now[:, column, None])[:, 0].cpu().numpy()
                reading.see(column, now[:, column], inside[:, column])
    return total / orders


def _read(model: Tabular, codes: NDArray[np.int32], places: NDArray[np.float32], shown: Mask
          ) -> Iterator[tuple[slice, Reading, torch.Tensor, torch.Tensor]]:
    """Yield parts of the rows, read as far as some columns are shown, with their codes int64 and places."""
    device = model.base.mean.device
    for first in range(0, len(codes), LARGE):
        part = slice(first, first + LARGE)
        now, inside = torch.from_numpy(codes[part]).long().to(device), torch.from_numpy(places[part]).to(device)
        reading = Reading(model, model.base_of(now), len(now))
        for column in np.flatnonzero(shown).tolist():
            reading.see(column, now[:, column], inside[:, column])
        yield part, reading, now, inside


@torch.no_grad()
def predict(model: Tabular, codec: TableCodec, table: Table, column: str) -> tuple[NDArray[np.float32], list[str]]:
    """Return the probability of each level of a coded column given the rest of each row, float32 [N, levels].

    Of sequences also given the entity, how many rows it has, and the rows before; the column is one that varies.

    Args:
        model: in evaluation mode.
        codec: of it.
        table: rows as people give them; of sequences, all rows of each entity, in any order.
        column: to predict; what it holds in the same row is not looked at.

    Raises:
        ControlError: the model does not learn that column as levels, or it is the same in all rows of an entity.
        DataError: of a sequence: a row has no entity or no order.
    """
    layout = codec.layout
    if layout is not None and column in layout.constant:
        raise ControlError(f"'{column}' is the same in all rows of a '{layout.entity}': it is not predicted from one",
                           where="predict", fix=f"name one of {', '.join(layout.varying)}, or fit without an entity")
    place = next((index for index, latent in enumerate(codec.latents)
                  if latent.columns == [column] and latent.kind != "there" and not latent.coding.column.ordered),
                 None)
    if place is None or (layout is not None and column not in layout.varying):
        raise ControlError(f"'{column}' is not learned as levels", where="predict",
                           fix=f"name one of {', '.join(codec.given.names)}")
    wide = None if layout is None else _steps(layout, table)
    codes, places = codec.encode(Table(codec.schema, table.data if wide is None else wide.table.data))
    coding = codec.latents[place].coding
    found = np.zeros((len(table), coding.shown), np.float32)
    first = np.zeros(len(codes), bool)
    if wide is not None:
        first[codec.first_rows(codes)] = True
    shown = np.arange(len(codec.latents)) != place
    for rows in (np.flatnonzero(first), np.flatnonzero(~first)):
        target = rows if wide is None else wide.rows[rows]
        for part, reading, _, _ in _read(model, codes[rows], places[rows], shown):
            found[target[part]] = reading.logits(place)[:, :coding.shown].softmax(1).cpu().numpy()
    return found, coding.column.levels[:coding.shown]
