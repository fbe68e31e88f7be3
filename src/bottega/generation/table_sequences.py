"""Sequences from a `tabular` model: entities first, then the rows of each, one after the other.

    bottega generate visits --rows 500 --where "severity = high" -o made.csv

An entity, with how many rows it has, is drawn as it stands at the first place; then each row, given the entity, the
place and what the rows before hold, until the entity has all its rows. A row that breaks a rule is drawn again; an
entity of which no row passes is drawn anew. Exercised by `pytest tests/generation/test_table_sequences_made.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.codecs.table import TableCodec
from bottega.codecs.table_ids import FreshIds
from bottega.core.table import Table, join, typed
from bottega.families.tabular import Tabular
from bottega.generation.table_keep import HOPELESS, IDS, Keep, Support, hopeless
from bottega.generation.table_memory import Memory
from bottega.generation.table_parts import Part
from bottega.generation.table_sampler import CHUNK, Allowed, Drawn, Sampler

_TRIES = 4        # draws of a row that breaks a rule, after which its entity is given up
_COPIES = 16      # of such a row in a draw, as far as there is room in the chunk: they cost nothing there
_TOGETHER = 16    # chunks of entities that are made together: their late rows share chunks


class SequenceSampler:
    """Draws entities and their rows.

    Args:
        model: in evaluation mode.
        codec: with a layout.
        seed: of all chance.
        temperature: 1 is the model's own distribution.
    """

    def __init__(self, model: Tabular, codec: TableCodec, *, seed: int, temperature: float = 1.0) -> None:
        assert codec.layout is not None
        self.codec, self.layout, self.seed = codec, codec.layout, seed
        self._keep, self._chunk = Keep(codec), 0
        forbidden = [latent.coding.forbidden for latent in codec.latents]
        self._first = Sampler(model, forbidden, temperature)
        self._next = Sampler(model, [more + gone for more, gone in zip(forbidden, self._never_missing(), strict=True)],
                             temperature)
        self._of_entity = codec.within(self.layout.of_entity)
        self._known = codec.within([*self.layout.of_entity, *self.layout.given])

    def _never_missing(self) -> list[list[int]]:
        """Return the code of missing of columns that are missing only where there is no row, or none before."""
        flat, found = self.layout.flat, []
        whole = {self.layout.step(column.name) for column in flat.columns if not column.missing}
        for latent in self.codec.latents:
            coding = latent.coding
            sure = latent.kind == "plain" and latent.columns[0] in self.layout.of_row and latent.columns[0] in whole
            found.append([coding.size - 1] if sure and coding.missing and coding.size > 1 else [])
        return found

    def entities(self, asked: Mapping[int, Allowed] | None = None) -> tuple[Table, float]:
        """Return a chunk of entities as wide rows of which only the entity's columns say anything.

        Args:
            asked: of latent columns.

        Returns:
            The rows, and how probable the model finds what was asked for.
        """
        start = self._steps(None, CHUNK, 0, Memory.none(self.layout, CHUNK))
        drawn = self._draw(self._first, start, self.codec.within(self.layout.given), self._of_entity, asked)
        table = self._decode(drawn)
        if self.layout.order:  # an entity with rows has a first one
            begun = ~np.isnan(table.values(self.layout.start)) | (table.values(self.layout.count) == 0)
            table = table.take(begun)
        return table, drawn.probability

    def roll(self, entities: Table) -> tuple[Table, NDArray[np.int64]]:
        """Return all rows of entities, flat, and the number of the entity that each belongs to, ascending.

        Entities of which a row cannot be made are left out.
        """
        layout, total = self.layout, entities.values(self.layout.count)
        alive, lost = np.arange(len(entities)), np.zeros(len(entities), bool)
        past = Memory.none(layout, len(alive))
        at: NDArray[np.float64] | None = None
        parts, owners, place = [], [], 0
        while len(alive):
            pieces, left = [], np.arange(len(alive))
            for turn in range(_TRIES):
                failed = []
                copies = max(1, min(_COPIES, CHUNK // len(left))) if turn else 1
                for first in range(0, len(left), CHUNK):
                    rows = np.repeat(left[first:first + CHUNK], copies)
                    mine = entities.take(alive[rows])
                    steps = self._row(mine, place, past.take(rows))
                    now = layout.advance(mine, steps, at[rows] if at is not None else None)
                    flat = layout.flat_rows(mine, steps, now)
                    good = np.flatnonzero(self._keep.keeps(flat))
                    good = good[np.unique(rows[good], return_index=True)[1]]  # the first copy that passes
                    pieces.append((rows[good], steps.take(good), flat.take(good), now[good]))
                    failed.append(np.setdiff1d(rows, rows[good]))
                left = np.concatenate(failed)
                if not len(left):
                    break
            lost[alive[left]] = True
            found = np.concatenate([rows for rows, *_ in pieces])
            order = np.argsort(found)
            parts.append(join([flat for _, _, flat, _ in pieces]))
            owners.append(alive[found])
            steps, now = join([one for _, one, _, _ in pieces]), np.concatenate([one for *_, one in pieces])
            place += 1
            order = order[total[alive[found[order]]] > place]
            kept = found[order]
            past = past.take(kept).later(steps.take(order))
            alive, at = alive[kept], now[order]
        if not parts:
            return layout.flat_rows(entities, entities, total), alive
        owner = np.concatenate(owners)
        order = np.argsort(owner, kind="stable")
        order = order[~lost[owner[order]]]
        return join(parts).take(order), owner[order]

    def _row(self, entities: Table, place: int, past: Memory) -> Table:
        """Draw one row of each of at most `CHUNK` entities; wide rows of which only `of_row` says anything."""
        given, known = self._steps(entities, len(entities), place, past), self._known
        if place == 0 and self.layout.order:  # nothing goes before the first row
            known = known | self.codec.within([self.layout.step(self.layout.order)])
        if not known.all():
            return self._decode(self._draw(self._next, given, known, ~known))
        return given

    def _steps(self, entities: Table | None, rows: int, place: int, past: Memory) -> Table:
        """Return wide rows of what is known before a row is drawn; the rest is missing."""
        import pyarrow as pa

        layout, data, told = self.layout, dict[str, Any](), past.told(place)
        for column in self.codec.schema.columns:
            if column.name == layout.place:
                data[column.name] = pa.array(np.full(rows, min(place, layout.last)))
            elif entities is not None and column.name in layout.of_entity:
                data[column.name] = entities.data[column.name]
            else:
                data[column.name] = told.get(column.name, typed(np.full(rows, np.nan), column))
        return Table(self.codec.schema, pa.table(data))

    def _draw(self, sampler: Sampler, given: Table, known: NDArray[np.bool_], wanted: NDArray[np.bool_],
              asked: Mapping[int, Allowed] | None = None) -> Drawn:
        codes, places = self.codec.encode(given)
        self._chunk += 1
        return sampler.draw(len(given), self.seed, self._chunk, asked=asked, fixed=(codes, places, known),
                            columns=wanted)

    def _decode(self, drawn: Drawn) -> Table:
        return self.codec.decode(drawn.codes, drawn.places, rng=np.random.default_rng([self.seed, self._chunk, IDS]))


def chunks(model: Tabular, codec: TableCodec, parts: Iterable[Part], seed: int, temperature: float, *, asked: bool
           ) -> Iterator[tuple[Table, Support]]:
    """Yield flat rows of entities, each entity whole, with what was seen of their support so far.

    Args:
        model, codec: of sequences.
        parts: what to draw.
        seed, temperature: of all of it.
        asked: whether there are conditions to tell the support of.

    Raises:
        ControlError: nothing that was drawn meets the conditions or keeps the rules.
    """
    sampler, keep, ids, given = SequenceSampler(model, codec, seed=seed, temperature=temperature), Keep(codec), \
        FreshIds(), 0
    support, known = Support(expected=codec.entities), codec.entities
    for part in parts:
        name, allowed, conditions, rows = part.name, part.asked, part.conditions, part.rows
        left, empty = rows, 0
        while left:
            made = []
            for _ in range(min(_TOGETHER, -(-left // CHUNK))):
                table, probability = sampler.entities(allowed)
                fits = np.ones(len(table), bool)
                for condition in conditions:
                    fits &= condition.met(table)
                made.append(table.take(fits))
                if asked:
                    support.see(probability, CHUNK, int(fits.sum()), known)
            entities = join(made)
            flat, owner = sampler.roll(entities.take(np.arange(min(left, len(entities)))))
            rng = np.random.default_rng([seed, given, IDS])
            flat = with_ids(flat, owner, codec, ids, rng)
            good = ~np.isin(owner, owner[~keep.passes(flat, [])])
            flat, owner = flat.take(good), owner[good]
            keep.remember(flat)
            entities_made = len(np.unique(owner))
            empty = 0 if entities_made else empty + len(made)
            if empty >= HOPELESS:
                raise hopeless(empty * CHUNK, name)
            given, left, support.made = given + 1, left - entities_made, support.made + entities_made
            if entities_made:
                yield flat, support


def with_ids(flat: Table, owner: NDArray[np.int64], codec: TableCodec, ids: FreshIds, rng: np.random.Generator
             ) -> Table:
    """Return flat rows with fresh ids: one for each entity, and one for each row in other columns of ids.

    Args:
        flat: N rows.
        owner: number of the entity of each row, int64 [N].
        codec: of sequences.
        ids: that were given out before.
        rng: of their letters.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    layout = codec.layout
    assert layout is not None
    names, number = np.unique(owner, return_inverse=True)
    data = flat.data
    empty = pa.array(flat.values(layout.count) == 0) if layout.parent else None
    for place, column in enumerate(layout.flat.columns):
        if column.kind != "id":
            continue
        if column.name == layout.entity or column.name in layout.parent:
            made = ids.take(column, len(names), rng).take(pa.array(number.reshape(-1)))
        else:
            made = ids.take(column, len(flat), rng)
            made = made if empty is None else pc.if_else(empty, pa.scalar(None, made.type), made)
        data = data.set_column(place, column.name, made)
    return Table(layout.flat, data)
