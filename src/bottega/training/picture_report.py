"""The page about one model of pictures, `runs/NAME/report.html`: sheets, curves, settings, cost, data, scores.

`bottega train recipes/digits-vae.yaml` writes it, `bottega evaluate digits-vae` writes it again with scores.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import torch

from bottega.core.bundle import Bundle
from bottega.core.files import write_atomic
from bottega.core.lineage import ancestry
from bottega.evaluation.report import DataCard, ReportData, Stage, write_report
from bottega.families.bases import open_generator
from bottega.families.pictures import PictureGenerator
from bottega.training.metrics import read_history
from bottega.training.picture_look import SAMPLES, Data, looks

REPORT = "report.html"


def stage(bundle: Bundle, data: Data, home: Path, judged: Mapping[str, Any] | None = None,
          reused: bool = False) -> Stage:
    """Return a finished model as a stage of a report, its pictures drawn now.

    Args:
        bundle: the model.
        data: what it was trained on.
        home: the workshop; `runs/NAME` has its log.
        judged: its scores, if it was evaluated.
        reused: it was made by an earlier run.
    """
    meta, run = bundle.meta, home / "runs" / bundle.name
    generator = cast(PictureGenerator, open_generator(bundle))
    history, training, choices = read_history(run), meta["training"], meta.get("choices", {})
    settings = {key: value for key, value in generator.config.model_dump(mode="json").items() if value is not None}
    facts = {"parameters": f"{meta['derived'].get('parameters', 0):,}", "steps": f"{training['steps']:,}",
             "pictures a second": f"{training['tokens_per_second']:,.0f}",
             "learning rate": f"{choices.get('learning_rate', 0):.4g}", "precision": choices.get("precision", ""),
             "batch": meta["recipe"]["training"].get("batch"), **settings}
    said = [*generator.warnings(history), *(judged["warnings"] if judged else [])]
    return Stage(name=bundle.name, kind=str(meta["family"]), about=str(meta["recipe"].get("description", "")),
                 history=history, watch=[name for name in meta["metrics"] if name != "loss"],
                 drawn=looks(generator, data, bundle.controls, int(meta["recipe"]["seed"])), judged=judged,
                 warnings=said, facts=facts, cost=bundle.lineage.cost, tokens=training["tokens"], unit="pictures",
                 reused=reused)


def write(bundle: Bundle, data: Data, home: Path, judged: Mapping[str, Any] | None = None) -> Path:
    """Write the page of a model into its run and return its path.

    Raises:
        ResourceError: the disk is full.
    """
    shown, meta = stage(bundle, data, home, judged), bundle.meta
    run = home / "runs" / bundle.name
    write_atomic(run / SAMPLES / f"{meta['training']['steps']:08d}.png", shown.drawn[0].png)
    cost = shown.cost
    machine = f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}"
    steps = [(f'bottega generate "" --model {bundle.name} --n 9 --grid', "draw pictures"),
             (f"bottega lineage {bundle.name}", "see where the model came from")]
    if judged is None:
        steps.insert(0, (f"bottega evaluate {bundle.name}", "compare its pictures with real ones; adds to this page"))
    return write_report(run / REPORT, ReportData(
        title=f"{bundle.name}: a model of pictures",
        summary=f"A {meta['family']} of {shown.facts['parameters']} parameters ({shown.about or 'pictures'}), trained "
                f"in {meta['training']['seconds'] / 60:.1f} minutes on {machine}. Figures are on held-out pictures.",
        headline={**{name.replace("_", " "): f"{value:.4g}" for name, value in meta["metrics"].items()},
                  "energy": f"{cost.energy_wh_low:.2f}-{cost.energy_wh_high:.2f} Wh"},
        stages=[shown], data=[DataCard.of(data.card, ", ".join(meta["recipe"]["data"]["sources"]))],
        lineage=ancestry(bundle.path, home), next_steps=steps, machine=machine,
        made=datetime.now(UTC).isoformat(timespec="seconds")))
