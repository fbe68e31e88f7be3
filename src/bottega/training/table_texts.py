"""The model of a table's free texts, trained after the table's own: the rest of a row is the question, its text the
answer. `bottega table fit notes.csv --texts` makes one.

A small transformer with a text codec of its own learns it by the loop and the objective of every conversation, on
training rows only. It has as long again as the table had, or as many steps, and ends when its held-out loss does not
fall any more. Columns of too few texts are not learned: what a few rows say would be known by heart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bottega import families
from bottega.codecs.table import TableCodec
from bottega.codecs.table_texts import FOLDER, MARKS, RowPrompts
from bottega.codecs.text import TextCodec
from bottega.core.bundle import Bundle
from bottega.core.progress import say, timed
from bottega.core.recipe import Budget, GeneratorSpec, Recipe, TrainingSpec
from bottega.core.table import Table
from bottega.data.dataset import SPLITS
from bottega.data.tables.dataset import TableDataset
from bottega.families.base import TokenGenerator
from bottega.objectives.row_texts import RowTexts
from bottega.training.beside import Beside
from bottega.training.loop import train

FEWEST = 20                     # different texts of a column under which it is not learned
_MOST = {"train": 100_000, "validation": 4000}  # rows that are learned from: a small model takes in no more
_COLUMNS = 64                   # that a prompt tells
_LONGEST = 1024                 # tokens of a prompt and its text; a text that is longer is left out, none is cut
_SHORTEST, _NEARLY = 256, 0.995  # least context, into which short texts are packed; share of texts that must fit it
_BATCH, _EPOCH = 4096, 16       # tokens a step, and the fewest steps that one pass over the texts takes
_PASSES, _STEPS = 12, 300       # passes after which no budget but minutes goes on, or so many steps
_VALIDATION = 8192              # held-out tokens
_DEPTHS = ((500_000, 2), (5_000_000, 3), (50_000_000, 4))  # tokens of training texts → layers; 6 for more
_VOCABULARY = ((100_000, 1024), (1_000_000, 2048))         # letters of training texts → tokens; 4096 for more


@dataclass(frozen=True)
class _Asked:
    """One text of a row with its prompt."""

    column: str
    prompt: str
    text: str


@dataclass(frozen=True)
class _Told:
    """Prompts and texts as conversations; `objectives.sft.Chats` of both splits."""

    asked: dict[str, list[_Asked]]

    def rows(self, split: Any) -> Iterator[dict[str, Any]]:
        """Yield conversations of one question and its answer."""
        for one in self.asked[split]:
            yield {"messages": [{"role": "user", "content": one.prompt}, {"role": "assistant", "content": one.text}],
                   "source": one.column}


def learn_texts(recipe: Recipe, codec: TableCodec, dataset: TableDataset[TableCodec], base: Bundle | None, home: Path,
                *, resume: bool) -> Beside | None:
    """Train the model of a table's texts; None when none are wanted, or none can be learned.

    Args:
        recipe: of the table: its seed, its budget and its loop.
        codec: of the table.
        dataset: both splits; only training rows are learned from.
        base: the table's model that is trained further: its model of text is, too.
        home: the workshop; the run lies in the table's run.
        resume: go on from the last checkpoint.

    Raises:
        BottegaError: as in `loop.train`.
    """
    if not codec.spec.texts:
        return None
    tables = {split: _table(dataset, codec, split) for split in SPLITS}
    known = base.path / FOLDER if base is not None and (base.path / FOLDER).is_dir() else None
    columns = [column.name for column in codec.schema.columns if column.kind == "text" and _enough(column.name, tables)]
    if not columns:
        return None
    model = families.load(known) if known else None
    given = RowPrompts.load(known).given if known else [column.name for column in codec.schema.learned][:_COLUMNS]
    if known is None:
        with timed("training a codec of the texts"):
            words = TextCodec.train(_words(tables["train"], given, columns, codec.spec.protect), _vocabulary(
                sum(len(text) for name in columns for text in _texts(tables["train"], name))))
    else:
        words = TextCodec.load(known)
    prompts, told, lengths = _fitting(tables, given, columns, words, int(model.config.context) if model else _LONGEST)
    if not told.asked["train"] or not told.asked["validation"]:
        say("warning: no text is both short enough and held out, so texts come out empty")
        return None
    tokens = sum(lengths["train"])
    nearly = max(int(np.quantile(lengths["train"], _NEARLY)), min(lengths["validation"]))
    context = min(_LONGEST, max(_SHORTEST, -(-nearly // 64) * 64))
    if model:
        context = int(model.config.context)
        model.begin_again()
    else:
        model = _fresh(recipe.seed, tokens, words, context)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    batch = max(context, min(_BATCH, tokens // _EPOCH))
    spec = _spec(recipe.training, context, batch, tokens)
    objective: Any = RowTexts(model, words, told, context=context, batch_tokens=batch,
                              micro_batch=max(1, _BATCH // context), seed=recipe.seed, validation_tokens=_VALIDATION)
    if known:
        objective.kind = "sft"
    count = sum(parameter.numel() for parameter in model.parameters())
    say(f"texts of {', '.join(prompts.written)}: a transformer of {count:,} parameters, {len(told.asked['train']):,} "
        f"texts, {tokens:,} tokens with what they are told")
    result = train(objective, spec, run=home / "runs" / recipe.name / FOLDER, seed=recipe.seed, resume=resume,
                   facts={"data": dataset.digest, "codec": words.digest, "context": context, "batch": batch,
                          "seed": recipe.seed, "budget": spec.budget.model_dump(mode="json")}, cache=home / "cache")
    figures = result.metrics
    if result.tokens < tokens:
        say(f"warning: {result.tokens / tokens:.0%} of the texts were read in this budget, so what is written may be "
            "noise; train for longer")

    def write(folder: Path) -> None:
        (folder / FOLDER).mkdir()
        model.save(folder / FOLDER)
        words.save(folder / FOLDER, context)
        prompts.save(folder / FOLDER)

    return Beside(write=write, name=FOLDER, cost_before=result.cost_before, facts={
        "columns": list(prompts.written), "parameters": count, "texts": len(told.asked["train"]), "metrics": figures,
        "steps": result.steps, "seconds": result.seconds}, line=f"{', '.join(prompts.written)}: a transformer of "
        f"{count:,} parameters; held-out nats a token {figures['loss']:.3f}, untrained {figures['untrained']:.3f}")


def _table(dataset: TableDataset[TableCodec], codec: TableCodec, split: Any) -> Table:
    """Return rows as the table's model makes them, with their own texts: prompts tell nothing that it never makes."""
    rows, codes = dataset.table(split), dataset.codes(split)
    take = np.arange(min(len(rows), _MOST[split]), dtype=np.int64) * len(rows) // min(len(rows), _MOST[split])
    rows = rows.take(take)
    made = codec.decode(np.asarray(codes[take]), np.asarray(dataset.places(split)[take]),
                        rng=np.random.default_rng(0))
    data = made.data
    for place, column in enumerate(codec.schema.columns):
        if column.kind == "text":
            data = data.set_column(place, column.name, rows.data[column.name])
    return Table(codec.schema, data)


