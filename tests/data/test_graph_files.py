"""Graphs from files: good lines are read, bad ones told with their number and left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bottega.core.errors import DataError, InputError
from bottega.core.graph_rules import broken
from bottega.core.molecule import write_smiles
from bottega.data.graphs.read import from_plain, read_graphs, to_plain
from bottega.data.graphs.synthetic import synthetic


def test_a_file_of_smiles_with_names_and_bad_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "some.smi").write_text("CCO ethanol\n\nC1CC\nF/C=C/F\tdifluoroethene\nC[Zz]\n")
    found = read_graphs(tmp_path / "some.smi")
    assert [write_smiles(graph) for graph in found.graphs] == ["CCO", "C(=CF)F"]
    assert (found.kind, found.lines, found.dropped) == ("molecules", [1, 4], 2)
    assert [fault.line for fault in found.faults] == [3, 5]
    said = capsys.readouterr().err
    assert "2 of 4 lines" in said
    assert "line 3: ring 1 is opened and never closed at character 2" in said


def test_a_csv_with_other_columns_and_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "some.csv").write_bytes('\ufeffname,SMILES\n"a, b",C\nnothing,\n"two\nlines",c1ccccc1\n'.encode())
    found = read_graphs(tmp_path / "some.csv")
    assert found.lines == [2, 5]
    assert [len(graph) for graph in found.graphs] == [1, 6]
    assert len(read_graphs(tmp_path / "some.csv", limit=1).graphs) == 1


def test_graphs_survive_json_lines(tmp_path: Path) -> None:
    graphs = synthetic("communities", 5, 0)
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(to_plain(graph)) + "\n" for graph in graphs))
    found = read_graphs(tmp_path / "some.jsonl")
    assert (found.graphs, found.kind) == (graphs, "graphs")


@pytest.mark.parametrize(("line", "said"), [
    ("[1]", "has no 'nodes'"), ('{"nodes": [1], "edges": []}', r"nodes are \[1\]"),
    ('{"nodes": ["a"], "edges": 3}', "edges are 3"), ('{"nodes": ["a", "b"], "edges": [[0, 1]]}', r"edge is \[0, 1\]"),
    ('{"nodes": ["a", "b"], "edges": [[true, 1, "c"]]}', "an edge is"),
    ('{"nodes": ["a"], "edges": [[0, 1, "c"]]}', "joins nodes 0 and 1 of 1"), ("{", "not JSON")])
def test_what_is_no_graph_is_said(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "bad.jsonl").write_text(line)
    with pytest.raises(DataError, match=f"no graph that can be used, of 1 lines; line 1: .*{said}"):
        read_graphs(tmp_path / "bad.jsonl")
    if line != "{":
        with pytest.raises(DataError, match=said):
            from_plain(json.loads(line))


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file of graphs"):
        read_graphs(tmp_path / "nowhere.smi")
    (tmp_path / "some.xml").write_text("<graph/>")
    with pytest.raises(InputError, match=r"some\.xml"):
        read_graphs(tmp_path / "some.xml")
    (tmp_path / "some.csv").write_text("name,formula\na,b\n")
    with pytest.raises(DataError, match="it has name, formula"):
        read_graphs(tmp_path / "some.csv")
    (tmp_path / "some.csv").write_text('smiles\nC\n"C')
    with pytest.raises(DataError, match="no CSV at line 3"):
        read_graphs(tmp_path / "some.csv")
    (tmp_path / "some.smi").write_bytes(b"\x01\x02" * 100)
    with pytest.raises(DataError, match="control characters"):
        read_graphs(tmp_path / "some.smi")


def test_qm9(real_data: Path) -> None:
    path = real_data / "molecules" / "qm9.csv"
    if not path.is_file():
        pytest.skip("no QM9 in BOTTEGA_DATA")
    found = read_graphs(path, limit=4000)
    assert len(found.graphs) + len(found.faults) == 4000
    assert len(found.faults) < 40
    assert {broken(graph, "molecule") for graph in found.graphs} <= {""}
