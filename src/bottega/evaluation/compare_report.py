"""The page of a comparison of two models, which a person decides on: `bottega compare A B` writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bottega
from bottega.core.files import write_atomic
from bottega.evaluation.report import visible

_MEASURES = {"first_token_ms": "First token, ms", "ms_a_token": "A token, ms",
             "cpu_ms_a_token": "Processor a token, ms"}
_PAIRS = {"choice_accuracy": "Preferred answer is likelier", "margin": "Its lead, log-probability a token",
          "chosen_logprob": "Its log-probability a token"}


def render(found: Mapping[str, Any], examples: Sequence[Mapping[str, Any]]) -> str:
    """Return the page as HTML: no script, nothing fetched, every text escaped.

    Args:
        found: what `workshop.proof.prove` found.
        examples: `question`, `champion`, `challenger`, `reference` and `outcomes` of some questions.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("bottega.evaluation"), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)
    pages.filters.update(figure=lambda value: f"{value:.3f}", percent=lambda value: f"{100 * value:.1f} %")
    rows = [("Bits per byte of the " + name, one, "lower") for name, one in found["held_out"].items()]
    rows += [(f"{suite}: {name}", one, "higher") for suite, figures in found["suites"].items()
             for name, one in figures.items()]
    speed = [(label, found["speed"][name]) for name, label in _MEASURES.items() if name in found["speed"]]
    pairs = [(label, found[name]) for name, label in _PAIRS.items() if name in found]
    return visible(pages.get_template("compare.html.j2").render(
        found=found, examples=examples, version=bottega.__version__, rows=rows, speed=speed, pairs=pairs,
        words={None: "not judged", 0.0: "champion", 0.5: "tie", 1.0: "challenger"}))


def write_page(found: Mapping[str, Any], examples: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write the page atomically and return its path.

    Raises:
        ResourceError: the disk is full.
    """
    write_atomic(path, render(found, examples))
    return path
