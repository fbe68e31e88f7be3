"""The verbs that look at models: `bottega models`, `bottega lineage`, `bottega evaluate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bottega.commands.common import Json, ModelName, emit, model_path, open_engine, start


def models(as_json: Json = False) -> None:
    """List the models of this workshop, newest first, and whether each still matches its manifest."""
    from bottega.core.bundle import Bundle, bundles
    from bottega.core.errors import BottegaError
    from bottega.core.home import workshop

    start(as_json)
    rows: list[dict[str, Any]] = []
    for path in bundles(workshop() / "models"):
        try:
            bundle = Bundle.open(path)
            meta = bundle.meta
            rows.append({"name": path.name, "family": meta["family"], "objective": meta.get("objective"),
                         "parameters": meta.get("derived", {}).get("parameters"), "digest": bundle.digest,
                         "metrics": meta.get("metrics", {}), "sound": True})
        except BottegaError as error:
            rows.append({"name": path.name, "sound": False, "problem": error.problem})
    if as_json:
        emit(rows)
        return
    if not rows:
        typer.echo("no models yet: run 'bottega demo' or 'bottega train RECIPE'")
    for row in rows:
        if not row["sound"]:
            typer.secho(f"{row['name']:28} {row['problem']}", fg="red")
            continue
        figures = "  ".join(f"{k} {v:.3f}" for k, v in list(row["metrics"].items())[:2] if isinstance(v, float))
        size = f"{row['parameters'] / 1e6:.1f}M" if row["parameters"] else ""
        typer.echo(f"{row['name']:28} {row['family']:12} {row['objective'] or '':9} {size:>7}  {figures}")


def lineage(
    model: Annotated[str | None, typer.Argument(help="Model name or path. Default: the newest.")] = None,
    as_json: Json = False,
) -> None:
    """Say where a model came from: its parents back to the data, their licences, seeds, code and cost.

    Example: bottega lineage python-assistant-dpo
    """
    from bottega.core.home import workshop
    from bottega.core.lineage import ancestry

    start(as_json)
    chain = ancestry(model_path(model), workshop())
    if as_json:
        emit([record.model_dump(mode="json") for record in chain])
        return
    for record in chain:
        typer.secho(f"{record.kind} {record.name}", bold=True)
        licences = ", ".join(sorted({licence.spdx for licence in record.licences})) or "none stated"
        cost, parents = record.cost, ", ".join(f"{parent.kind} {parent.name}" for parent in record.parents)
        if parents:
            typer.echo(f"  from {parents}")
        typer.echo(f"  step {record.step} · seed {record.seed} · made {record.made} · licences {licences}")
        typer.echo(f"  {cost.seconds:.0f} s · {cost.energy_wh_low:.2f}-{cost.energy_wh_high:.2f} Wh ({cost.method})")
        typer.echo(f"  content {record.content[:16]} · code {record.environment.get('code', '')[:16]}")


def evaluate(
    suite: Annotated[list[str] | None, typer.Argument(
        help="Suites to run, or a model of pictures, tables, graphs or rewards; none lists the suites.")] = None,
    model: ModelName = None,
    cases: Annotated[int, typer.Option(min=1, help="Held-out cases a suite.")] = 200,
    n: Annotated[int, typer.Option(min=20, help="Pictures to draw and compare.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Which cases, and the sampling seed.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure a model on held-out cases with known answers, or its pictures or rows beside real ones.

    Every figure comes with a 95 % interval. Of pictures each score stands beside what real pictures and a plain
    Gaussian get, of rows beside fresh real rows, independent columns and copies, of a reward model beside the rule
    that takes the longer (or shorter) answer; the page in the model's run shows them too.

    Examples:

      bottega evaluate support-desk --cases 200

      bottega evaluate digits-vae --n 500

      bottega evaluate patients-table

      bottega evaluate communities-graph

      bottega evaluate python-assistant-reward
    """
    from bottega.commands.common import medium_of
    from bottega.core.request import Request
    from bottega.evaluation import suites

    start(as_json)
    named = suite[0] if suite and len(suite) == 1 and suite[0] not in suites.names() else None
    asked = named or (model if not suite else None)
    medium = medium_of(model_path(asked)) if asked is not None else "text"
    if medium == "image":
        _evaluate_pictures(named or model, n, seed, as_json)
        return
    if medium == "table":
        _evaluate_table(named or model, seed, as_json)
        return
    if medium == "graph":
        _evaluate_graphs(named or model, seed, as_json)
        return
    if medium == "reward":
        _evaluate_reward(named or model, as_json)
        return
    if not suite:
        if as_json:
            emit(suites.names())
        else:
            typer.echo("suites: " + ", ".join(suites.names()))
        return
    for name in suite:
        suites.check(name)
    engine = open_engine(model)

    def answers(requests: list[Request]) -> list[str]:
        return [result.outputs[0].text for result in engine.generate_many(requests)]

    found = {name: suites.run(name, answers, cases=cases, seed=seed) for name in suite}
    if as_json:
        emit(found)
        return
    for name, metrics in found.items():
        typer.secho(name, bold=True)
        for metric, value in metrics.items():
            typer.echo(f"  {metric:24} {value}")


