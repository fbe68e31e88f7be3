"""The release gate where rows leave: command line, HTTP, links to files, studio."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pyarrow.csv as csv
import pytest

from tests.server.running import bottega, serving
from tests.table_models import NAME, keep_bad_verdict, make_table_model

ROWS = {"rows": 5, "seed": 3}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("gate") / "workshop"
    make_table_model(home)
    return home


def test_the_command_line_refuses_until_a_person_says_why(home: Path, tmp_path: Path) -> None:
    verdict, out = keep_bad_verdict(home), tmp_path / "rows.csv"
    make = ("generate", NAME, "--rows", "5")
    for said in ((*make, "-o", str(out)), make):
        refused = bottega(*said, home=home)
        assert refused.returncode == 2
        assert refused.stdout == ""
        assert all(reason in refused.stderr for reason in verdict.reasons)
        assert f"bottega table release {NAME} --reason" in refused.stderr
    assert not out.exists()
    source = str(home / "uploads" / f"{NAME}.parquet")
    filled = bottega("table", "impute", source, "-m", NAME, "-o", str(out), home=home)
    assert filled.returncode == 2
    assert "not released" in filled.stderr
    empty = bottega("table", "release", NAME, home=home)
    assert empty.returncode == 2
    assert "no reason to release" in empty.stderr
    said = json.loads(bottega("table", "release", NAME, "--reason", "a test of ours", "--json", home=home).stdout)
    assert said["released"]
    made = bottega(*make, "-o", str(out), home=home)
    assert made.returncode == 0, made.stderr
    assert "released by a person" in made.stderr
    assert csv.read_csv(out).num_rows == 5
    event = json.loads(bottega("audit", "--action", "release", "--json", home=home).stdout)[0]
    assert (event["sequence"], event["detail"]["reason"]) == (said["audit_event"], "a test of ours")
    assert "the chain holds" in bottega("audit", "--verify", home=home).stdout
    gone = bottega("table", "release", NAME, "--withdraw", home=home)
    assert "are not released" in gone.stdout, gone.stderr
    assert bottega(*make, home=home).returncode == 2


def test_http_links_and_the_studio_refuse_too(tmp_path: Path) -> None:
    make_table_model(tmp_path)
    with serving(tmp_path) as server:
        path = "/v1/tables/generations"
        told = server.post(path, ROWS).json()
        assert any("nobody has judged" in note for note in told["notes"])
        output = told["bottega"]["outputs"][0]
        verdict = keep_bad_verdict(tmp_path)  # a running server follows
        for more in ({}, {"stream": True}, {"response_format": "csv"}, {"response_format": "csv", "stream": True}):
            refused = server.post(path, {**ROWS, **more})
            assert refused.status_code == 403
            error = refused.json()["error"]
            assert (error["code"], error["type"]) == ("not_released", "permission_error")
            assert verdict.reasons[0] in error["message"]
            assert "bottega table release" in error["message"]
        assert httpx.get(told["url"]).status_code == 403
        for ending in ("csv", "parquet", "jsonl"):
            assert server.get(f"/studio/tables/{output}.{ending}").status_code == 403
        inside = server.get(f"/inside/{output}").text
        assert "are not released" in inside
        assert told["data"][0]["since"] not in inside
        shown = server.get(f"/models/{NAME}").text
        assert "Its rows are not released" in shown
        assert "exact copies" in shown
        assert "Rows of this model are not released" in server.get("/tables").text
        assert bottega("table", "release", NAME, "--reason", "<b>a test</b>", home=tmp_path).returncode == 0
        again = server.post(path, ROWS).json()
        assert again["data"] == told["data"]
        assert any("released by a person" in note for note in again["notes"])
        assert httpx.get(told["url"]).status_code == 200
        assert server.get(f"/studio/tables/{output}.csv").status_code == 200
        shown = server.get(f"/models/{NAME}").text
        assert "released against the gate" in shown
        assert "&lt;b&gt;a test" in shown
