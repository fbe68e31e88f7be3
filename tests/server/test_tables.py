"""Tables over HTTP: whole, streamed, as files, linked; what can be asked of a model; refused, left, counted."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from bottega.server import answers
from bottega.workshop import settings, works
from bottega.workshop.table_lane import PARQUET, facts_of
from tests.server.running import Running, serving, wait_for
from tests.table_models import CITIES, EVIL, NAME, make_table_model

PATH = "/v1/tables/generations"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("tables") / "workshop"
    make_table_model(home)
    with serving(home) as running:
        yield running


def made(server: Running, **body: Any) -> dict[str, Any]:
    response = server.post(PATH, {"rows": 20, "seed": 3, **body})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_rows_look_as_described_and_follow_from_the_seed(tables: Running) -> None:
    one, again, other = made(tables), made(tables), made(tables, seed=4)
    answers.TableAnswer.model_validate(one, strict=True)
    assert one["data"] == again["data"] != other["data"]
    assert len(one["data"]) == one["usage"]["rows"] == one["usage"]["total_tokens"] == 20
    assert [column["name"] for column in one["columns"]] == list(one["data"][0])
    assert {column["name"]: column["kind"] for column in one["columns"]} == {
        "age": "integer", "city": "category", "income": "number", "active": "boolean", "since": "datetime"}
    assert one["bottega"]["seed"] == 3
    assert {row["active"] for row in one["data"]} <= {True, False, None}
    assert all(row["since"].startswith("202") for row in one["data"] if row["since"])
    with tables.store() as store:
        work, output = works.output(store, one["bottega"]["outputs"][0])
    assert (work.door, work.status, work.new_tokens, output.media_type) == ("api", "done", 20, PARQUET)


def test_conditions_as_texts_and_as_an_object_and_balance(tables: Running) -> None:
    rows = made(tables, conditions=["age > 70", f"city = '{EVIL}'"])["data"]
    assert all(row["age"] > 70 and row["city"] == EVIL for row in rows)
    rows = made(tables, conditions={"age": {"min": 30, "max": 40}, "city": ["Rome", "Bari, old town"],
                                    "income": None})["data"]
    assert all(30 <= row["age"] <= 40 and row["city"] in CITIES[:2] and row["income"] is None for row in rows)
    rows = made(tables, balance={"city": {"Rome": 0.5, EVIL: 0.5}})["data"]
    assert sorted(row["city"] for row in rows) == [EVIL] * 10 + ["Rome"] * 10
    told = made(tables, conditions=["age > 88", f"city = '{EVIL}'", "income is missing"])
    assert "scenario" in told["notes"][0]


def test_files_carry_the_same_rows(tables: Running) -> None:
    rows = made(tables, rows=300)["data"]
    parquet = tables.post(PATH, {"rows": 300, "seed": 3, "response_format": "parquet"})
    assert parquet.headers["content-type"] == PARQUET
    assert ".parquet" in parquet.headers["content-disposition"]
    facts = facts_of(parquet.content)
    assert facts is not None
    assert facts["controls"]["seed"] == 3
    assert facts["id"] in parquet.headers["content-disposition"]
    table = pq.read_table(io.BytesIO(parquet.content))
    assert [row["age"] for row in table.to_pylist()] == [row["age"] for row in rows]
    lines = tables.post(PATH, {"rows": 300, "seed": 3, "response_format": "jsonl"})
    assert [json.loads(line) for line in lines.text.splitlines()] == rows
    for stream in (False, True):
        text = tables.post(PATH, {"rows": 300, "seed": 3, "response_format": "csv", "stream": stream})
        assert text.headers["content-type"].startswith("text/csv")
        assert "attachment" in text.headers["content-disposition"]
        read = csv.read_csv(io.BytesIO(text.content))
        assert read.column_names == list(rows[0])
        assert read["city"].to_pylist() == [row["city"] for row in rows]
    streamed = tables.post(PATH, {"rows": 300, "seed": 3, "response_format": "jsonl", "stream": True})
    assert streamed.text == lines.text


def test_events_bring_the_same_rows_and_then_the_totals(tables: Running) -> None:
    body = {"rows": 600, "seed": 3, "stream": True}
    with httpx.stream("POST", tables.url + PATH, json=body, timeout=60) as response:
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert len(events) > 2
    assert [row for event in events for row in event["data"]] == made(tables, rows=600)["data"]
    assert events[0]["columns"][0] == {"name": "age", "kind": "integer"}
    assert events[-1]["usage"]["rows"] == 600
    assert events[-1]["bottega"]["outputs"][0].endswith(".0")


def test_the_kept_file_is_linked_for_an_hour(tables: Running) -> None:
    told = made(tables)
    file = httpx.get(told["url"])
    assert file.headers["content-type"] == PARQUET
    assert "attachment" in file.headers["content-disposition"]
    assert pq.read_table(io.BytesIO(file.content)).num_rows == 20
    with tables.store() as store:
        assert works.file(store, told["bottega"]["outputs"][0]) == (PARQUET, file.content)
    assert httpx.get(told["url"].replace("signature=", "signature=0")).status_code == 403


def test_what_can_be_asked_of_a_model(tables: Running) -> None:
    found = tables.get(f"/v1/tables/{NAME}/schema").json()
    answers.SchemaAnswer.model_validate(found, strict=True)
    columns = {column["name"]: column for column in found["columns"]}
    assert set(columns["city"]["levels"]) == set(CITIES)
    assert columns["active"]["levels"] in (["false", "true"], ["true", "false"])
    assert 18 <= columns["age"]["low"] < columns["age"]["high"] <= 90
    assert columns["since"]["low"].startswith("2022-01-0")
    assert 0.05 < columns["income"]["missing"] < 0.15
    assert columns["age"]["missing"] == 0
    assert found["rules"] == ["18 <= age <= 90"]
    assert tables.get("/v1/tables/nobody/schema").status_code == 404
    assert tables.get("/v1/models").json()["data"][0]["medium"] == "table"


@pytest.mark.parametrize(("body", "words", "param"), [
    ({"conditions": ["agee > 3"]}, "has no column 'agee'", "conditions"),
    ({"conditions": {"city": "Paris"}}, "was never seen", "conditions"),
    ({"conditions": ["age > 500"]}, "no such record can exist", "conditions"),
    ({"conditions": ["age > 70", "age < 20"]}, "no such record can exist", "conditions"),
    ({"balance": {"city": {"Rome": 0.5}}}, "add up to 0.5", "balance"),
    ({"rows": 100_001}, "more than 100,000", "rows"),
    ({"rows": 1_000_001, "stream": True}, "more than 1,000,000", "rows"),
    ({"rows": 0}, "rows", "rows"),
    ({"response_format": "xlsx"}, "xlsx", "response_format"),
    ({"response_format": "parquet", "stream": True}, "comes whole", "response_format"),
    ({"rwos": 5}, "rwos", "rwos"),
    ({"n": 2}, "not supported", "n"),
])
def test_what_cannot_be_is_refused(tables: Running, body: dict[str, Any], words: str, param: str) -> None:
    for extra in ({}, {"stream": True}) if "stream" not in body and "rows" not in body else ({},):
        if "response_format" in body and extra:
            continue
        response = tables.post(PATH, {"seed": 1, **body, **extra})
        assert response.status_code == 400, response.text
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert words in error["message"]
        assert error["param"] == param


def test_a_model_of_texts_or_none_is_refused(tables: Running) -> None:
    assert tables.post(PATH, {"model": "nobody"}).json()["error"]["code"] == "model_not_found"
    chat = tables.post("/v1/chat/completions", {"model": NAME, "messages": [{"role": "user", "content": "hi"}]})
    assert chat.status_code == 400
    assert "makes tables, not texts" in chat.json()["error"]["message"]


def test_a_client_that_leaves_stops_the_work(tables: Running) -> None:
    for form in ("json", "csv"):
        before = tables.figure("bottega_requests_cancelled_total")
        body = {"rows": 1_000_000, "stream": True, "seed": 1, "response_format": form}
        with httpx.stream("POST", tables.url + PATH, json=body, timeout=60) as response:
            next(response.iter_raw())
        wait_for(partial(lambda start: tables.figure("bottega_requests_cancelled_total") == start + 1, before))
        wait_for(lambda: tables.figure("bottega_outputs_running") == 0)
    with tables.store() as store:
        assert next(iter(works.works(store, limit=1))).status == "cancelled"


def test_rows_are_counted(tables: Running) -> None:
    before = tables.figure("bottega_rows_total", model=NAME)
    made(tables, rows=33)
    assert tables.figure("bottega_rows_total", model=NAME) == before + 33
    assert tables.figure("bottega_tokens_total") == 0


def test_the_routes_are_described(tables: Running) -> None:
    paths = tables.get("/openapi.json").json()["paths"]
    content = paths[PATH]["post"]["responses"]["200"]["content"]
    assert "TableAnswer" in str(content["application/json"])
    assert {"text/event-stream", "text/csv", "application/jsonl", PARQUET} <= set(content)
    assert "SchemaAnswer" in str(paths["/v1/tables/{model}/schema"]["get"]["responses"]["200"])


def test_nothing_is_kept_where_nothing_shall_be(tmp_path: Path) -> None:
    make_table_model(tmp_path)
    with serving(tmp_path) as running:
        with running.store() as store:
            settings.put(store, "retention_days", 0, actor="ada")
        told = made(running, conditions=["age > 70"], balance={"city": {"Rome": 1.0}})
        assert told["url"] is None
        assert len(told["data"]) == 20
        with running.store() as store:
            work, output = works.output(store, told["bottega"]["outputs"][0])
        assert output.text is None
        assert "Rome" not in json.dumps(work.request)
