"""A recipe is strict: each fault is one readable error that names key, value and fix."""

from pathlib import Path

import pytest
import yaml

from bottega.core.errors import InputError, RecipeError
from bottega.core.recipe import Recipe

GOOD = """
name: test
data: {sources: [a]}
training: {budget: {minutes: 1}}
"""


def _load(tmp_path: Path, text: str = GOOD, *overrides: str) -> Recipe:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return Recipe.load(path, list(overrides))


def test_defaults_and_round_trip(tmp_path: Path) -> None:
    recipe = _load(tmp_path)
    assert recipe.codec.vocab_size == 4096
    assert (recipe.generator.family, recipe.objective.kind) == ("transformer", "pretrain")
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(recipe.plain()))
    assert Recipe.load(path) == recipe


def test_a_null_rule_survives_plain(tmp_path: Path) -> None:
    assert _load(tmp_path, GOOD, "data.rules.short=null").plain()["data"]["rules"] == {"short": None}


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_recipes_are_valid_and_named_after_their_file(path: Path) -> None:
    recipe = Recipe.load(path)
    assert recipe.name == path.stem
    assert path.read_text().startswith("#"), "a recipe opens by saying what it makes and what it scales to"


@pytest.mark.parametrize(("text", "problem", "fix"), [
    ("name: t\ndata: {sources: [a]}\ntrainning: {}", "unknown key 'trainning'", "did you mean 'training'?"),
    ("name: t\ndata: {sources: [a], rulez: {}}", "unknown key 'data.rulez'", "did you mean 'rules'?"),
    ("name: t\ndata: {sources: [a]}\ntraining: {budget: {minute: 1}}", "unknown key 'training.budget.minute'",
     "did you mean 'minutes'?"),
    ("name: t\ndata: {sources: [a]}\ncontrols: {format: {regexp: a}}", "unknown key 'controls.format.regexp'",
     "did you mean 'regex'?"),
    ("name: t", "'data' is missing", "add 'data: …'"),
    ("data: {sources: [a]}", "'name' is missing", "add 'name: …'"),
    ("name: t\ndata: {sources: []}", "data.sources: [] is not allowed", "at least 1 item"),
    ("name: ../t\ndata: {sources: [a]}", "name: '../t' is not allowed", "pattern"),
    ("name: t\ndata: {sources: [a]}\ncodec: {vocab_size: 10}", "codec.vocab_size: 10", "greater than or equal to 300"),
    ("name: t\ndata: {sources: [a]}\ntraining: {budget: {minutes: 1, steps: 2}}", "training.budget", "exactly one of"),
    ("name: t\ndata: {sources: [a]}\ntraining: {budget: {minutes: .inf}}", "training.budget.minutes: inf", "finite"),
    ("name: t\ndata: {sources: [a]}\ntraining: {optimizer: sgd}", "training.optimizer: 'sgd'", "'muon' or 'adamw'"),
    ("name: t\ndata: {sources: [a]}\ncontrols: {temperature: -1}", "controls.temperature: -1", "greater than or equal"),
    ("name: t\nname: u\ndata: {sources: [a]}", "'name' is given twice", "indentation"),
    ("name: [", "not valid YAML", "indentation"),
    ("name: !!python/object/apply:os.system [id]", "not valid YAML", "indentation"),
    ("- a", "a recipe is a mapping of keys, this is list", "start with"),
    ("", "a recipe is a mapping of keys, this is NoneType", "start with"),
])
def test_faults(tmp_path: Path, text: str, problem: str, fix: str) -> None:
    with pytest.raises(RecipeError) as caught:
        _load(tmp_path, text)
    assert problem in caught.value.problem
    assert fix in caught.value.fix
    assert caught.value.where.endswith("r.yaml")


def test_a_long_bad_value_is_shortened(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        _load(tmp_path, GOOD, f"codec.vocab_size={'x' * 5000}")
    assert len(str(caught.value)) < 600


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml is not there"):
        Recipe.load(tmp_path / "nowhere.yaml")
    (tmp_path / "junk.yaml").write_bytes(b"\x80\xff")
    for path in (tmp_path / "junk.yaml", tmp_path):
        with pytest.raises(InputError, match="cannot be read as text"):
            Recipe.load(path)


def test_overrides(tmp_path: Path) -> None:
    recipe = _load(tmp_path, GOOD, "depth=6", "data.sources=[x/y, z]", "training.budget.steps=5", "generator.heads=2",
                   "objective.beta=0.5", "description=two words: here", "data.validation=1e-2")
    assert recipe.generator.depth == 6
    assert recipe.generator.overrides == {"heads": 2}
    assert recipe.objective.overrides == {"beta": 0.5}
    assert recipe.data.sources == ["x/y", "z"]
    assert recipe.training.budget.steps == 5
    assert recipe.training.budget.minutes is None
    assert recipe.description == "two words: here"
    assert recipe.data.validation == 0.01


def test_one_source_needs_no_brackets(tmp_path: Path) -> None:
    assert _load(tmp_path, GOOD, "data.sources=my texts/folder").data.sources == ["my texts/folder"]


@pytest.mark.parametrize(("override", "problem"), [
    ("depth", "'depth' is not an override"),
    ("=3", "'=3' is not an override"),
    ("name.sub=1", "'name.sub' reaches into 'name', which is a plain value"),
    ("training.lr=1", "unknown key 'training.lr'"),
    ("seed=-1", "seed: -1 is not allowed"),
])
def test_bad_overrides(tmp_path: Path, override: str, problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        _load(tmp_path, GOOD, override)
    assert problem in caught.value.problem


def test_recipes_cannot_be_changed_after_loading(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        _load(tmp_path).seed = 3
