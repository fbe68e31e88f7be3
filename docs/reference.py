"""Write docs/reference/*.md from the code: every recipe key from the typed settings, every command from its help.

    python docs/reference.py

A test fails when a page is not what this script writes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from bottega.codecs.graph import GraphSpec
from bottega.codecs.image import PictureSpec
from bottega.codecs.table_plan import TableSpec
from bottega.core import recipe, request
from bottega.families import FAMILIES, PICTURE_FAMILIES, family_class, graph, picture_family, pictures, tabular
from bottega.objectives import OBJECTIVES

FOLDER = Path(__file__).parent / "reference"
# family keys a recipe does not set here
_ELSEWHERE = ("vocab_size", "context", "special", "depth", *pictures.FACTS, *tabular.FACTS, *graph.FACTS)
_NOTE = "<!-- written by docs/reference.py; change the docstrings and run it again -->"
_SECTIONS: list[tuple[str, str, type[BaseModel]]] = [
    ("Recipe", "", recipe.Recipe), ("Adapter", "adapter.", recipe.AdapterSpec),
             ("Data", "data.", recipe.DataSpec), ("Codec", "codec.", recipe.CodecSpec),
    ("Generator", "generator.", recipe.GeneratorSpec), ("Objective", "objective.", recipe.ObjectiveSpec),
    ("Training", "training.", recipe.TrainingSpec), ("Budget", "training.budget.", recipe.Budget),
    ("Evaluation", "evaluation.", recipe.EvaluationSpec), ("Controls", "controls.", request.Controls),
    ("Format", "controls.format.", request.Format)]


def described(model: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """Return the opening of a model's docstring and what its `Attributes:` say of each key."""
    opening, _, listed = inspect.cleandoc(model.__doc__ or "").partition("Attributes:")
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in listed.splitlines():
        entry = re.match(r" {4}(\w[\w, ]*?): (.*)", line)
        if entry:
            names = [name.strip() for name in entry[1].split(",")]
            meanings |= {name: entry[2].strip() for name in names}
        elif line.strip():
            meanings |= {name: f"{meanings[name]} {line.strip()}" for name in names}
    # "a: …; `b`: …" in one entry describes two keys
    for text in list(meanings.values()):
        for name, meaning in re.findall(r"; `(\w+)`: ([^;]+)", text):
            meanings.setdefault(name, meaning)
    for base in model.__mro__[1:]:  # keys that several kinds share are described where they are declared
        if issubclass(base, BaseModel) and base.model_fields:
            meanings = {**described(base)[1], **meanings}
            break
    return " ".join(opening.split()), meanings


def _type(field: FieldInfo) -> str:
    text = str(field.annotation) if not isinstance(field.annotation, type) else field.annotation.__name__
    if re.match(r"(list|dict)\[", str(field.annotation)):
        text = str(field.annotation)
    text = re.sub(r"\bbottega\.families\.\w+\.\w+Config\b|^(VAE|Transformer)Config$", "name of a model", text)
    text = re.sub(r"Annotated\[(\w+), FieldInfo\([^\]]*\]\)\]", r"\1", text)
    text = re.sub(r"(typing|bottega\.[a-z_.]+)\.", "", text).replace(" | None", "").replace("NoneType", "")
    text = re.sub(r"^Optional\[(.*)\]$", r"\1", text)
    text = re.sub(r"Literal\[([^\]]*)\]",
                  lambda found: " or ".join(part.strip("' ") for part in found[1].split(",")), text)
    limits = [f"{sign} {getattr(rule, name)}" for rule in field.metadata
              for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")) if hasattr(rule, name)]
    return ", ".join([text, *limits])


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True) if not field.is_required() else PydanticUndefined
    if value is PydanticUndefined:
        return "**required**"
    if isinstance(value, BaseModel):
        return "see below"
    return "unset" if value is None else f"`{value}`" if value != "" else "empty"


def rows(model: type[BaseModel], prefix: str, *, derived: bool = False) -> Iterator[str]:
    """Yield the table of a model's keys; `derived`: what has no default derives from depth."""
    _, meanings = described(model)
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        if derived and name in _ELSEWHERE:
            continue
        default = "from depth" if derived and field.is_required() else _default(field)
        cells = (f"`{prefix}{name}`", _type(field), default, meanings.get(name, ""))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def recipe_page() -> str:
    """Return the page of all recipe keys."""
    lines = [_NOTE, "# Recipe reference", "",
             "A recipe is a YAML file. On the command line `key.sub=value` changes a key; `depth=6` is short for "
             "`generator.depth=6`. An unknown key is an error that suggests the right one. Unset values are derived "
             "and printed.", ""]
    for title, prefix, model in _SECTIONS:
        opening, _ = described(model)
        lines += [f"## {title}", "", opening, "", *rows(model, prefix), ""]
        if title == "Generator":
            configs: dict[str, Any] = {name: family_class(name).Config for name in FAMILIES}
            configs |= {name: picture_family(name).Config for name in PICTURE_FAMILIES}
            configs |= {"tabular": tabular.TabularConfig, "graph": graph.GraphConfig}
            for name, config in configs.items():
                lines += [f"### family: {name}", "", described(config)[0], "",
                          *rows(config, "generator.", derived=True), ""]
        if title == "Codec":
            for name, spec in (("image", PictureSpec), ("table", TableSpec), ("graph", GraphSpec)):
                lines += [f"### kind: {name}", "", described(spec)[0], "", *rows(spec, "codec."), ""]
        if title == "Objective":
            for kind in OBJECTIVES:
                chosen = import_module(OBJECTIVES[kind][0]).Settings
                lines += [f"### kind: {kind}", "", *rows(chosen, "objective."), ""]
    return "\n".join(lines).rstrip() + "\n"


def commands_page() -> str:
    """Return the page of all commands."""
    from bottega.cli import app

    lines = [_NOTE, "# Commands", "", "`bottega COMMAND --help` says the same in the terminal.", ""]

    def add(command: Any, path: str) -> None:
        inner = getattr(command, "commands", None)
        if inner:
            for name in inner:
                add(inner[name], f"{path} {name}")
            return
        words = [f"[{p.name.upper()}]" if not p.required or p.nargs == -1 else p.name.upper()
                 for p in command.params if p.param_type_name == "argument"]
        lines.extend([f"## {path}", "", f"`{' '.join([path, *words])}`", "", inspect.cleandoc(command.help or ""), ""])
        options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
        if options:
            lines.extend(["| option | meaning | default |", "|---|---|---|"])
        for option in options:
            plain = option.default is None or option.default is False or callable(option.default)
            names = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len, reverse=True))
            lines.append(f"| {names} | {(option.help or '').replace('|', chr(92) + '|')} | "
                         f"{'' if plain else f'`{option.default}`'} |")
        lines.append("")

    add(typer.main.get_command(app), "bottega")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


PAGES = {"recipe.md": recipe_page, "commands.md": commands_page}


def main() -> None:
    """Write both pages."""
    from bottega.core.files import write_atomic

    for name, write in PAGES.items():
        write_atomic(FOLDER / name, write())


if __name__ == "__main__":
    main()