def _texts(table: Table, name: str) -> list[str]:
    return [text for text in table.data[name].to_pylist() if text is not None]


def _enough(name: str, tables: dict[Any, Table]) -> bool:
    different = len(set(_texts(tables["train"], name)))
    if different < FEWEST:
        say(f"warning: '{name}' has {different} different texts among the training rows, too few to learn from "
            f"(fewest: {FEWEST}); it comes out empty")
    return different >= FEWEST


def _words(table: Table, given: list[str], columns: list[str], protect: int) -> Iterator[str]:
    """Yield what the codec learns its merges from: no word of a text that fewer than `protect` rows hold."""
    rows = zip(*(table.data[name].to_pylist() for name in columns), strict=True)
    held = Counter(word for row in rows for word in {word for text in row if text for word in text.split()})
    yield from RowPrompts(given=given, written=dict.fromkeys(columns[:1], 1)).of(table, columns[0])
    for name in columns:
        yield f"{name}:"
        for text in _texts(table, name):
            yield " ".join(word for word in text.split() if held[word] >= protect)


def _vocabulary(letters: int) -> int:
    return next((size for most, size in _VOCABULARY if letters < most), 4096)


def _fitting(tables: dict[Any, Table], given: list[str], columns: list[str], words: TextCodec,
             most: int) -> tuple[RowPrompts, _Told, dict[str, list[int]]]:
    """Return prompts of the columns whose texts fit `most` tokens, the texts that do, and the tokens of each."""
    prompts, lengths = RowPrompts(given=given, written={}), dict[str, list[int]]()
    told = _Told({split: [] for split in SPLITS})
    for column in columns:
        fits: dict[str, list[tuple[_Asked, int, int]]] = {}
        for split in SPLITS:
            rows = tables[split].take(tables[split].data[column].is_valid().to_numpy())
            asked = [_Asked(column, *both) for both in zip(prompts.of(rows, column), _texts(rows, column), strict=True)]
            before, after = ([len(ids) for ids in words.encode_batch(said)] for said in
                             ([one.prompt for one in asked], [one.text for one in asked]))
            fits[split] = [(one, text, MARKS + prompt + text) for one, prompt, text in
                           zip(asked, before, after, strict=True) if MARKS + prompt + text <= most]
            if len(asked) > len(fits[split]):
                say(f"{len(asked) - len(fits[split])} of {len(asked)} {split} texts of '{column}' are longer than "
                    f"{most} tokens with what they are told and are left out")
        different = len({one.text for one, *_ in fits["train"]})
        if different < FEWEST:
            say(f"warning: '{column}' comes out empty: {different} different ones of its texts are short enough, at "
                f"least {FEWEST} must be")
            continue
        longest = 1 + max(text for _, text, _ in fits["train"])
        prompts = prompts.model_copy(update={"written": {**prompts.written, column: longest}})
        for split in SPLITS:
            told.asked[split].extend(one for one, *_ in fits[split])
            lengths.setdefault(split, []).extend(length for *_, length in fits[split])
    return prompts, told, lengths


def _fresh(seed: int, tokens: int, words: TextCodec, context: int) -> TokenGenerator:
    torch.manual_seed(seed)
    depth = next((depth for most, depth in _DEPTHS if tokens < most), 6)
    special = {"bos": words.bos, "eos": words.eos, "pad": words.pad, "end": words.end_of_turn}
    return families.build(GeneratorSpec(family="transformer", depth=depth), vocab_size=words.vocab_size,
                          context=context, special=special)


def _spec(table: TrainingSpec, context: int, batch: int, tokens: int) -> TrainingSpec:
    """Return the table's loop with what a model of text needs: its own rates, and a budget that is no longer."""
    budget = table.budget
    if budget.minutes is None:
        steps = budget.steps or -(-(budget.tokens or 0) // (table.batch or 256))
        budget = Budget(steps=min(steps, max(_STEPS, -(-_PASSES * tokens // batch))))
    return table.model_copy(update={
        "budget": budget, "context": context, "batch_tokens": batch, "batch": None, "micro_batch": None,
        "optimizer": "muon", "learning_rate": None, "learning_rate_rest": None, "weight_decay": 0.1,
        "validate_every": 0.05, "validation_tokens": _VALIDATION, "sample_every": 0.0})
