"""Real beside synthetic columns, and links of pairs, as inline SVG; `pytest tests/evaluation/test_table_report.py`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from bottega.core.table import Table
from bottega.evaluation.charts import HEIGHT, WIDTH, number
from bottega.evaluation.table_shapes import PairTrend
from bottega.evaluation.table_views import views

_BARS, _LEVELS, _FLOOR, _TOP = 24, 12, HEIGHT - 30, 10
_CUT = 0.01  # of the values on either side that the outer bars of a number gather: tails would flatten all others


def distributions(real: Table, synthetic: Table) -> list[Markup]:
    """Draw each learned column: shares of real rows (c2) beside those of synthetic rows (c1)."""
    one, other = views(real, synthetic)
    drawn = []
    for name in one.order:
        if name in one.values:
            sides = [view.values[name][~np.isnan(view.values[name])] for view in (one, other)]
            if not len(sides[0]):
                continue
            low, high = (float(edge) for edge in np.quantile(sides[0], (_CUT, 1 - _CUT)))
            edges = np.linspace(low, high if high > low else low + 1, _BARS + 1)
            counts = [np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0] for side in sides]
            labels, totals = [number(low), number(high)], [len(side) for side in sides]
        else:
            size = len(one.levels[name])
            tallies = [np.bincount(view.codes[name][view.codes[name] >= 0], minlength=size) for view in (one, other)]
            if not tallies[0].any():
                continue
            order = np.argsort(-tallies[0], kind="stable")[:_LEVELS]
            counts = [tally[order] for tally in tallies]
            labels = [one.levels[name][place][:18] for place in (order[0], order[-1])]
            totals = [int(tally.sum()) for tally in tallies]
        shares = [count / max(1, total) for count, total in zip(counts, totals, strict=True)]
        drawn.append(_columns(name, shares, labels))
    return drawn


def _columns(name: str, shares: Sequence[NDArray[np.float64]], labels: Sequence[str]) -> Markup:
    most = max(float(side.max()) for side in shares) or 1.0
    step = WIDTH / len(shares[0])
    parts = []
    for place, side in enumerate(shares):
        for index, share in enumerate(side):
            tall = float(share) / most * (_FLOOR - _TOP)
            parts.append(f'<rect x="{(index + 0.08 + 0.43 * place) * step:.1f}" y="{_FLOOR - tall:.1f}" '
                         f'width="{0.41 * step:.1f}" height="{tall:.1f}" fill="var(--c{2 - place})"/>')
    parts.append(f'<text x="0" y="{HEIGHT - 12}">{escape(labels[0])}</text>'
                 f'<text x="{WIDTH}" y="{HEIGHT - 12}" text-anchor="end">{escape(labels[1])}</text>')
    said = f"shares differ by at most {max(abs(a - b) for a, b in zip(*shares, strict=True)):.1%}"
    return Markup(f'<figure><figcaption>{escape(name)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
                  f'aria-label="{escape(name)}: {said}">{"".join(parts)}</svg><ul class="legend">'
                  '<li class="c2">real</li><li class="c1">synthetic</li></ul></figure>')


def heat_map(pairs: Sequence[PairTrend], names: Sequence[str]) -> Markup:
    """Draw how alike the links of each pair are: the stronger the colour, the less alike; nothing where not known.

    Returns:
        Safe HTML; an empty string for fewer than two columns.
    """
    if len(names) < 2:
        return Markup("")
    place, cell = {name: index for index, name in enumerate(names)}, 24
    edge, size = 130, 24 * len(names)
    parts = []
    for name, index in place.items():
        parts.append(f'<text x="{edge - 6}" y="{index * cell + 16}" text-anchor="end">{escape(name[:18])}</text>')
    for pair in pairs:
        if pair.score == pair.score:
            loss = min(1.0, (1 - pair.score) * 2)
            for x, y in ((place[pair.one], place[pair.other]), (place[pair.other], place[pair.one])):
                parts.append(f'<rect x="{edge + x * cell}" y="{y * cell}" width="{cell - 1}" height="{cell - 1}" '
                             f'fill="var(--unsure)" fill-opacity="{loss:.2f}" stroke="var(--line)"><title>'
                             f"{escape(pair.one)} and {escape(pair.other)}: {pair.score:.3f}</title></rect>")
    return Markup('<figure><figcaption>Pair trends · the stronger the colour, the less alike</figcaption>'
                  f'<svg viewBox="0 0 {edge + size} {size}" role="img" '
                  f'aria-label="Pair trends of {len(names)} columns">'
                  f'{"".join(parts)}</svg></figure>')
