"""The documentation is true: pages written from code are current, commands and links in the others exist."""

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from bottega.cli import app
from bottega.core import errors
from bottega.core.recipe import Recipe
from bottega.core.validate import Strict

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"^(?:echo .* \| )?(bottega .+?)(?:\s{2,}#.*)?$", re.MULTILINE)


def _blocks(page: Path) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", ["recipe.md", "commands.md"])
def test_reference_is_what_the_code_says(name: str) -> None:
    write = runpy.run_path(str(ROOT / "docs" / "reference.py"))["PAGES"][name]
    assert (ROOT / "docs" / "reference" / name).read_text() == write(), "run: python docs/reference.py"


def test_every_recipe_key_is_described() -> None:
    page = (ROOT / "docs" / "reference" / "recipe.md").read_text()
    assert re.findall(r"^\| (`\S+`).*\|  \|$", page, re.MULTILINE) == [], "add these to their docstring's Attributes"

    def keys(model: type[Strict], prefix: str = "") -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            inner = field.annotation
            deeper = isinstance(inner, type) and issubclass(inner, Strict)
            found += keys(inner, f"{prefix}{name}.") if deeper else [f"{prefix}{name}"]
        return found

    assert [key for key in keys(Recipe) if f"`{key}`" not in page] == []


def _commands() -> list[Any]:
    return [pytest.param(line, id=f"{page.relative_to(ROOT)}: {line[:60]}")
            for page in PAGES for block in _blocks(page) for line in COMMAND.findall(block)]


@pytest.mark.parametrize("line", _commands())
def test_commands_in_the_pages_exist_with_their_options(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(line, comments=True)[1:]
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}
    used = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    assert used <= options, line
    for word in words:
        if word.startswith("recipes/"):
            assert (ROOT / word).is_file(), line
    overrides = [word for word in words if re.match(r"[a-z_]+(\.[a-z_]+)*=", word)]
    if overrides and any(word.startswith("recipes/") for word in words):
        Recipe.load(ROOT / next(word for word in words if word.startswith("recipes/")), overrides)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_navigation_names_every_page() -> None:
    def pages(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for inner in (entry.values() if isinstance(entry, dict) else entry) for page in pages(inner)]

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(listed) == sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES[1:])


def test_exit_codes_in_the_guide_are_those_of_the_errors() -> None:
    guide = (ROOT / "docs" / "guides" / "errors.md").read_text()
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.BottegaError):
            assert re.search(rf"^\| {kind.exit_code} \|.*`{name}`", guide, re.MULTILINE), name


def test_make_targets_named_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make (\w+)", (ROOT / "README.md").read_text())) - {"sure"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
