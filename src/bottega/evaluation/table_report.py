"""One self-contained page about rows that a model made: `bottega evaluate NAME` writes it into the model's run.

No script and no external request; every text from the data is escaped. The figures lie beside it as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

import bottega
from bottega.core.files import write_atomic
from bottega.core.table import Table
from bottega.evaluation.charts import Series, line_chart, number
from bottega.evaluation.report import visible
from bottega.evaluation.table_scores import CALLED
from bottega.evaluation.table_shapes import Shapes
from bottega.evaluation.tables import TableScores, gate

_COLUMNS = 60   # drawn at most: the least alike
_LEVELS = 12    # of a column, the commonest real ones
_POINTS = 60    # of a distribution


def write_page(scores: TableScores, real: Table, synthetic: Table, path: Path, *, title: str,
               facts: Mapping[str, Any]) -> Path:
    """Write the page atomically and return its path.

    Args:
        scores: of `judge_table`.
        real: training rows; `synthetic`: made ones.
        path: of the HTML file.
        title: of the page.
        facts: name → value, of the model.

    Raises:
        ResourceError: the disk is full.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("bottega.evaluation"), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)
    pages.filters["figure"] = lambda value: "–" if value is None or not math.isfinite(value) else f"{value:.3f}"
    worst = sorted(scores.shapes.columns, key=lambda column: (math.isnan(column.score), column.score))[:_COLUMNS]
    page = pages.get_template("table.html.j2").render(
        title=title, scores=scores, facts=facts, reasons=gate(scores), called=CALLED, version=bottega.__version__,
        groups={"quality": "How alike they are", "utility": "What they are good for",
                "privacy": "Whom they give away"}, columns=[(column, _drawn(column.name, real, synthetic))
                                                             for column in worst],
        trends=_heat(scores.shapes), names=list(CALLED), head=_head(synthetic))
    write_atomic(path, visible(page))
    return path


def _head(table: Table, rows: int = 8) -> list[list[str]]:
    """Return names and the first rows as texts."""
    shown = table.take(np.arange(min(rows, len(table)))).data
    texts = [["" if value is None else str(value) for value in shown[name].to_pylist()] for name in shown.column_names]
    return [list(shown.column_names), *[list(row) for row in zip(*texts, strict=True)]]


def _drawn(name: str, real: Table, synthetic: Table) -> Markup:
    """Return a column of both tables: cumulative shares of a number, shares of levels."""
    column = real.schema.column(name)
    if column.ordered:
        series = []
        for said, table in (("real", real), ("made", synthetic)):
            values = np.sort(table.values(name)[~np.isnan(table.values(name))])
            if not len(values):
                return Markup("")
            places = np.unique(np.linspace(0, len(values) - 1, _POINTS).round().astype(int))
            series.append(Series(said, [(float(values[at]), float((at + 1) / len(values))) for at in places]))
        return line_chart(series, title=name, x="", y="share up to")
    counts = []
    for table in (real, synthetic):
        codes, levels = table.codes(name)
        shares = np.bincount(codes + 1, minlength=len(levels) + 1) / max(1, len(table))
        counts.append(dict(zip(["(missing)", *levels], shares.tolist(), strict=True)))
    shown = sorted(set(counts[0]) | set(counts[1]), key=lambda level: -counts[0].get(level, 0.0))
    shown = [level for level in shown if counts[0].get(level) or counts[1].get(level)][:_LEVELS]
    most = max((max(part.get(level, 0.0) for part in counts) for level in shown), default=1.0) or 1.0
    rows = "".join(
        f'<tr><th scope="row">{escape(level[:40])}</th>'
        + "".join(f'<td>{part.get(level, 0.0):.1%}</td><td class="bar"><span style="--w:'
                  f'{100 * part.get(level, 0.0) / most:.1f}%"></span></td>' for part in counts) + "</tr>"
        for level in shown)
    return Markup(f'<table class="bars"><caption>{escape(name)}</caption><tr><th scope="col">level</th>'
                  f'<th scope="col" colspan="2">real</th><th scope="col" colspan="2">made</th></tr>{rows}</table>')


def _heat(shapes: Shapes) -> Markup:
    """Return the score of every pair of columns as a table of squares, darker where the links differ more."""
    names = [column.name for column in shapes.columns]
    if len(names) < 2 or len(names) > _COLUMNS:
        return Markup("")
    found = {frozenset((pair.one, pair.other)): pair for pair in shapes.pairs}
    head = "".join(f'<th scope="col"><span>{escape(name[:24])}</span></th>' for name in names)
    body = "".join(f'<tr><th scope="row">{escape(one[:24])}</th>{"".join(_cell(one, other, found) for other in names)}'
                   "</tr>" for one in names)
    return Markup(f'<div class="wide"><table class="heat"><thead><tr><td></td>{head}</tr></thead>'
                  f"<tbody>{body}</tbody></table></div>")


def _cell(one: str, other: str, found: Mapping[frozenset[str], Any]) -> str:
    pair = found.get(frozenset((one, other)))
    if one == other or pair is None or math.isnan(pair.score):
        return "<td></td>"
    lack = min(1.0, (1 - pair.score) * 5)
    said = f"{one} and {other}: {pair.score:.3f}, link {number(pair.real)} real, {number(pair.synthetic)} made"
    return f'<td style="--a:{lack:.2f}" title="{escape(said)}">{pair.score:.2f}</td>'


def lines(scores: TableScores, reasons: Sequence[str]) -> list[str]:
    """Return the scores for a terminal, each beside its references."""
    found = [f"{'':34} {'made':>8}  " + "  ".join(f"{CALLED[name]:>20}" for name in CALLED)]
    for score in scores.scores:
        beside = "  ".join(f"{score.references[name]:20.3f}" if name in score.references else f"{'–':>20}"
                           for name in CALLED)
        found.append(f"{score.name:34} {score.value:8.3f}  {beside}  {score.verdict}")
    return found + [f"against a release: {reason}" for reason in reasons]
