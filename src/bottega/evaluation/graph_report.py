"""A self-contained page about made graphs, its JSON beside it: `pytest tests/evaluation/test_graph_page.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

import bottega
from bottega.core.files import write_atomic, write_json
from bottega.core.graph import Graph
from bottega.core.graph_rules import distances
from bottega.evaluation.graphs import GraphScores
from bottega.evaluation.report import visible

SIDE, _EDGE = 150, 12  # pixels of a drawing, and of its margin
_COLOURS = 6


def layout(graph: Graph) -> NDArray[np.float64]:
    """Return a place for every node, float64 [n, 2] in 0 … 1: as far apart as there are edges between them.

    Classical scaling (Torgerson 1952) of the lengths of shortest ways, then steps of stress majorisation (Gansner,
    Koren, North 2004), which weigh short ways more.
    """
    size = len(graph)
    ways = np.array([distances(graph, start) for start in range(size)], float)
    ways[ways < 0] = size  # in another part
    ways = np.minimum(ways, size)
    centred = np.eye(size) - 1 / size
    values, vectors = np.linalg.eigh(-0.5 * centred @ ways**2 @ centred)
    places = np.zeros((size, 2))
    count = min(2, size)
    places[:, :count] = vectors[:, -count:] * np.sqrt(np.maximum(values[-count:], 0))
    places += 1e-3 * np.random.default_rng(size).standard_normal(places.shape)  # nodes that cannot be told apart
    weights = 1 / np.maximum(ways, 1) ** 2 * (1 - np.eye(size))
    for _ in range(60 if size > 1 else 0):
        apart = places[:, None] - places[None]
        far = np.maximum(np.linalg.norm(apart, axis=2), 1e-9)
        pulled = places[None] + (ways / far)[..., None] * apart
        places = (weights[..., None] * pulled).sum(1) / weights.sum(1, keepdims=True)
    low, high = places.min(0), places.max(0)
    return np.asarray((places - (low + high) / 2) / max(1e-9, float((high - low).max())) + 0.5)


def shapes(graph: Graph, kinds: Sequence[str]) -> list[tuple[str, dict[str, str], str]]:
    """Return the parts of a drawing of `SIDE` by `SIDE` pixels: SVG tag, attributes and text of each, none escaped.

    The types of nodes have colours (`var(--c0)` to `var(--c5)` of the page), a double or triple bond is thicker.

    Args:
        graph: what is drawn.
        kinds: all types of nodes, the same for all drawings of a page.
    """
    place = _EDGE + layout(graph) * (SIDE - 2 * _EDGE)
    parts = [("line", {"x1": f"{place[one, 0]:.1f}", "y1": f"{place[one, 1]:.1f}", "x2": f"{place[other, 0]:.1f}",
                       "y2": f"{place[other, 1]:.1f}", "stroke": "currentColor", "stroke-opacity": ".5",
                       "stroke-width": f"{1 + 1.5 * (kind == '2') + 3 * (kind == '3'):g}"}, "")
             for one, other, kind in graph.edges]
    for (x, y), kind in zip(place, graph.nodes, strict=True):
        centre = {"cx": f"{x:.1f}", "cy": f"{y:.1f}"}
        if len(kinds) == 1:
            parts.append(("circle", {**centre, "r": "4", "fill": "var(--c1)"}, ""))
        else:
            colour = f"var(--c{kinds.index(kind) % _COLOURS})"
            parts += [("circle", {**centre, "r": "8", "fill": colour}, ""),
                      ("text", {"x": f"{x:.1f}", "y": f"{y + 3:.1f}", "text-anchor": "middle"}, kind[:3])]
    return parts


def drawing(graph: Graph, title: str, kinds: Sequence[str]) -> Markup:
    """Draw a graph as inline SVG in a figure.

    Args:
        graph, kinds: see `shapes`.
        title: written below.
    """
    drawn = Markup("").join(_element(*part) for part in shapes(graph, kinds))
    return Markup(f'<figure><svg viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{escape(title)}">'
                  f'{drawn}</svg><figcaption>{escape(title[:40])}</figcaption></figure>')


def _element(tag: str, given: dict[str, str], text: str) -> Markup:
    attributes = Markup("").join(Markup(' {}="{}"').format(*one) for one in given.items())
    return Markup("<{0}{1}>{2}</{0}>").format(tag, attributes, text)


def write_page(scores: GraphScores, real: Sequence[tuple[Graph, str]], made: Sequence[tuple[Graph, str]], path: Path, *,
               title: str, facts: Mapping[str, str]) -> Path:
    """Write the page, and the scores as JSON beside it (same name, `.json`), atomically; return the page's path.

    Args:
        scores: what `judge_graphs` found.
        real, made: graphs to draw, each with a line about it.
        path: of the page.
        title: heading.
        facts: label → value, such as model, date, licence.

    Raises:
        ResourceError: the disk is full.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("bottega.evaluation"), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)
    pages.filters.update(
        score=lambda value: f"{value:.4f}" if value == 0 or abs(value) >= 1e-4 else f"{value:.1e}",
        percent=lambda figure: "–" if figure is None else
        f"{figure['value']:.1%} ({figure['low']:.1%} to {figure['high']:.1%})")
    kinds = sorted({kind for graph, _ in (*real, *made) for kind in graph.nodes})
    page = visible(pages.get_template("graphs.html.j2").render(
        scores=scores, title=title, facts=facts, version=bottega.__version__,
        real=[drawing(*one, kinds) for one in real], made=[drawing(*one, kinds) for one in made]))
    write_json(path.with_suffix(".json"), {"title": title, "facts": dict(facts), **scores.plain()})
    write_atomic(path, page)
    return path
