"""Sequences and two linked tables over HTTP: whole, streamed, as files; the order of rows, keys, seeds, what `rows` is.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from bottega import tables
from bottega.server import answers
from bottega.workshop import works
from bottega.workshop.table_lane import PARQUET, facts_of
from tests.server.running import Running, bottega, serving
from tests.table_visits import joined, visits

PATH = "/v1/tables/generations"
_QUICK: dict[str, Any] = {"training": {"budget": {"steps": 2}}, "generator": {"width": 32, "depth": 1}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("sequences") / "workshop"
    tables.fit(joined(*visits(200)), entity="patient_id", order="admit", rules=["admit <= discharge"], name="visits",
               home=home, **_QUICK)
    patients, rows = visits(200, least=0)
    csv.write_csv(patients, home / "patients.csv")
    pq.write_table(rows, home / "rows.parquet")
    tables.fit(home / "patients.csv", child=home / "rows.parquet", entity="patient_id", order="admit", name="linked",
               home=home, **_QUICK)
    colours = np.random.default_rng(0).choice(["rot", "grün"], 300)
    tables.fit(pa.table({"who": [f"Ж{number // 3:03}" for number in range(300)], "colour": colours}), entity="who",
               name="loose", home=home, **_QUICK)
    with serving(home) as running:
        yield running


def asked(server: Running, model: str, **body: Any) -> dict[str, Any]:
    response = server.post(PATH, {"model": model, "rows": 40, "seed": 3, **body})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    answers.TableAnswer.model_validate(found, strict=True)
    return found


def entities(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each key, which stand together."""
    found: dict[str, list[dict[str, Any]]] = {}
    for key, group in itertools.groupby(rows, lambda row: str(row["patient_id"])):
        assert key not in found, f"the rows of {key} do not stand together"
        found[key] = list(group)
    return found


def test_rows_counts_entities_and_each_comes_whole_and_in_order(server: Running) -> None:
    told = asked(server, "visits")
    found = entities(told["data"])
    assert len(found) == 40 < len(told["data"]) == told["usage"]["rows"]
    assert not set(found) & {f"pé-{number:05}" for number in range(200)}
    for rows in found.values():
        days = [date.fromisoformat(row["admit"]) for row in rows]
        assert days == sorted(days)
        assert all(date.fromisoformat(row["discharge"]) >= date.fromisoformat(row["admit"]) for row in rows)
        assert len({(row["age"], row["severity"]) for row in rows}) == 1
    with server.store() as store:
        work, _ = works.output(store, told["bottega"]["outputs"][0])
    assert work.new_tokens == len(told["data"])


@pytest.mark.parametrize("model", ["visits", "linked"])
def test_a_seed_makes_the_same_rows_with_the_same_keys(server: Running, model: str) -> None:
    one, again, other = (asked(server, model, seed=seed)["data"] for seed in (3, 3, 4))
    assert one == again != other
    unsaid = asked(server, model, seed=None)
    assert asked(server, model, seed=unsaid["bottega"]["seed"])["data"] == unsaid["data"]


@pytest.mark.parametrize("model", ["visits", "linked"])
def test_every_form_whole_or_streamed_holds_the_same_rows(server: Running, model: str) -> None:
    body = {"model": model, "rows": 300, "seed": 3}
    told = asked(server, model, rows=300)
    rows, names = told["data"], [column["name"] for column in told["columns"]]
    parquet = server.post(PATH, {**body, "response_format": "parquet"})
    assert parquet.headers["content-type"] == PARQUET
    table = pq.read_table(io.BytesIO(parquet.content))
    assert table.column_names == names
    assert table.schema.field("admit").type == pa.date32()
    assert [{**row, "admit": row["admit"] and row["admit"].isoformat(),
             "discharge": row["discharge"] and row["discharge"].isoformat()} for row in table.to_pylist()] == rows
    for stream in (False, True):
        lines = server.post(PATH, {**body, "response_format": "jsonl", "stream": stream})
        assert [json.loads(line) for line in lines.text.splitlines()] == rows
        text = server.post(PATH, {**body, "response_format": "csv", "stream": stream})
        read = csv.read_csv(io.BytesIO(text.content), convert_options=csv.ConvertOptions(strings_can_be_null=True))
        assert read.column_names == names
        for name in ("patient_id", "drug", "severity"):
            assert read[name].to_pylist() == [row[name] for row in rows]
    with httpx.stream("POST", server.url + PATH, json={**body, "stream": True}, timeout=60) as response:
        told_lines = [line for line in response.iter_lines() if line]
    assert told_lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in told_lines[:-1]]
    assert [row for event in events for row in event["data"]] == rows
    assert events[-1]["usage"]["rows"] == len(rows)


