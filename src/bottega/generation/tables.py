"""A loaded model of tables: `bottega generate "" --model patients-table --rows 5000 --where "diagnosis = malignant"`.

Rows come in chunks. Every finished row is checked against all rules and conditions; what does not pass is drawn again,
so that what comes out keeps them all, and the number of rows is the one that was asked for.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from bottega.codecs.table import TableCodec
from bottega.codecs.table_ids import FreshIds
from bottega.core.bundle import Bundle
from bottega.core.errors import InputError
from bottega.core.request import Controls, Output, Request, Result, Step
from bottega.core.table import Table, join
from bottega.families.bases import open_generator
from bottega.families.tabular import Tabular
from bottega.generation import table_conditions, table_parts, table_scoring, table_sequences
from bottega.generation.signature import bundle_of, origin, signature
from bottega.generation.table_conditions import Condition
from bottega.generation.table_gaps import Filled, Filler
from bottega.generation.table_keep import HOPELESS, IDS, Keep, Support, hopeless
from bottega.generation.table_sampler import CHUNK, LARGE, Sampler, chunks_of
from bottega.generation.table_writer import TextWriter, filled, written

_ROWS = 1000        # when nobody says how many
_MANY = 20_000  # rows from which on they are made in large chunks, which go faster and mix less
_SHARES = 1 << 30  # number of the chunk that shares are read from


@dataclass(frozen=True)
class TablePlan:
    """A settled request of rows.

    Attributes:
        request: with the settled controls.
        seed: that makes the same rows again.
        rows: to make; of sequences, entities: each comes with all its rows.
        conditions: in the types of the columns.
        wanted: outputs: one table.
        prompt: tokens read: none.
    """

    request: Request
    seed: int
    rows: int
    conditions: tuple[Condition, ...]
    wanted: int = 1
    prompt: tuple[int, ...] = ()

    @property
    def controls(self) -> Controls:
        """The settled controls."""
        return self.request.controls


class TableEngine:
    """One model of a table.

    Args:
        model: in evaluation mode.
        codec: of its columns.
        controls: defaults that came with the model.
        model_digest: digest of the bundle.
        lineage: where the model came from.
        writer: of free texts; without one they come out empty.

    Attributes:
        family: for messages.
        understands: controls it obeys.
    """

    family = "tabular"
    understands = Tabular.understands
    at_once = 1
    takes_turns = True

    def __init__(self, model: Tabular, codec: TableCodec, *, controls: Controls, model_digest: str,
                 lineage: dict[str, Any], writer: TextWriter | None = None) -> None:
        self.model, self.codec, self.writer = model, codec, writer
        self.model_digest, self.lineage = model_digest, lineage
        self.controls = controls

    @classmethod
    def open(cls, model: Path | Bundle) -> TableEngine:
        """Verify a bundle and load it.

        Raises:
            InputError: no such folder, not a bundle, or not a model of tables.
            CorruptError: a file does not match the manifest.
        """
        bundle = bundle_of(model, "table", "a table")
        loaded = cast(Tabular, open_generator(bundle, "cuda" if torch.cuda.is_available() else "cpu"))
        return cls(loaded, TableCodec.load(bundle.path), controls=bundle.controls, model_digest=bundle.digest,
                   lineage=origin(bundle), writer=TextWriter.open(bundle.path))

    def plan(self, request: Request) -> TablePlan:
        """Settle a request.

        Raises:
            ControlError: an unknown control, column or level, or conditions that no row can meet.
            InputError: a prompt, a picture or a conversation.
        """
        request.controls.require(self.understands, self.family)
        if request.messages is not None or request.prompt or request.suffix is not None or request.of_pictures:
            raise InputError("a model of a table takes no text", where="prompt",
                             fix='leave it empty and say what is wanted with conditions: --where "age > 70"')
        controls = request.controls.over(self.controls)
        conditions = tuple(table_conditions.of(controls.conditions or {}, self.codec))
        table_conditions.allowed(list(conditions), self.codec)  # refuses what cannot be
        table_parts.check(controls, self.codec)
        if controls.seed is None:
            controls = controls.model_copy(update={"seed": secrets.randbits(53)})
        assert controls.seed is not None
        return TablePlan(request.model_copy(update={"controls": controls}), controls.seed, controls.rows or _ROWS,
                         conditions)

    def steps(self, plan: TablePlan) -> Iterator[list[Step]]:
        """Yield chunks of rows: the data of a step is a `Table`; the last one says `finish`, and what to know of them.

        Raises:
            ControlError: no row that was drawn meets the conditions.
        """
        for index, (table, support) in enumerate(self.chunks(plan)):
            left = plan.rows - support.made
            told = (support.warning,) if not left and support.warning else ()
            yield [Step(output=0, index=index, kind="row", data=table, finish=None if left else "end", changes=told)]

    def chunks(self, plan: TablePlan) -> Iterator[tuple[Table, Support]]:
        """Yield the rows of a plan in tables of at most `LARGE`, each with what was seen of their support so far.

        Raises:
            ControlError: as in `steps`.
        """
        temperature = 1.0 if plan.controls.temperature is None else plan.controls.temperature
        if self.codec.layout is not None:
            found = table_parts.parts(plan.controls, plan.rows, self.codec, lambda: join([]))  # fair is refused
            yield from table_sequences.chunks(self.model, self.codec, found, plan.seed, temperature,
                                              asked=bool(plan.conditions))
            return
        sampler = Sampler(self.model, [latent.coding.forbidden for latent in self.codec.latents], temperature)
        size = LARGE if plan.rows >= _MANY else CHUNK
        keep, ids, support, chunk, empty = Keep(self.codec), FreshIds(), Support(expected=self.codec.rows), 0, 0
        for part in table_parts.parts(plan.controls, plan.rows, self.codec, lambda: self._marginals(plan, sampler)):
            left, drawing = part.rows, chunks_of(sampler, size, plan.seed, chunk, part.asked)
            while left:
                drawn = next(drawing)
                rng = np.random.default_rng([plan.seed, chunk, IDS])
                table = self.codec.decode(drawn.codes, drawn.places, rng=rng, ids=ids)
                table = table.take(keep.passes(table, part.conditions))
                if plan.conditions:
                    support.see(drawn.probability, size, len(table), self.codec.rows)
                chunk += 1
                empty = 0 if len(table) else empty + 1
                if empty >= HOPELESS:
                    raise hopeless(empty * size, part.name)
                table = table.head(left)
                keep.remember(table)
                left -= len(table)
                pieces = written(table, self.writer, seed=plan.seed, first=support.made, temperature=temperature) \
                    if self.codec.spec.texts else [table] if len(table) else []
                for piece in pieces:
                    support.made += len(piece)
                    yield piece, support
            drawing.close()

    def _marginals(self, plan: TablePlan, sampler: Sampler) -> Table:
        """Return rows under the conditions alone, from which the shares of columns are read."""
        asked = table_conditions.allowed(list(plan.conditions), self.codec)
        drawn = sampler.draw(LARGE, plan.seed, _SHARES, asked=asked)
        rng = np.random.default_rng([plan.seed, _SHARES, IDS])
        table = self.codec.decode(drawn.codes, drawn.places, rng=rng, ids=FreshIds())
        table = table.take(Keep(self.codec).passes(table, list(plan.conditions)))
        if not len(table):
            raise hopeless(LARGE, " and ".join(condition.text for condition in plan.conditions) or "the rules")
        return table

    def sample(self, rows: int, *, seed: int = 0, conditions: Mapping[str, Any] | list[str] | None = None,
               balance: Mapping[str, Mapping[str, float]] | None = None, fair: Mapping[str, str] | None = None,
               temperature: float | None = None) -> Table:
        """Return rows; of a model of sequences, `rows` entities with all their rows. See `Controls` for what to ask.

        Raises:
            ControlError: as in `plan` and `steps`.
        """
        given = {"conditions": conditions or None, "balance": balance or None, "fair": fair or None,
                 "temperature": temperature}
        controls = Controls.parse({"rows": rows, "seed": seed, **{key: value for key, value in given.items()
                                                                  if value is not None}})
        return join(table for table, _ in self.chunks(self.plan(Request(prompt="", controls=controls))))

    def impute(self, table: Table, *, seed: int = 0) -> Filled:
        """Return the rows with every missing value of a learned column drawn, given the rest of its row; texts last.

        What is filled keeps all rules, as far as what is given does; rows that are wrong all the same are told.

        Raises:
            DataError: a column of the model is missing.
            InputError: a model of sequences: what fits a gap depends on the rows after it too, and it reads forward.
        """
        if self.codec.layout is not None:
            raise InputError(f"a model of the rows of each '{self.codec.layout.entity}' cannot fill gaps: what fits "
                             "depends on the rows after it too, and the model reads only those before",
                             where="codec.entity", fix="fit the table without an entity for that")
        found = Filler(self.model, self.codec, table, seed).fill()
        if not self.codec.spec.texts:
            return found
        return Filled(filled(found.table, Table(self.codec.schema, table.data), self.writer, seed=seed), found.notes)

    def log_prob(self, table: Table, *, orders: int = 1, seed: int = 0) -> NDArray[np.float64]:
        """Return the log-probability of each row's codes in nats, float64 [N], as the mean over random orders.

        Rows the model finds improbable are outliers; a falling mean over time is drift. One that cannot be has minus
        infinity. Of sequences a row is judged given its entity and the rows before; see `table_scoring`.
        """
        return table_scoring.log_prob(self.model, self.codec, table, orders=orders, seed=seed)

    def impossible(self, table: Table) -> list[str]:
        """Return for each row why the model can never make it, "" where it can; see `table_possible`."""
        return table_scoring.impossible(self.codec, table)

    def predict(self, table: Table, column: str) -> tuple[NDArray[np.float32], list[str]]:
        """Return the probability of each level of a coded column given the rest of each row, float32 [N, levels].

        Raises:
            ControlError: the model does not learn that column as levels, or it is the same in all rows of an entity.
        """
        return table_scoring.predict(self.model, self.codec, table, column)

    def result(self, plan: TablePlan, steps: list[Step], seconds: float) -> Result:
        """Sign what was made."""
        return Result(outputs=[Output(steps=steps, finish="end")], prompt_tokens=0, new_tokens=plan.rows,
                      seed=plan.seed, seconds=seconds, model=self.model_digest, lineage=self.sign(plan))

    def generate(self, request: Request) -> Result:
        """Make the rows of a request; each step of the output holds a table.

        Raises:
            ControlError, InputError: as in `plan` and `steps`.
        """
        plan, start = self.plan(request), time.perf_counter()
        made = [step for steps in self.steps(plan) for step in steps]
        return self.result(plan, made, time.perf_counter() - start)

    def sign(self, plan: TablePlan) -> dict[str, Any]:
        """Return what makes the rows again: model, digest of the request, settled controls, code."""
        return signature(self.lineage, self.model_digest, plan)
