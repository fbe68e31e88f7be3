"""A model that writes free texts, over HTTP: JSON, CSV, Parquet, streamed; what can be asked of it; what is refused."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.server.running import Running, serving
from tests.table_notes import fit_notes

PATH = "/v1/tables/generations"


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("texts") / "workshop"
    home.mkdir()
    fit_notes(home)
    with serving(home) as running:
        yield running


def _asked(server: Running, **body: Any) -> Any:
    return server.post(PATH, {"model": "notes", "rows": 70, "seed": 3, **body})


def test_every_form_holds_the_same_texts(notes: Running) -> None:
    rows = _asked(notes).json()["data"]
    assert all("\n" in row["remark"] for row in rows[:5])
    assert any(row["note"] is None for row in rows)
    assert pq.read_table(io.BytesIO(_asked(notes, response_format="parquet").content)).to_pylist() == rows
    lines = _asked(notes, response_format="jsonl", stream=True)
    assert [json.loads(line) for line in lines.text.splitlines()] == rows
    text = _asked(notes, response_format="csv", stream=True).content.decode()
    assert [row["remark"] for row in csv.DictReader(io.StringIO(text, newline=""))] == [row["remark"] for row in rows]


def test_conditions_shape_texts_and_are_not_about_them(notes: Running) -> None:
    rows = _asked(notes, conditions=["ward = surgery"]).json()["data"]
    told = [row["note"] for row in rows if row["note"] is not None]
    assert sum("surgery" in note for note in told) > 0.8 * len(told)
    refused = _asked(notes, conditions=["note = x"])
    assert refused.status_code == 400
    assert "is free text, written last" in refused.json()["error"]["message"]
    columns = notes.get("/v1/tables/notes/schema").json()["columns"]
    assert {one["name"]: one["learned"] for one in columns if one["kind"] == "text"} == {"note": False,
                                                                                         "remark": False}
