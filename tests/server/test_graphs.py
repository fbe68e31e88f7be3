"""Graphs over HTTP: as objects, as lines, refused, counted and recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bottega.core.graph_rules import broken
from bottega.core.smiles import read_smiles
from bottega.data.graphs.read import from_plain
from bottega.server import answers
from bottega.workshop import works
from tests.graph_models import MOLECULES, NAME, make_graph_model
from tests.server.running import Running, serving

PATH = "/v1/graphs/generations"


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("graphs") / "workshop"
    make_graph_model(home)
    make_graph_model(home, MOLECULES)
    with serving(home) as running:
        yield running


def made(server: Running, **body: Any) -> dict[str, Any]:
    response = server.post(PATH, {"model": NAME, "rows": 12, "seed": 3, **body})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_graphs_look_as_described_and_follow_from_the_seed(graphs: Running) -> None:
    one, again, other = made(graphs), made(graphs), made(graphs, seed=4)
    answers.GraphAnswer.model_validate(one, strict=True)
    assert one["data"] == again["data"] != other["data"]
    assert len(one["data"]) == one["usage"]["graphs"] == 12
    for graph in one["data"]:
        assert graph["smiles"] is None
        assert broken(from_plain(graph), "tree") == ""
    assert all(len(graph["nodes"]) == 7 for graph in made(graphs, nodes=7)["data"])
    assert one["bottega"]["seed"] == 3


def test_molecules_come_with_their_smiles(graphs: Running) -> None:
    for graph in made(graphs, model=MOLECULES, rows=30)["data"]:
        assert broken(from_plain({"nodes": graph["nodes"], "edges": graph["edges"]}), "molecule") == ""
        assert sorted(read_smiles(graph["smiles"]).graph.nodes) == sorted(graph["nodes"])


def test_lines_carry_the_same_graphs(graphs: Running) -> None:
    for name in (NAME, MOLECULES):
        data = made(graphs, model=name)["data"]
        file = graphs.post(PATH, {"model": name, "rows": 12, "seed": 3, "response_format": "lines"})
        assert file.headers["content-type"].startswith("text/plain")
        assert "attachment" in file.headers["content-disposition"]
        assert file.text.splitlines() == [graph["smiles"] or json.dumps(
            {"nodes": graph["nodes"], "edges": graph["edges"]}) for graph in data]


@pytest.mark.parametrize(("body", "words", "param"), [
    ({"rows": 10_001}, "more than 10,000", "rows"),
    ({"rows": 0}, "rows", "rows"),
    ({"nodes": 25}, "largest graph", "nodes"),
    ({"response_format": "csv"}, "csv", "response_format"),
    ({"ndoes": 5}, "ndoes", "ndoes"),
    ({"n": 2}, "not supported", "n"),
])
def test_what_cannot_be_is_refused(graphs: Running, body: dict[str, Any], words: str, param: str) -> None:
    response = graphs.post(PATH, {"model": NAME, "seed": 1, **body})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert words in error["message"]
    assert error["param"] == param


def test_a_model_of_something_else_or_none_is_refused(graphs: Running) -> None:
    assert graphs.post(PATH, {"model": "nobody"}).json()["error"]["code"] == "model_not_found"
    for path, body in (("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
                       ("/v1/tables/generations", {"rows": 3})):
        answer = graphs.post(path, {"model": NAME, **body})
        assert answer.status_code == 400
        assert "makes graphs, not" in answer.json()["error"]["message"]
    assert {model["medium"] for model in graphs.get("/v1/models").json()["data"]} == {"graph"}


def test_the_work_is_recorded_and_counted(graphs: Running) -> None:
    before = graphs.figure("bottega_rows_total", model=NAME)
    told = made(graphs, rows=9)
    assert graphs.figure("bottega_rows_total", model=NAME) == before + 9
    assert graphs.figure("bottega_tokens_total") == 0
    with graphs.store() as store:
        work, output = works.output(store, told["bottega"]["outputs"][0])
    assert (work.door, work.status, work.new_tokens, work.seed) == ("api", "done", 9, 3)
    assert output.text is not None
    assert [from_plain(json.loads(line)) for line in output.text.splitlines()] == [
        from_plain({"nodes": graph["nodes"], "edges": graph["edges"]}) for graph in told["data"]]


def test_the_route_is_described(graphs: Running) -> None:
    content = graphs.get("/openapi.json").json()["paths"][PATH]["post"]["responses"]["200"]["content"]
    assert "GraphAnswer" in str(content["application/json"])
    assert "text/plain" in content
