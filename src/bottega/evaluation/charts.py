"""Curves and bars as inline SVG for the report: no library, no script, colours from the page's style sheet.

Every figure carries its text alternative; labels come from people's data and are escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 480, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 14, 34
_MOST = 240  # points a curve: more than the figure has pixels to show


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: (x, y) points in order; `dots` marks each point (for sparse figures such as validation)."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


def number(value: float) -> str:
    """Return a number for people: three significant digits, thousands as k and M."""
    if not math.isfinite(value):
        return "–"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round values (1, 2 or 5 times a power of ten apart) that lie between low and high."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    rough = span / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def thin(points: Sequence[tuple[float, float]], most: int = _MOST) -> list[tuple[float, float]]:
    """Return at most `most` points: the mean of equal stretches, the last point kept; not-finite ones are left out."""
    clean = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if len(clean) <= most:
        return clean
    size = len(clean) / (most - 1)
    pieces = [clean[int(i * size):max(int((i + 1) * size), int(i * size) + 1)] for i in range(most - 1)]
    means = [(math.fsum(x for x, _ in piece) / len(piece), math.fsum(y for _, y in piece) / len(piece))
             for piece in pieces]
    return [*means, clean[-1]]


def _spread(places: list[float], gap: float, lowest: float) -> list[float]:
    """Move label places (ascending) apart so that none is nearer than `gap` to the next or beyond `lowest`."""
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + gap)
    limit = lowest
    for index in reversed(range(len(places))):
        places[index] = min(places[index], limit)
        limit = places[index] - gap
    return places


def line_chart(series: Sequence[Series], *, title: str, x: str, y: str,
               rules: Mapping[str, float] | None = None) -> Markup:
    """Draw curves with horizontal rules (baselines) as a `<figure>` with a legend.

    Args:
        series: the curves; empty ones are left out.
        title: caption.
        x, y: axis labels, with units.
        rules: name → y value of a labelled horizontal line.

    Returns:
        Safe HTML; an empty string when there is nothing to draw.
    """
    curves = [Series(one.name, thin(one.points), one.dots) for one in series]
    curves = [one for one in curves if one.points]
    if not curves:
        return Markup("")
    lines = {name: value for name, value in (rules or {}).items() if math.isfinite(value)}
    xs = [px for one in curves for px, _ in one.points]
    ys = [py for one in curves for _, py in one.points] + list(lines.values())
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)
    pad = (max(ys) - min(ys)) * 0.06 or abs(max(ys)) * 0.1 or 1.0
    y_low, y_high = min(ys) - pad, max(ys) + pad

    def sx(value: float) -> float:
        return _LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - _LEFT - _RIGHT)

    def sy(value: float) -> float:
        return HEIGHT - _BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - _TOP - _BOTTOM)

    parts: list[str] = []
    for value in ticks(y_low, y_high):
        parts.append(f'<path class="grid" d="M{_LEFT} {sy(value):.1f}H{WIDTH - _RIGHT}"/>'
                     f'<text x="{_LEFT - 6}" y="{sy(value) + 4:.1f}" text-anchor="end">{number(value)}</text>')
    for value in ticks(x_low, x_high, 4):
        parts.append(f'<text x="{sx(value):.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
                     f"{number(value)}</text>")
    parts.append(f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(x)}</text>'
                 f'<text x="{_LEFT - 40}" y="{_TOP - 3}">{escape(y)}</text>')
    ordered = sorted(lines.items(), key=lambda item: -item[1])
    places = _spread([sy(value) - 4 for _, value in ordered], 13, HEIGHT - _BOTTOM - 4)
    for (name, value), place in zip(ordered, places, strict=True):
        parts.append(f'<path class="rule" d="M{_LEFT} {sy(value):.1f}H{WIDTH - _RIGHT}"/>'
                     f'<text class="name" x="{WIDTH - _RIGHT}" y="{place:.1f}" text-anchor="end">'
                     f"{escape(name)} {number(value)}</text>")
    for index, one in enumerate(curves):
        path = "L".join(f"{sx(px):.1f} {sy(py):.1f}" for px, py in one.points)
        parts.append(f'<path class="curve c{index % 6}" d="M{path}"/>')
        if one.dots or len(one.points) == 1:
            parts += [f'<circle class="c{index % 6}" cx="{sx(px):.1f}" cy="{sy(py):.1f}" r="3.2"/>'
                      for px, py in one.points]
    said = "; ".join(f"{one.name} from {number(one.points[0][1])} to {number(one.points[-1][1])}" for one in curves)
    said += "".join(f"; {name} at {number(value)}" for name, value in ordered)
    legend = "".join(f'<li class="c{index % 6}">{escape(one.name)}</li>' for index, one in enumerate(curves))
    return Markup(f'<figure><figcaption>{escape(title)}</figcaption>'
                  f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}: {escape(said)}">'
                  f'{"".join(parts)}</svg><ul class="legend">{legend}</ul></figure>')


def bars(counts: Mapping[str, float], *, title: str, note: str = "") -> Markup:
    """Draw a horizontal bar a name, longest first, as an HTML table that needs no picture to be read.

    Returns:
        Safe HTML; an empty string when there is nothing to draw.
    """
    if not counts:
        return Markup("")
    most = max(counts.values()) or 1
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{count:,.0f}</td>'
                   f'<td class="bar"><span style="--w:{100 * count / most:.1f}%"></span></td></tr>'
                   for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    caption = f"{escape(title)}{' · ' + escape(note) if note else ''}"
    return Markup(f'<table class="bars"><caption>{caption}</caption>{rows}</table>')