def test_an_event_never_cuts_an_entity(server: Running) -> None:
    body = {"model": "visits", "rows": 5000, "seed": 1, "stream": True}
    with httpx.stream("POST", server.url + PATH, json=body, timeout=120) as response:
        events = [json.loads(line.removeprefix("data: ")) for line in response.iter_lines()
                  if line and not line.endswith("[DONE]")]
    parts = [entities(event["data"]) for event in events if event["data"]]
    assert len(parts) > 1
    assert sum(map(len, parts)) == len(set().union(*parts)) == 5000


def test_two_tables_come_as_their_left_join_and_can_be_told_apart(server: Running) -> None:
    schema = server.get("/v1/tables/linked/schema").json()
    answers.SchemaAnswer.model_validate(schema, strict=True)
    entity = schema["entity"]
    assert entity == {"name": "patient_id", "order": "admit", "count": "rows of patient_id", "rows": entity["rows"],
                      "parent": ["patient_id", "age", "severity"],
                      "child": ["patient_id", "admit", "hb", "drug", "discharge"]}
    found = entities(asked(server, "linked", rows=200)["data"])
    assert len(found) == 200
    empty = [rows for rows in found.values() if rows[0][entity["count"]] == 0]
    assert 0 < len(empty) < 100
    assert all(len(rows) == max(1, rows[0][entity["count"]]) for rows in found.values())
    for (row,) in empty:
        assert all(row[name] is None for name in entity["child"] if name != "patient_id")
        assert all(row[name] is not None for name in entity["parent"])


def test_what_can_be_asked_is_about_entities(server: Running) -> None:
    schema = server.get("/v1/tables/visits/schema").json()
    answers.SchemaAnswer.model_validate(schema, strict=True)
    assert (schema["entity"]["name"], schema["entity"]["parent"]) == ("patient_id", [])
    assert schema["rows"] < schema["entity"]["rows"]
    names = {column["name"] for column in schema["columns"]}
    assert names == {"age", "severity", "first admit", schema["entity"]["count"]}
    rows = asked(server, "visits", conditions=["severity = high", "rows of patient_id >= 3"])["data"]
    assert {row["severity"] for row in rows} == {"high"}
    assert min(map(len, entities(rows).values())) >= 3
    half = entities(asked(server, "visits", balance={"severity": {"high": 0.5, "low": 0.5}})["data"])
    assert [rows[0]["severity"] for rows in half.values()] == ["high"] * 20 + ["low"] * 20  # in the order asked for
    none = asked(server, "linked", conditions={"rows of patient_id": 0}, rows=10)["data"]
    assert [row["hb"] for row in none] == [None] * 10


@pytest.mark.parametrize(("body", "words", "param"), [
    ({"conditions": ["hb > 12"]}, "'hb' varies from row to row of a 'patient_id'", "conditions"),
    ({"conditions": ["patient_id = x"]}, "patient_id", "conditions"),
    ({"fair": {"drug": "severity"}}, "fair is about single rows", "fair"),
    ({"rows": 60_000}, "entities have about", "rows"),
    ({"rows": 0}, "rows", "rows"),
])
def test_what_cannot_be_is_refused(server: Running, body: dict[str, Any], words: str, param: str) -> None:
    response = server.post(PATH, {"model": "visits", "seed": 1, **body})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert words in error["message"]
    assert error["param"] == param


def test_a_file_from_http_is_made_again_on_the_command_line(server: Running, tmp_path: Path) -> None:
    for model in ("visits", "linked"):
        content = server.post(PATH, {"model": model, "rows": 30, "response_format": "parquet"}).content
        facts = facts_of(content)
        assert facts is not None
        assert facts["controls"]["rows"] == 30
        path = tmp_path / f"{model}.parquet"
        path.write_bytes(content)
        done = bottega("reproduce", str(path), home=server.home)
        assert "same rows" in done.stdout, done.stderr


def test_without_an_order_rows_still_stand_together(server: Running) -> None:
    rows = asked(server, "loose")["data"]
    keys = [key for key, _ in itertools.groupby(row["who"] for row in rows)]
    assert len(keys) == len(set(keys)) == 40
    assert server.get("/v1/tables/loose/schema").json()["entity"]["order"] is None
