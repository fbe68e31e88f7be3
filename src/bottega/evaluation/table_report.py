"""A self-contained page about a synthetic table, its JSON beside it: `pytest tests/evaluation`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import bottega
from bottega.core.files import write_atomic, write_json
from bottega.core.table import Table
from bottega.evaluation.report import visible
from bottega.evaluation.table_charts import distributions, heat_map
from bottega.evaluation.table_scores import BESIDE, CALLED
from bottega.evaluation.table_sequences import REACHES, by_column
from bottega.evaluation.tables import TableScores, gate


def render(scores: TableScores, real: Table, synthetic: Table, *, title: str, facts: Mapping[str, str]) -> str:
    """Return the page as HTML: no script, nothing fetched, every text escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("bottega.evaluation"), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)
    pages.filters.update(score=lambda value: f"{value:.3f}" if math.isfinite(value) else "–",
                         percent=lambda value: f"{100 * value:.1f} %")
    groups = {group: [score for score in scores.scores if score.group == group] for group in BESIDE}
    return visible(pages.get_template("tables.html.j2").render(
        scores=scores, title=title, facts=facts, reasons=gate(scores), groups=groups, called=CALLED, beside=BESIDE,
        changes=by_column(scores.sequences), reaches=REACHES,
        version=bottega.__version__, columns=distributions(real, synthetic),
        pairs=heat_map(scores.shapes.pairs, [column.name for column in scores.shapes.columns])))


def write_page(scores: TableScores, real: Table, synthetic: Table, path: Path, *, title: str,
               facts: Mapping[str, str]) -> Path:
    """Write the page, and the scores as JSON beside it (same name, `.json`), atomically; return the page's path.

    Args:
        scores: what `judge_table` found.
        real, synthetic: rows whose columns are drawn; their shares only, no row.
        path: of the page.
        title: heading.
        facts: label → value, such as model, date, licence.

    Raises:
        ResourceError: the disk is full.
    """
    page = render(scores, real, synthetic, title=title, facts=facts)
    write_json(path.with_suffix(".json"), {"title": title, "facts": dict(facts), **scores.plain()})
    write_atomic(path, page)
    return path


def lines(scores: TableScores) -> list[str]:
    """Return the scores for a terminal, each beside its references, and what speaks against a release."""
    found, head = list[str](), ()  # type: tuple[list[str], tuple[str, ...]]
    for score in scores.scores:
        if head != BESIDE[score.group]:
            head = BESIDE[score.group]
            found.append(f"{'':32} {'made':>8}  " + "  ".join(f"{CALLED[name]:>20}" for name in BESIDE[score.group]))
        beside = "  ".join(f"{score.references[name]:20.3f}" if name in score.references else f"{'–':>20}"
                           for name in BESIDE[score.group])
        found.append(f"{score.name:32} {score.value:8.3f}  {beside}  {score.verdict}")
    return found + [f"against a release: {reason}" for reason in gate(scores)]
