"""Texts that repeat training rows are counted, whole or in passages, and stop a release when held-out ones do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bottega.core.table import Column, Schema, Table
from bottega.evaluation.table_repeats import repeated
from bottega.evaluation.tables import QUICK_ROWS, gate, judge_table

WORDS = [f"word{number}" for number in range(400)]


def _notes(count: int, seed: int, *, stock: float = 0.0) -> Table:
    """Rows with a text of fifteen words each; a share of them holds one stock phrase instead."""
    rng = np.random.default_rng(seed)
    texts = ["thank you for your call" if rng.random() < stock else " ".join(rng.choice(WORDS, 15))
             for _ in range(count)]
    return _table(age=rng.integers(18, 90, count), note=texts)


def _table(**columns: Any) -> Table:
    data = pa.table(columns)
    kinds = {"age": "integer", "note": "text"}
    return Table(Schema(columns=[Column.model_validate({"name": name, "kind": kinds[name], "arrow": str(kind)})
                                 for name, kind in zip(data.schema.names, data.schema.types, strict=True)]), data)


def _with(table: Table, texts: list[str]) -> Table:
    """The same rows, the first of which have other texts."""
    notes = [*texts, *table.data["note"].to_pylist()[len(texts):]]
    return Table(table.schema, table.data.set_column(1, "note", pa.array(notes)))


@pytest.mark.parametrize(("text", "share"), [
    ("a b c d e f g h i j k l", 1.0),                # whole
    ("A  b c\nd e f g h i j k l", 1.0),              # another case, other spaces
    ("x y a b c d e f g h i j z", 1.0),              # ten words in a row
    ("x y a b c d e f g h i z", 0.0),                # nine
    ("short one", 1.0), ("short", 0.0), ("", 0.0)])
def test_what_counts_as_repeated(text: str, share: float) -> None:
    train = _table(age=[1, 2, 3], note=["a b c d e f g h i j k l", "Short  one", None])
    assert repeated(_table(age=[1], note=[text]), train)["note"]["value"] == share


@pytest.mark.parametrize(("text", "share"), [
    ("患者三天前无明显诱因出现发热伴咳嗽，体温最高三十九度。", 1.0),
    ("患者三天前无明显诱因出现发热伴咳嗽，体温最高三十八度。", 1.0),
    ("女性五天前无明显诱因出现发热，伴头痛。", 0.0)])
def test_passages_are_found_where_words_have_no_spaces_between_them(text: str, share: float) -> None:
    train = _table(age=[1], note=["患者三天前无明显诱因出现发热伴咳嗽，体温最高三十九度。"])
    assert repeated(_table(age=[1], note=[text]), train)["note"]["value"] == share


def test_no_texts_say_nothing() -> None:
    train = _table(age=[1, 2], note=["one", "two"])
    assert repeated(_table(age=[1], note=pa.array([None], pa.string())), train) == {}


def test_planted_texts_of_training_rows_are_refused() -> None:
    train, held, made = _notes(2 * QUICK_ROWS, 0), _notes(200, 1), _notes(400, 2)
    honest = judge_table(made, train, held, seed=0, quick=True)
    assert honest.score("repeated texts").value == 0
    assert not [reason for reason in gate(honest) if "texts" in reason]
    # memorised ones: the last rows, that a quick look may not sample; one word of each is another
    known = train.data["note"].to_pylist()[-60:]
    planted = _with(made, [text.rsplit(" ", 1)[0] + " changed" for text in known])
    caught = judge_table(planted, train, held, seed=0, quick=True)
    found = caught.score("repeated texts")
    assert found.value == pytest.approx(0.15)
    assert found.references["fresh"] == 0
    assert found.references["copy"] == 1
    assert any("15.0% of the texts in 'note'" in reason for reason in gate(caught))


def test_phrases_that_everyone_says_are_no_leak() -> None:
    train, held, made = (_notes(count, seed, stock=0.3) for count, seed in ((1000, 0), (300, 1), (400, 2)))
    scores = judge_table(made, train, held, seed=0, quick=True)
    assert scores.score("repeated texts").value > 0.2
    assert not [reason for reason in gate(scores) if "texts" in reason]