def _evaluate_pictures(model: str | None, n: int, seed: int, as_json: bool) -> None:
    """Print the scores of a model of pictures and add them to the page of its run."""
    from bottega.core.bundle import Bundle
    from bottega.core.home import workshop
    from bottega.evaluation.picture_report import score_lines
    from bottega.training import picture_report
    from bottega.training.picture_scores import data_of, scores

    home, bundle = workshop(), Bundle.open(model_path(model))
    judged = scores(bundle, home, n=n, seed=seed)
    report = picture_report.write(bundle, data_of(bundle, home), home, judged)
    if as_json:
        emit({**judged, "report": str(report)})
        return
    for line in score_lines(judged):
        typer.echo(line)
    typer.echo(f"report: {report}")


def _evaluate_table(model: str | None, seed: int, as_json: bool) -> None:
    """Print quality and privacy of a table's rows and write the page of its run."""
    from bottega.core.bundle import Bundle
    from bottega.core.home import workshop
    from bottega.evaluation.table_report import lines
    from bottega.training import table_report

    home, bundle = workshop(), Bundle.open(model_path(model))
    judged = table_report.judged(bundle, home, seed=seed)
    report = table_report.keep(judged, home)
    if as_json:
        emit({**judged.scores.plain(), "report": str(report)})
        return
    for line in lines(judged.scores):
        typer.echo(line)
    if judged.reasons:
        typer.echo("its rows are not released: 'bottega table release --help' says what a person can do")
    typer.echo(f"report: {report}")


def _evaluate_graphs(model: str | None, seed: int, as_json: bool) -> None:
    """Print how good a model's graphs are, as they come and as they are given out, and write the page of its run."""
    from bottega.core.bundle import Bundle
    from bottega.core.home import workshop
    from bottega.training import graph_report

    home, bundle = workshop(), Bundle.open(model_path(model))
    judged = graph_report.judged(bundle, home, seed=seed)
    report = judged.save(home / "runs" / bundle.name / graph_report.REPORT)
    if as_json:
        emit({**judged.kept.plain(), "free": judged.free.plain(), "report": str(report)})
        return
    for title, scores in (("as they come, without the rule", judged.free), ("as they are given out", judged.kept)):
        typer.secho(title, bold=True)
        for line in scores.lines():
            typer.echo("  " + line)
    typer.echo(f"report: {report}")


def _evaluate_reward(model: str | None, as_json: bool) -> None:
    """Print how often a reward model is right and how far it can be believed, and write the page of its run."""
    from bottega.core.bundle import Bundle
    from bottega.core.home import workshop
    from bottega.training import reward_report

    home, bundle = workshop(), Bundle.open(model_path(model))
    found = reward_report.judged(bundle, home)
    report = reward_report.save(found, bundle, home)
    if as_json:
        emit({**found.plain(), "report": str(report)})
        return
    for line in found.lines():
        typer.echo(line)
    typer.echo(f"report: {report}")


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command()(models)
    app.command()(lineage)
    app.command()(evaluate)
