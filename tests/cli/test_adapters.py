"""Adapters at the command line: train one from a recipe, use it, merge it, take one in from a folder."""

import json
import shutil
from pathlib import Path

from bottega.core.recipe import Recipe
from tests.cli.conftest import bottega

RECIPE = """
name: tiny-lora
base: tiny
adapter: {kind: lora, rank: 2}
data: {sources: [texts], validation: 0.2, near_duplicates: 0}
training: {budget: {steps: 3}, context: 64, batch_tokens: 256, precision: fp32, compile: "off", sample_every: 0}
"""


def test_an_adapter_is_trained_used_merged_and_taken_in(studio: tuple[Path, Path], tmp_path: Path) -> None:
    folder, home = studio[0], tmp_path / "workshop"
    shutil.copytree(studio[1] / "models", home / "models")  # what is made here is not left among the others' models
    (folder / "lora.yaml").write_text(RECIPE, encoding="utf-8")
    guess = json.loads(bottega("estimate", "lora.yaml", "--json", home=home, cwd=folder).stdout)
    assert 0 < guess["adapter"]["trained"] < guess["adapter"]["all"]
    done = bottega("train", "lora.yaml", "--json", home=home, cwd=folder)
    assert done.returncode == 0, done.stderr
    made = Path(json.loads(done.stdout)["path"])
    merged = bottega("adapter", "merge", "tiny-lora", "--name", "tiny-merged", "--json", home=home, cwd=folder)
    assert merged.returncode == 0, merged.stderr
    added = bottega("adapter", "add", str(made), "--base", "tiny", "--name", "tiny-added", "--licence", "CC0-1.0",
                    home=home, cwd=folder)
    assert "tiny-added is ready" in added.stdout
    texts = [bottega("generate", "Line 3", "--model", name, "--seed", "5", home=home, cwd=folder).stdout
             for name in ("tiny-lora", "tiny-added")]
    assert texts[0] == texts[1] != ""
    for words, fault in ((["merge", "tiny", "--name", "x"], "is no adapter"),
                         (["merge", "tiny-lora", "--name", "tiny"], "exists already"),
                         (["merge", "tiny-lora", "--name", "../x"], "cannot be a model's name"),
                         (["add", "texts", "--base", "tiny", "--name", "x"], "holds no adapter_config.json"),
                         (["add", str(made), "--base", "tiny-lora", "--name", "x"], "is an adapter itself")):
        wrong = bottega("adapter", *words, home=home, cwd=folder)
        assert wrong.returncode not in (0, 1), wrong.stderr
        assert fault in wrong.stderr
        assert "Traceback" not in wrong.stderr


def test_the_recipe_that_comes_along_names_what_the_demo_makes() -> None:
    made = Recipe.load(Path(__file__).parents[2] / "recipes" / "desk-lora.yaml")
    assert made.base == "python-lm"
    assert made.adapter is not None
