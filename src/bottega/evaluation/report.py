"""One self-contained HTML page about a finished chain of models: `bottega demo` writes demo/report.html with it.

Nothing on the page is fetched or run: no script, no external request (a Content-Security-Policy says so to the
browser), every text from data or models is escaped and freed of invisible control characters.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

import bottega
from bottega.core.energy import Cost
from bottega.core.files import write_atomic
from bottega.core.lineage import Lineage
from bottega.core.request import Step
from bottega.evaluation.charts import Series, bars, line_chart, number
from bottega.evaluation.picture_report import Drawn, compared, few_steps, score_rows

_VISIBLE = {"\n", "\t", "\u200c", "\u200d"}  # the joiners are part of writing many languages and emoji


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured figure.

    Attributes:
        name: what was measured; the same name in two stages makes one row of the table.
        value: the figure; rates are shares 0..1 with `unit="%"`.
        n: cases it was measured on.
        low, high: 95 % interval over the cases.
        spread: standard deviation over `seeds` runs with other seeds.
        better: which direction is good.
        note: what exactly was measured, in a few words.
    """

    name: str
    value: float
    n: int | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    seeds: int | None = None
    unit: Literal["", "%"] = ""
    better: Literal["higher", "lower"] = "higher"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a model wrote after a prompt."""

    prompt: str
    output: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One model of the chain, in order: untrained, pretrain, sft, dpo.

    Attributes:
        name: heading and column title.
        kind: `untrained` or the objective's kind.
        about: one sentence: what this stage does, on what data.
        history: lines of the run's metrics.jsonl (`step`, `tokens`, `seconds`, `loss`, `validation`).
        watch: names of validation figures to draw besides the loss; a name found in `ReportData.baselines` gets those
            values as rules.
        metrics: what was measured on held-out data after the stage.
        samples: outputs for the shared prompts.
        drawn: sheets and strips of pictures.
        judged: what `evaluation.pictures.judge_pictures` found.
        warnings: what a person should know before believing in the model, in plain words.
        facts: settings worth showing (parameters, learning rate, precision …).
        cost: time and energy of the stage; `tokens` of work done, in `unit`.
        reused: the stage was made by an earlier run; its cost is of that run.
    """

    name: str
    kind: str
    about: str = ""
    history: Sequence[Mapping[str, Any]] = ()
    watch: Sequence[str] = ("bits_per_byte",)
    metrics: Sequence[Metric] = ()
    samples: Sequence[Sample] = ()
    drawn: Sequence[Drawn] = ()
    judged: Mapping[str, Any] | None = None
    warnings: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    tokens: int = 0
    unit: str = "tokens"
    reused: bool = False


@dataclass(frozen=True, slots=True)
class DataCard:
    """What a dataset is made of: documents or pictures (`unit`) kept and dropped by reason, by split and source."""

    name: str
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)
    licences: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    unit: str = "documents"

    @staticmethod
    def of(card: Mapping[str, Any], name: str = "") -> DataCard:
        """Return what a dataset's card.json says (`Dataset.card`); `name` replaces its own."""
        about = card["bottega"]
        stages, splits = about["stages"], about["splits"]
        unread = {f"not read: {reason}": count for reason, count in stages["skipped"].items() if count}
        if about["kind"] == "pictures":
            codec, captions, counted = about["codec"], about["captions"], "pictures"
            sources = about["sources"]
            facts = {"shape": f"{codec['width']}x{codec['height']}, {'grey' if codec['channels'] == 1 else 'colour'}",
                     "classes": len(codec["classes"]), "with a caption": captions["with"],
                     "words": len(codec["words"]) - 2}
        else:
            counted = "rows"
            sources = {source: counts.get("kept", 0) for source, counts in about["sources"].items()}
            facts = {"text": f"{sum(split['bytes'] for split in splits.values()) / 1e6:.1f} MB"}
        return DataCard(
            name=name or card["name"], kept=stages["kept"], dropped={**stages["dropped"], **unread},
            splits={split: counts[counted] for split, counts in splits.items()}, sources=sources,
            licences=sorted(about["licences"]), facts=facts, digest=about["digest"],
            unit="pictures" if counted == "pictures" else "documents")


