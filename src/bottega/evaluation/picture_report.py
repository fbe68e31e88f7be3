"""Pictures and their scores as a report and a terminal show them: `bottega evaluate MODEL`, `bottega train RECIPE`."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bottega.evaluation.charts import number
from bottega.evaluation.statistics import Figure

_SHARES = frozenset({"precision", "recall", "coverage", "told_apart", "copies"})
_WANTED = {"lower": "↓", "higher": "↑", "real": "="}
_HEADING = ("score", "made", "real", "gaussian", "as good as real")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sheet or strip of pictures.

    Attributes:
        title: what it is.
        about: how to read it.
        png: the file.
    """

    title: str
    about: str
    png: bytes

    @property
    def address(self) -> str:
        """The file as a data: address, so that a page fetches nothing."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A score in words: the made pictures beside real ones and beside a Gaussian, with what it measures."""

    name: str
    wanted: str
    made: str
    real: str
    gaussian: str
    as_real: bool
    about: str


def score_rows(judged: Mapping[str, Any]) -> list[ScoreRow]:
    """Return what `judge_pictures` found, a row a score."""
    def words(name: str, figure: Figure, interval: bool = False) -> str:
        share = name in _SHARES or name.startswith("shows ")

        def one(value: float) -> str:
            return f"{100 * value:.1f} %" if share else number(value)

        return f"{one(figure['value'])} [{one(figure['low'])}, {one(figure['high'])}]" if interval else \
            one(figure["value"])

    return [ScoreRow(name.replace("_", " "), _WANTED[score["better"]], words(name, score["made"], interval=True),
                     words(name, score["real"]), words(name, score["gaussian"]), score["as_real"], score["about"])
            for name, score in judged["scores"].items()]


def score_lines(judged: Mapping[str, Any]) -> list[str]:
    """Return the scores as a table of plain lines, then what was compared, then the warnings."""
    rows = [_HEADING, *((f"{row.name} {row.wanted}", row.made, row.real, row.gaussian, "yes" if row.as_real else "no")
                        for row in score_rows(judged))]
    price = few_steps(judged)
    return [*_aligned(rows), compared(judged), *([price] if price else []),
            *(f"warning: {warning}" for warning in judged["warnings"])]


def compared(judged: Mapping[str, Any]) -> str:
    """Return what the scores stand on, in a sentence."""
    counts = judged["counts"]
    source = "other held-out pictures" if counts["real_from"] == "held_out" else "training pictures"
    seen = ", ".join(f"{name} {figure['value']:.1%}" for name, figure in judged["judge"]["held_out"].items())
    return (f"{counts['made']:,} pictures made, {counts['compared']:,} of each kind compared with held-out ones; "
            f"'real' are {source}, 'gaussian' knows only means and covariances of the pixels; "
            + (f"the judge is right on held-out pictures: {seen}" if seen else
               "the judge has no labels and compares pixels"))


def few_steps(judged: Mapping[str, Any]) -> str:
    """Return what drawing in few steps costs beside many, in a sentence; empty where that was not measured."""
    found = judged.get("few_steps")
    if found is None:
        return ""
    figures = dict(found["figures"])
    frechet = figures.pop("frechet")
    times = f" ({frechet['few'] / frechet['many']:.2f} times)" if frechet["many"] else ""
    said = [f"frechet {number(frechet['few'])} and {number(frechet['many'])}{times}",
            *(f"{name} {pair['few']:.1%} and {pair['many']:.1%}" for name, pair in figures.items())]
    return f"what few steps cost, in {found['steps']} steps and in {found['many']}: {'; '.join(said)}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
