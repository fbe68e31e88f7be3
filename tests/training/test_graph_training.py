"""From graphs to a model of them and back to a file, by the commands that people use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.graph_models import SMILES, recipe_of
from typer.testing import CliRunner

from bottega.cli import app
from bottega.core.bundle import Bundle
from bottega.core.errors import BottegaError, Interrupted
from bottega.core.graph_rules import broken
from bottega.core.recipe import Recipe
from bottega.core.smiles import read_smiles
from bottega.data.graphs.read import from_plain
from bottega.generation.graphs import GraphEngine
from bottega.training import graph_report, loop
from bottega.training.run import make

STEPS = 40

Run = Callable[..., str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def model(home: Path) -> Bundle:
    """A model of trees, trained for a few steps, with its page judged on as few graphs as tell something."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_report, "_QUICK", 40)
        return make(recipe_of("woods", "trees", "tree", budget={"steps": STEPS}, validate_every=0.25,
                              sample_every=0.5, learning_rate=0.01), home=home)


@pytest.fixture
def run(home: Path, model: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The command line in the workshop that has the model: what it prints, or what it refuses with."""
    monkeypatch.setenv("BOTTEGA_HOME", str(home))
    monkeypatch.chdir(tmp_path)

    def command(*said: str, code: int = 0) -> str:
        found = CliRunner().invoke(app, list(said))
        if code:
            assert isinstance(found.exception, BottegaError)
            assert found.exception.exit_code == code
            return str(found.exception)
        assert found.exit_code == 0, (found.output, found.exception)
        return found.stdout

    return command


def test_held_out_graphs_become_more_probable(model: Bundle, home: Path) -> None:
    meta = model.meta
    assert (meta["family"], meta["codec"], meta["objective"]) == ("graph", "graph", "graphs")
    lines = [json.loads(line) for line in (home / "runs" / "woods" / "metrics.jsonl").read_text().splitlines()]
    found = [line["validation"]["nats"] for line in lines if "validation" in line]
    assert len(found) >= 4
    assert found[-1] < found[0] - 25  # nats a graph, from more than 50
    assert meta["metrics"]["best"] <= min(found) + 1e-6


def test_the_page_shows_graphs_and_has_no_script(model: Bundle, home: Path) -> None:
    page = (home / "runs" / "woods" / "report.html").read_text()
    assert "<script" not in page.lower()
    for part in ("valid, unique, novel", "keep it by themselves", "Erdős–Rényi", "<svg"):
        assert part in page, part
    kept = json.loads((home / "runs" / "woods" / "report.json").read_text())
    assert kept["counts"]["made"] == 40
    assert kept["broken"] == []


def test_evaluate_by_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_report, "_WHOLE", 30)
    found = json.loads(run("evaluate", "woods", "--json"))
    assert found["counts"]["made"] == found["free"]["counts"]["made"] == 30
    valid = {name: next(share["made"]["value"] for share in scores["shares"] if share["name"] == "valid")
             for name, scores in (("kept", found), ("free", found["free"]))}
    assert valid["kept"] == 1 > valid["free"]
    said = run("evaluate", "woods")
    for part in ("as they come, without the rule", "as they are given out", "held out", "report:"):
        assert part in said


def test_graphs_come_out_by_command_and_again(run: Run, model: Bundle, tmp_path: Path) -> None:
    run("generate", "woods", "--rows", "12", "--seed", "5", "--nodes", "9", "-o", "out.jsonl", "--save", "kept.json")
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    graphs = [from_plain(json.loads(line)) for line in lines]
    assert graphs == GraphEngine.open(model).sample(12, seed=5, nodes=9)
    assert [broken(graph, "tree") for graph in graphs] == [""] * 12
    assert {len(graph) for graph in graphs} == {9}
    assert "same bytes" in run("reproduce", "kept.json")
    assert run("generate", "woods", "--rows", "12", "--seed", "5", "--nodes", "9").splitlines() == lines
    told = json.loads(run("generate", "", "--model", "woods", "--rows", "3", "--seed", "5", "--json"))
    assert (told["rows"], told["seed"], len(told["data"])) == (3, 5, 3)


@pytest.mark.parametrize(("said", "match"), [
    (("-o", "out.smi"), "no ending of graphs"), (("--nodes", "999"), "nodes"), (("--nodes", "25"), "largest graph"),
    (("--rows", "0"), "rows"), (("--steps", "3"), "does not understand")])
def test_what_cannot_be_made_is_refused_by_command(run: Run, said: tuple[str, ...], match: str) -> None:
    assert match in run("generate", "woods", *said, code=2)


def test_molecules_by_recipe_and_command(run: Run, home: Path, tmp_path: Path) -> None:
    (tmp_path / "some.smi").write_text("\n".join(SMILES * 2))
    make(recipe_of("drugs", str(tmp_path / "some.smi"), None, budget={"steps": 4}), home=home, report=False)
    run("generate", "drugs", "--rows", "20", "--seed", "1", "-o", "out.smi")
    lines = (tmp_path / "out.smi").read_text().splitlines()
    assert len(lines) == 20
    assert [broken(read_smiles(line).graph, "molecule") for line in lines] == [""] * 20
    assert "no ending of molecules" in run("generate", "drugs", "-o", "out.jsonl", code=2)


def test_a_stopped_training_goes_on_with_the_same_bits(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def recipe(name: str) -> Recipe:
        plain = recipe_of(name, "trees", "tree", budget={"steps": 18}, checkpoint_every=6, validate_every=0.25).plain()
        return Recipe.model_validate({**plain, "generator": {**plain["generator"], "drop": 0.2}})

    whole = make(recipe("whole"), home=home, report=False)
    save, count = loop.checkpoint.save, [0]

    def stopping(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        count[0] += 1
        if count[0] == 2:
            raise Interrupted("stopped")

    monkeypatch.setattr(loop.checkpoint, "save", stopping)
    with pytest.raises(Interrupted):
        make(recipe("parts"), home=home, report=False)
    monkeypatch.setattr(loop.checkpoint, "save", save)
    parts = make(recipe("parts"), home=home, resume=True, report=False)
    assert (parts.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("part", "match"), [
    ({"generator": {"family": "graph", "depth": 99}}, "depth"),
    ({"generator": {"family": "graph", "width": 2}}, "width"),
    ({"generator": {"family": "graph", "kinds": 2}}, "decided by the graphs"), ({"base": "woods"}, "base"),
    ({"generator": {"family": "grahp"}}, "graph"), ({"objective": {"kind": "tables"}}, "objective"),
    ({"controls": {"steps": 3}}, "steps"), ({"codec": {"kind": "graph", "rule": "forest"}}, "forest")])
def test_a_bad_recipe_is_refused_before_any_work(model: Bundle, home: Path, part: dict[str, object],
                                                 match: str) -> None:
    plain = {**recipe_of("bad", "trees", "tree").plain(), **part}
    with pytest.raises(BottegaError, match=match):
        make(Recipe.model_validate(plain), home=home)
    assert not (home / "models" / "bad").exists()