@dataclass(frozen=True, slots=True)
class Glass:
    """One answer opened: the prompt and the steps (with alternatives) that made the answer."""

    prompt: str
    steps: Sequence[Step]
    model: str = ""


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything the page shows.

    Attributes:
        title: heading.
        summary: two or three sentences: what was made, from what, on which machine.
        headline: label → value, the three or four figures a reader should see first.
        data: a card for each dataset.
        baselines: validation figure → {name: value}, e.g. {"bits_per_byte": {"gzip": 2.1, "unigram": 2.6}}.
        stages: the chain, in order.
        glass: answers opened.
        lineage: the last model first, then its ancestors (`core.lineage.ancestry`).
        next_steps: (command, what it does).
        machine: description of the computer.
        made: ISO time; empty leaves it out.
        price_per_kwh: money per kWh with its currency, e.g. (0.30, "EUR"); None leaves money out.
    """

    title: str
    summary: str
    stages: Sequence[Stage]
    headline: Mapping[str, str] = field(default_factory=dict)
    data: Sequence[DataCard] = ()
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    glass: Sequence[Glass] = ()
    lineage: Sequence[Lineage] = ()
    next_steps: Sequence[tuple[str, str]] = ()
    machine: str = ""
    made: str = ""
    price_per_kwh: tuple[float, str] | None = None


def visible(text: str) -> str:
    """Return text in which invisible controls, bidirectional overrides and lone surrogates show as ‹U+202E›."""
    return "".join(letter if letter in _VISIBLE or unicodedata.category(letter) not in ("Cc", "Cf", "Cs")
                   else f"‹U+{ord(letter):04X}›" for letter in text.replace("\r\n", "\n"))


def _curves(stage: Stage, baselines: Mapping[str, Mapping[str, float]]) -> list[Markup]:
    """Draw the loss and each watched validation figure of a stage over minutes."""
    def points(read: Any) -> list[tuple[float, float]]:
        found = ((line.get("seconds", 0.0) / 60, read(line)) for line in stage.history)
        return [(minutes, float(value)) for minutes, value in found if isinstance(value, int | float)]

    def held_out(name: str) -> Series:
        return Series("held out", points(lambda line: (line.get("validation") or {}).get(name)), dots=True)

    players = list(next((line["players"] for line in stage.history if line.get("players")), {}))
    training = [Series(player, points(lambda line, player=player: (line.get("players") or {}).get(player)))
                for player in players] or [Series("training", points(lambda line: line.get("loss")))]
    drawn = [line_chart([*training, held_out("loss")], title="Loss", x="minutes", y="")]
    for name in stage.watch:
        title = name.replace("_", " ").capitalize()
        seen = points(lambda line, name=name: (line.get("metrics") or {}).get(name)) if players else []
        drawn.append(line_chart([Series("training", seen), held_out(name)], title=title, x="minutes", y="",
                                rules=baselines.get(name)))
    return [figure for figure in drawn if figure]


def _figure(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f} %" if unit == "%" else number(value)


def _metric_rows(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """Return a row a metric with a cell a stage (None where it was not measured), in order of first appearance."""
    names = dict.fromkeys(metric.name for stage in stages for metric in stage.metrics)
    rows = []
    for name in names:
        cells = [next((m for m in stage.metrics if m.name == name), None) for stage in stages]
        found = [m for m in cells if m is not None]
        best = (max if found[-1].better == "higher" else min)(m.value for m in found)
        rows.append({"name": name, "cells": cells, "note": found[-1].note, "better": found[-1].better, "best": best})
    return rows


def _sample_rows(stages: Sequence[Stage]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return each prompt with (stage, output) of every stage that answered it."""
    prompts = dict.fromkeys(sample.prompt for stage in stages for sample in stage.samples)
    return [(prompt, [(stage.name, sample.output) for stage in stages for sample in stage.samples
                      if sample.prompt == prompt]) for prompt in prompts]


def _money(cost: Cost, price: tuple[float, str] | None) -> str:
    if price is None:
        return ""
    low, high = (watt_hours / 1000 * price[0] for watt_hours in (cost.energy_wh_low, cost.energy_wh_high))
    return f"{low:.4f}–{high:.4f} {price[1]}" if low != high else f"{low:.4f} {price[1]}"


def render(data: ReportData) -> str:
    """Return the page as HTML text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("bottega.evaluation"), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)
    pages.filters.update(number=number, figure=_figure)
    trained = [stage for stage in data.stages if stage.kind != "untrained"]
    total = sum((stage.cost for stage in trained), Cost())
    cards = [(card, bars({"kept": card.kept, **{f"dropped: {k}": v for k, v in card.dropped.items()}},
                         title=card.unit.capitalize(), note="dropped ones stay in the dataset, with the reason"))
             for card in data.data]
    page = pages.get_template("report.html.j2").render(
        report=data, trained=trained, total=total, cards=cards, version=bottega.__version__,
        curves={stage.name: _curves(stage, data.baselines) for stage in trained},
        pictured=[stage for stage in data.stages if stage.drawn or stage.judged],
        metrics=_metric_rows(data.stages), measured=[stage for stage in data.stages if stage.metrics],
        samples=_sample_rows(data.stages), score_rows=score_rows, compared=compared, few_steps=few_steps,
        money=lambda cost: _money(cost, data.price_per_kwh))
    return visible(page)


def write_report(path: Path, data: ReportData) -> Path:
    """Write the page atomically and return its path.

    Raises:
        ResourceError: the disk is full.
    """
    write_atomic(path, render(data))
    return path
