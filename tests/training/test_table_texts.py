"""Free text of a table: learned from training rows, written from the rest of each row, judged, refused, left empty."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.cli.conftest import bottega
from tests.table_notes import WARDS, fit_notes, write_notes

from bottega import tables
from bottega.codecs.table import TableCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import ControlError, Interrupted, RecipeError
from bottega.core.recipe import Recipe
from bottega.core.request import Controls, Request
from bottega.core.table import Column, Schema, Table
from bottega.data.tables.dataset import TableDataset
from bottega.data.tables.prepare import prepare_table
from bottega.evaluation.table_verdict import TableVerdict
from bottega.evaluation.tables import judge_table
from bottega.generation import table_writer
from bottega.training import loop, table_report, table_texts
from bottega.training.run import make


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notes")


@pytest.fixture(scope="module")
def model(home: Path) -> tables.TableModel:
    return fit_notes(home)


@pytest.fixture(scope="module")
def made(model: tables.TableModel) -> Table:
    return model.sample(200, seed=1)


def _data(model: tables.TableModel, home: Path) -> TableDataset[TableCodec]:
    recipe = Recipe.model_validate(model.bundle.meta["recipe"])
    return prepare_table(recipe.data, TableCodec.of(recipe.codec.overrides), home=home, seed=0)


def test_held_out_texts_are_learned_from_training_rows_alone(model: tables.TableModel, home: Path) -> None:
    told = model.bundle.meta["texts"]
    assert told["columns"] == ["note", "remark"]
    assert told["metrics"]["loss"] < told["metrics"]["untrained"] - 5  # nats a token, of about 7
    train = _data(model, home).table("train")
    assert told["texts"] == sum(len(train) - train.data[name].null_count for name in ("note", "remark"))
    assert "note, remark: a transformer" in (model.bundle.path / "README.md").read_text()


def test_texts_follow_their_rows(made: Table, model: tables.TableModel) -> None:
    rows = made.data.to_pylist()
    for ward in WARDS:
        notes = [row["note"] for row in rows if row["ward"] == ward and row["note"] is not None]
        assert len(notes) >= 10
        assert sum(ward in note for note in notes) > 0.8 * len(notes)
    assert made.data["note"].null_count == pytest.approx(40, abs=15)  # a fifth, as learned
    assert made.data["remark"].null_count == 0
    remarks = made.data["remark"].to_pylist()
    assert sum("体温 正常\nday" in remark and remark.startswith('"Größe') for remark in remarks) > 160
    asked = model.sample(40, seed=2, conditions={"ward": "surgery"}).data["note"].drop_null().to_pylist()
    assert sum("surgery" in note for note in asked) > 0.8 * len(asked)


def test_the_same_seed_makes_the_same_texts_in_pieces_of_any_size(model: tables.TableModel, made: Table) -> None:
    again = model.sample(200, seed=1)
    assert again.data.equals(made.data)
    assert not model.sample(200, seed=2).data["remark"].equals(made.data["remark"])
    writer = model.engine.writer
    assert writer is not None
    if writer.dtype == "fp16":  # where the engine promises that outputs do not depend on their batch
        assert model.sample(70, seed=1).data.equals(made.data.slice(0, 70))


def test_rows_come_piece_by_piece(model: tables.TableModel) -> None:
    plan = model.engine.plan(Request(prompt="", controls=Controls(rows=150, seed=3)))
    steps = [step for some in model.engine.steps(plan) for step in some]
    assert [len(step.data) for step in steps] == [64, 64, 22]
    assert [step.finish for step in steps] == [None, None, "end"]


def test_gaps_are_filled_and_rows_scored(model: tables.TableModel, made: Table) -> None:
    known = made.data["note"].to_pylist()
    filled = model.impute(made)
    for before, row in zip(known, filled.data.to_pylist(), strict=True):
        assert row["note"] == before if before is not None else row["ward"][:4] in row["note"]
    assert filled.data["note"].null_count == 0
    assert model.log_prob(made).shape == (200,)
    with pytest.raises(ControlError, match="'note' is not learned as levels"):
        model.predict(made, "note")


def test_a_row_that_says_more_than_any_in_training_still_gets_its_text(model: tables.TableModel, made: Table) -> None:
    rows = made.data.slice(0, 3).set_column(2, "note", pa.array(["漢字" * 500, "word " * 500, None]))
    rows = rows.set_column(3, "remark", pa.array([None] * 3, pa.string()))
    filled = model.impute(Table(made.schema, rows))
    assert filled.data["remark"].null_count == 0
    assert filled.data["note"][0].as_py() == "漢字" * 500


@pytest.mark.parametrize("condition", ["note = x", "note is missing", {"remark": None}])
def test_texts_cannot_be_asked_for(model: tables.TableModel, condition: Any) -> None:
    with pytest.raises(ControlError, match="is free text, written last from the rest of its row"):
        model.sample(1, conditions=[condition] if isinstance(condition, str) else condition)


def test_texts_of_every_training_row_are_looked_for_when_a_model_is_judged(
        model: tables.TableModel, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _data(model, home)
    train = data.table("train")
    monkeypatch.setattr(table_report, "_QUICK", 30)  # as 2,000 are of a large table
    monkeypatch.setattr(table_report, "_made", lambda *given: train.head(60))  # a model that knows its rows by heart
    judged = table_report.judge(model.bundle, data, quick=True)
    assert judged.scores.privacy.repeated["remark"]["value"] == 1
    assert any("texts in 'remark' are those of training rows" in reason for reason in judged.reasons)


def _bottega(home: Path, *said: str) -> subprocess.CompletedProcess[str]:
    return bottega(*said, home=home, cwd=home)


def test_files_hold_the_texts_and_say_how_they_were_made(model: tables.TableModel, home: Path, made: Table) -> None:
    for name in ("made.parquet", "made.csv", "made.jsonl"):
        done = _bottega(home, "generate", "notes", "--rows", "200", "--seed", "1", "-o", name)
        assert done.returncode == 0, done.stderr
    want = made.data.to_pylist()
    assert pq.read_table(home / "made.parquet").to_pylist() == want
    assert [json.loads(line) for line in (home / "made.jsonl").read_text(encoding="utf-8").splitlines()] == want
    with (home / "made.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [(row["note"], row["remark"]) for row in read] == [(row["note"] or "", row["remark"]) for row in want]
    assert _bottega(home, "reproduce", "made.parquet").stdout.strip() == "same rows"


def test_planted_texts_of_training_rows_stop_a_release(model: tables.TableModel, home: Path, made: Table) -> None:
    data = _data(model, home)
    train, held = data.table("train"), data.table("validation")

    def verdict(rows: Table) -> TableVerdict:
        scores = judge_table(rows, train, held, seed=0, quick=True)
        return TableVerdict.of(scores, "notes", model.bundle.digest)

    assert not [reason for reason in verdict(made).reasons if "texts" in reason]
    known = train.data["note"].drop_null().to_pylist()
    notes = [known[row % len(known)] if row % 3 == 0 and note is not None else note
             for row, note in enumerate(made.data["note"].to_pylist())]
    planted = verdict(Table(made.schema, made.data.set_column(2, "note", pa.array(notes))))
    assert any("texts in 'note' are those of training rows" in reason for reason in planted.reasons)
    planted.keep(home)
    refused = _bottega(home, "generate", "notes", "--rows", "5")
    assert refused.returncode != 0
    assert "texts in 'note'" in refused.stderr
    assert not refused.stdout
    verdict(made).model_copy(update={"reasons": []}).keep(home)


def test_by_command_texts_are_off_until_asked_for(home: Path) -> None:
    source = str(write_notes(home / "plain.csv", 80))
    off = _bottega(home, "table", "fit", source, "--name", "off", "--minutes", "0.01")
    assert off.returncode == 0, off.stderr
    assert "it comes out empty; learn it with --texts (codec.texts=true), or make it a category" in off.stderr
    rows = tables.TableModel(tables.Bundle.open(home / "models" / "off")).sample(20)
    assert rows.data["note"].null_count == rows.data["remark"].null_count == 20
    on = _bottega(home, "table", "fit", source, "--name", "on", "--minutes", "0.01", "--texts")
    assert on.returncode == 0, on.stderr
    assert "'note' is free text (64 different values): a model of text learns to write it" in on.stderr
    rows = tables.TableModel(tables.Bundle.open(home / "models" / "on")).sample(20)
    assert rows.data["remark"].null_count == 0


def _fit(home: Path, name: str, columns: dict[str, Any], **more: Any) -> tables.TableModel:
    rows = len(next(iter(columns.values())))
    data = pa.table({"group": pa.array([f"g{row % 3}" for row in range(rows)]), **columns})
    kinds: Any = dict.fromkeys(columns, "text")
    return tables.fit(data, name=name, texts=True, columns=kinds, home=home, generator={"width": 16, "depth": 1},
                      training={"budget": {"steps": 2}, "sample_every": 0}, **more)


@pytest.mark.parametrize(("name", "texts", "why"), [
    ("empty", [None] * 60, "0 different texts"), ("one", ["the same words in every row"] * 60, "1 different texts"),
    ("single", ["only this one"] + [None] * 59, "different texts among the training rows"),
    ("long", [f"{row} " + "lorem ipsum dolor " * 800 for row in range(60)], "comes out empty"),
    ("alike", [f"{row} " + "lorem ipsum dolor " * 800 if row % 2 else "no findings" for row in range(80)],
     "comes out empty")])
def test_what_is_too_little_or_too_long_to_learn_comes_out_empty(home: Path, capsys: pytest.CaptureFixture[str],
                                                                 name: str, texts: list[str | None], why: str) -> None:
    model = _fit(home, name, {"note": pa.array(texts, pa.string())})
    assert why in capsys.readouterr().err
    assert "texts" not in model.bundle.meta
    assert model.sample(30).data["note"].null_count == 30
    assert model.impute(model.sample(5)).data["note"].null_count == 5


def test_a_long_text_among_short_ones_is_left_out(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"row {row} says something short" for row in range(80)]
    texts[7] = texts[31] = "no end of words " * 2000
    model = _fit(home, "mixed", {"note": pa.array(texts), "gone": pa.array([None] * 80, pa.string()),
                                 "large": pa.array(texts, pa.large_string())})
    assert "are longer than 1024 tokens" in capsys.readouterr().err
    assert model.bundle.meta["texts"]["columns"] == ["note", "large"]
    rows = model.sample(5)
    assert rows.data["note"].null_count == rows.data["large"].null_count == 0
    assert rows.data["gone"].null_count == 5


@pytest.mark.parametrize(("more", "match"), [
    ({"entity": "group"}, "codec.texts writes texts of single rows"),
    ({"rules": ["unique (note)"]}, "is about the free text 'note'"),
    ({"codec": {"texts": "always"}}, "texts")])
def test_what_does_not_go_together_is_refused(home: Path, more: dict[str, Any], match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        _fit(home, "refused", {"note": pa.array([f"row {row} says a word" for row in range(60)])}, **more)


def test_differential_privacy_writes_no_texts(home: Path) -> None:
    write_notes(home / "private.csv", 80)
    domain = {"ward": list(WARDS), "age": [0, 120, 1]}
    asked = ("table", "private", "private.csv", "--domain", "domain.json", "-o", "safe.csv")
    (home / "domain.json").write_text(json.dumps({**domain, "note": "text"}))
    refused = _bottega(home, *asked)
    assert refused.returncode == 2
    assert "the domain calls 'note' a text, and texts are not written under differential privacy" in refused.stderr
    (home / "domain.json").write_text(json.dumps(domain))
    done = _bottega(home, *asked)
    assert done.returncode == 0, done.stderr
    assert "different values): it is left out: no text is written under differential privacy" in done.stderr
    assert (home / "safe.csv").read_text().splitlines()[0] == '"ward","age"'


def test_training_that_is_stopped_among_the_texts_goes_on_with_the_same_bits(home: Path,
                                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    def recipe(name: str) -> Recipe:
        return Recipe.model_validate({
            "name": name, "data": {"sources": [str(write_notes(home / "stopped.csv", 120))], "validation": 0.2},
            "codec": {"kind": "table", "texts": True}, "objective": {"kind": "tables"},
            "generator": {"family": "tabular", "depth": 1, "width": 16},
            "training": {"budget": {"steps": 12}, "batch": 64, "precision": "fp32", "compile": "off",
                         "checkpoint_every": 4, "sample_every": 0}})

    whole = make(recipe("whole"), home=home, report=False)
    save, count = loop.checkpoint.save, [0]

    def stopping(*arguments: Any) -> None:
        save(*arguments)
        if arguments[0].parent.name == "texts":
            count[0] += 1
            if count[0] == 2:
                raise Interrupted("stopped")

    monkeypatch.setattr(loop.checkpoint, "save", stopping)
    with pytest.raises(Interrupted):
        make(recipe("parts"), home=home, report=False)
    monkeypatch.setattr(loop.checkpoint, "save", save)
    parts = make(recipe("parts"), home=home, report=False, resume=True)
    for file in ("model.safetensors", "texts/model.safetensors", "texts/tokenizer.json", "texts/row_prompts.json"):
        assert (parts.path / file).read_bytes() == (whole.path / file).read_bytes(), file
    named = make(recipe("parts").model_copy(update={"description": "another"}), home=home, report=False)
    assert (named.path / "texts" / "model.safetensors").is_file()  # another description keeps the texts' weights


def test_a_model_is_trained_further_with_its_texts(model: tables.TableModel, home: Path) -> None:
    further = make(Recipe.model_validate({
        "name": "further", "base": "notes", "data": {"sources": [str(home / "notes.csv")], "validation": 0.1},
        "codec": {"kind": "table"}, "objective": {"kind": "tables"}, "generator": {"family": "tabular"},
        "training": {"budget": {"steps": 2}, "batch": 64, "precision": "fp32", "compile": "off", "sample_every": 0}}),
        home=home, report=False)
    before, after = (one.meta["texts"]["metrics"] for one in (model.bundle, further))
    assert after["untrained"] < before["loss"] + 0.5  # it begins where the base's texts ended
    notes = tables.TableModel(further).sample(30).data["note"].drop_null().to_pylist()
    assert sum("Seen in" in note for note in notes) > len(notes) / 2


def test_what_is_too_little_to_learn_is_not_learned_further_either(model: tables.TableModel, home: Path,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    once = _further(home, "once", lambda row: f"seen {row} times", lambda row: "known by heart")
    assert once.meta["texts"]["columns"] == ["note"]
    assert "'remark' has 1 different texts" in capsys.readouterr().err
    long = _further(home, "long", lambda row: f"{row} " + "quartz jackdaws vow " * 40, lambda row: "known by heart")
    assert "texts" not in long.meta  # longer than the context of the base, shorter than the longest of a fresh model
    assert "'note' are longer than 256 tokens" in capsys.readouterr().err


def _further(home: Path, name: str, note: Callable[[int], str], remark: Callable[[int], str]) -> Bundle:
    source = home / f"{name}-more.csv"
    with source.open("w", encoding="utf-8") as file:
        file.write("ward,age,note,remark\n")
        file.writelines(f"{WARDS[row % 3]},{20 + row % 60},{note(row)},{remark(row)}\n" for row in range(80))
    return make(Recipe.model_validate({
        "name": f"more-{name}", "base": "notes", "data": {"sources": [str(source)], "validation": 0.2},
        "codec": {"kind": "table"}, "objective": {"kind": "tables"}, "generator": {"family": "tabular"},
        "training": {"budget": {"steps": 2}, "batch": 64, "precision": "fp32", "compile": "off", "sample_every": 0}}),
        home=home, report=False)


def test_words_of_few_rows_teach_the_codec_nothing_though_a_row_says_them_twice() -> None:
    said = ["Zeppelin came", "Zeppelin left", "Zeppelin slept", *["someone came"] * 5]
    table = pa.table({"note": said, "remark": said})
    schema = Schema(columns=[Column(name=name, kind="text", arrow="string") for name in table.column_names])
    learned = list(table_texts._words(Table(schema, table), [], ["note", "remark"], 5))
    assert sum("someone came" in text for text in learned) == 10
    assert not [text for text in learned if "Zeppelin" in text]


def test_seeds_are_of_rows_not_of_pieces() -> None:
    whole = table_writer.seeds(5, 2, 0, 200)
    parts = [table_writer.seeds(5, 2, first, 10) for first in range(0, 200, 10)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert len(set(whole.tolist())) == 200
    assert not set(whole.tolist()) & set(table_writer.seeds(5, 3, 0, 200).tolist())
