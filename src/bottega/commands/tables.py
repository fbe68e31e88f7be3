"""What `bottega generate` and `bottega reproduce` do with models of tables; and `bottega table` for the impatient."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bottega.commands.common import Json, ModelName, emit, medium_of, model_path, start
from bottega.commands.linked import SUFFIXES, text_of, write_linked

if TYPE_CHECKING:
    from bottega.core.request import Controls

app = typer.Typer(no_args_is_help=True, help="Fit a table, fill its gaps, score its rows, judge what was made.")
_ONLY = ("rows", "conditions", "balance", "fair")  # controls that only a model of tables understands


def wanted(prompt: str, model: str | None, controls: Controls) -> str | None:
    """Return the model of tables that is meant, None when none is: `--model`, or the prompt where it names one."""
    from bottega.core.errors import BottegaError

    for name in ([model] if model else [prompt] if prompt else []):
        try:
            if medium_of(model_path(name)) == "table":
                return name
        except BottegaError:
            continue
    if model is None and any(getattr(controls, name) is not None for name in _ONLY):
        if prompt:  # tables take no text: it was meant as a name, and none is called so
            model_path(prompt)
        return model_path(None, "table").name
    return None


def generate(prompt: str, model: str, controls: Controls, output: Path | None, as_json: bool) -> None:
    """Make rows into a Parquet, CSV or JSON Lines file, or as CSV on standard output; two linked tables into a folder.

    Raises:
        BottegaError: as in `Commission.open`, or the file cannot be written.
    """
    from bottega.commands.session import Session
    from bottega.core.errors import InputError
    from bottega.core.files import write_atomic
    from bottega.core.progress import track
    from bottega.core.request import Request
    from bottega.core.table import join

    request = Request(prompt="" if prompt == model else prompt, controls=controls)
    with Session(model, "table") as session:
        layout = session.engine.codec.layout
        linked = layout is not None and bool(layout.parent)
        if output is not None and output.suffix.lower() not in SUFFIXES and not (linked and not output.suffix):
            raise InputError(f"{output} has no ending of a table", where="--output",
                             fix=f"use {', '.join(SUFFIXES)}" + (", or a folder for both tables" if linked else ""))
        whole = session.engine.plan(request).rows
        deltas = session.stream(request)
        shown: Iterator[Any] = track(deltas, "making rows", None) if output is not None else deltas
        made, notes = [], []
        for delta in shown:
            made += delta.rows
            notes += delta.notes
        rows = join(made)
        assert session.done is not None
        assert layout is not None or len(rows) == whole
        content = session.done.result.outputs[0].steps[0].data
        work = session.done.work
    for note in notes:
        typer.secho(f"note: {note}", fg="yellow", err=True)
    if output is not None and output.suffix:
        write_atomic(output, content if output.suffix.lower() == ".parquet" else text_of(rows, output.suffix.lower()))
    elif output is not None:
        write_linked(output, rows, layout, content)
    if as_json:
        said: dict[str, Any] = {"id": work.id, "rows": len(rows), "seed": work.seed, "lineage": work.lineage,
                                "notes": notes}
        emit({**said, **({"file": str(output)} if output else {"data": rows.data.to_pylist()})})
    elif output is not None:
        typer.echo(str(output))
    else:
        sys.stdout.write(text_of(rows, ".csv"))


def reproduce(file: Path, model: str | None, as_json: bool) -> None:
    """Make the rows of a Parquet file again from what it carries, and compare; exit code 1 if they differ.

    Raises:
        InputError: the file carries nothing, or the model is another one.
    """
    from bottega.commands.session import Session
    from bottega.core.errors import InputError
    from bottega.core.request import Request
    from bottega.core.table import Table
    from bottega.core.validate import validate
    from bottega.workshop.table_lane import facts_of

    try:
        before = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", fix="give a Parquet file of ours") from None
    facts = facts_of(before)
    if facts is None or not isinstance(facts.get("model"), dict) or "controls" not in facts:
        raise InputError(f"{file} does not say how it was made", fix="give a Parquet file that Bottega made")
    with Session(model or str(facts["model"].get("name"))) as session:
        if session.served.digest != facts["model"].get("digest"):
            raise InputError(f"the model is not the one that made {file}", fix="name the right one with --model")
        wish = validate(Request, {"prompt": "", "controls": facts["controls"]}, where=str(file), error=InputError)
        made = _rows(session.make(wish).outputs[0].steps[0].data)
        layout = session.engine.codec.layout
    if "part" in facts and layout is not None:
        made = layout.split(Table(layout.flat, made))[facts["part"]].data
    same = made.equals(_rows(before))
    if as_json:
        emit({"same": same})
    else:
        typer.echo("same rows" if same else "different rows")
    if not same:
        raise typer.Exit(1)


def _rows(content: bytes) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(io.BytesIO(content)).replace_schema_metadata(None)


@app.command()
def fit(
    table: Annotated[Path, typer.Argument(help="CSV or Parquet file.")],
    name: Annotated[str | None, typer.Option(help="Of the model. Default: the file's.")] = None,
    rule: Annotated[list[str] | None, typer.Option(help="That every row keeps, such as 'admit <= discharge' "
                                                        "(repeatable).")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="COLUMN=KIND where the guess is wrong: number, integer, "
                                                        "datetime, category, boolean, id, text (repeatable).")] = None,
    entity: Annotated[str, typer.Option(help="Column that rows which belong together share, such as patient_id: they "
                                             "are learned as sequences.")] = "",
    order: Annotated[str, typer.Option(help="Column that the rows of an entity ascend in, such as visit_date.")] = "",
    child: Annotated[Path | None, typer.Option(help="A second table, whose rows point at those of the first by "
                                                    "--entity.")] = None,
    texts: Annotated[bool, typer.Option("--texts", help="Learn to write free text too; without it such columns come "
                                                        "out empty.")] = False,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Longest training; with --texts as long again. "
                                                                 "Default: by the rows.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Make a model of a table without a recipe; 'bottega generate NAME --rows 1000' then makes rows like it.

    Example: bottega table fit patients.csv --rule "admit <= discharge" --kind zip=category

    Example: bottega table fit visits.csv --entity patient_id --order visit_date
    """
    from bottega import tables

    start(as_json)
    kinds: dict[str, Any] = dict(_pair(item) for item in kind or [])
    model = tables.fit(table, name=name, rules=rule or [], columns=kinds, entity=entity, order=order,
                       child=child, texts=texts, minutes=minutes, seed=seed, report=True)
    if as_json:
        emit({"name": model.bundle.name, "path": str(model.bundle.path), "metrics": model.bundle.meta["metrics"]})
        return
    typer.secho(f"\n{model.bundle.name} is ready: {model.bundle.path}", bold=True)
    typer.echo(f"try it: bottega generate {model.bundle.name} --rows 1000 -o out.parquet")


def _pair(item: str) -> tuple[str, str]:
    from bottega.core.errors import InputError

    name, sign, kind = item.rpartition("=")
    if not sign or not name:
        raise InputError(f"'{item}' is not COLUMN=KIND", where="--kind", fix="for instance --kind zip=category")
    return name, kind


@app.command()
def impute(
    table: Annotated[Path, typer.Argument(help="CSV or Parquet file with gaps.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet, CSV or JSON Lines file to write.")],
    model: ModelName = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Fill the missing values of rows, each drawn given the rest of its row; what is filled keeps the model's rules.

    Example: bottega table impute gaps.csv -m patients-table -o filled.csv
    """
    from bottega import tables
    from bottega.commands.table_release import require
    from bottega.core.files import write_atomic

    start(as_json)
    path = model_path(model, "table")
    require(path)  # a filled gap tells what the model knows of such a row
    loaded = tables.load(path)
    found = loaded.engine.impute(loaded.read(table), seed=seed)
    filled = found.table
    for note in found.notes:
        typer.secho(f"note: {note}", fg="yellow", err=True)
    write_atomic(output, tables.parquet_of(filled) if output.suffix.lower() == ".parquet" else
                 text_of(filled, output.suffix.lower()))
    if as_json:
        emit({"file": str(output), "rows": len(filled), "notes": found.notes})
    else:
        typer.echo(str(output))


@app.command()
def score(
    table: Annotated[Path, typer.Argument(help="CSV or Parquet file.")],
    model: ModelName = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many rows to show.")] = 10,
    as_json: Json = False,
) -> None:
    """Show the rows that the model finds least probable: outliers, errors, drift; of sequences given the rows before.

    Rows that cannot be come first, each with the reason: a broken rule, a level never seen, a number beyond all.

    Example: bottega table score new.csv -m patients-table
    """
    import numpy as np

    from bottega import tables

    start(as_json)
    loaded = tables.load(model_path(model, "table"))
    rows = loaded.read(table)
    found, why = loaded.log_prob(rows), loaded.impossible(rows)
    order, possible = np.argsort(found, kind="stable")[:n], np.isfinite(found)
    mean = float(found[possible].mean()) if possible.any() else None
    if as_json:
        emit({"mean": mean, "impossible": int((~possible).sum()), "rows": [
            {"row": int(row) + 1, "log_prob": float(found[row]) if possible[row] else None, "reason": why[row] or None}
            for row in order]})
        return
    if mean is not None:
        typer.echo(f"mean {mean:.2f} nats over {int(possible.sum())} rows; the least probable:")
    if not possible.all():
        typer.echo(f"{int((~possible).sum())} of {len(found)} rows cannot be, so they come first:")
    for row in order:
        shown = ", ".join(f"{name} {value}" for name, value in rows.take(np.array([row])).data.to_pylist()[0].items())
        told = f"{found[row]:8.2f}" if possible[row] else f"{why[row]}:"
        typer.echo(f"  row {row + 1:6}  {told}  {shown[:140]}")


@app.command()
def private(
    table: Annotated[Path, typer.Argument(help="CSV or Parquet file.")],
    domain: Annotated[Path, typer.Option(help="JSON: column → list of levels, or of low, high and step. It must "
                                              "be public knowledge: what is read from the rows breaks the guarantee.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet, CSV or JSON Lines file to write.")],
    epsilon: Annotated[float, typer.Option(min=0, help="Of the guarantee; 1 is strong, 10 weak.")] = 3.0,
    delta: Annotated[float, typer.Option(min=0, max=1, help="Of the guarantee; well below 1 / rows.")] = 1e-5,
    rows: Annotated[int | None, typer.Option(min=1, help="Default: as many as the noisy count says.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="Column whose links matter most (repeatable).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the noise: secret, since whoever knows it can take the "
                                                         "noise away. Default: drawn and forgotten.")] = None,
    as_json: Json = False,
) -> None:
    """Make rows under differential privacy: nobody can tell from them whether one row was in the table.

    Noisy counts of columns and of pairs, and a mixture that agrees with them; what was spent is printed.

    Example: bottega table private adult.csv --domain domain.json --epsilon 3 --target income -o safe.parquet
    """
    import secrets

    from bottega.core.errors import InputError
    from bottega.core.files import read_json, write_atomic
    from bottega.core.table import Schema
    from bottega.core.table import Table as Rows
    from bottega.data.tables.infer import infer
    from bottega.data.tables.notices import tell_kinds
    from bottega.data.tables.read import read
    from bottega.families.marginals import Marginals
    from bottega.tables import parquet_of

    start(as_json)
    if output.suffix.lower() not in SUFFIXES:
        raise InputError(f"{output} has no ending of a table", where="--output", fix=f"use {', '.join(SUFFIXES)}")
    public = read_json(domain)
    if not isinstance(public, dict):
        raise InputError(f"{domain} is no JSON object", where="--domain",
                         fix='write {"age": [0, 120, 1], "sex": ["f"]}')
    kinds: dict[str, Any] = {name: "category" if isinstance(one, list) and one and isinstance(one[0], str) else "number"
                             for name, one in public.items()}
    unwritten = "it is left out: no text is written under differential privacy"
    told = [name for name, one in public.items() if one == "text"]
    if told:
        raise InputError(f"the domain calls '{told[0]}' a text, and texts are not written under differential privacy: "
                         "the guarantee is of noisy counts, and a model of text is trained on the texts themselves",
                         where="--domain", fix="leave it out of the domain; it is then left out of the rows")
    data, schema = infer(read(str(table), []), {}, str(table))
    tell_kinds(data, Schema(columns=[column for column in schema.columns if column.kind == "text"]), 1, texts=unwritten)
    wrong = [column.name for column in schema.columns
             if column.name in kinds and column.ordered != (kinds[column.name] == "number")]
    if wrong:
        data, schema = infer(data, {name: kinds[name] for name in wrong}, str(table))
    model = Marginals.fit(Rows(schema, data), public, epsilon=epsilon, delta=delta, targets=target or [],
                          seed=secrets.randbits(128) if seed is None else seed)
    made = model.sample(rows or max(1, round(model.total)), seed=secrets.randbits(63) if seed is None else seed)
    write_atomic(output, parquet_of(made) if output.suffix.lower() == ".parquet" else
                 text_of(made, output.suffix.lower()))
    if as_json:
        emit({"file": str(output), "rows": len(made), **model.privacy_card()})
        return
    typer.echo(f"{output}: {len(made):,} rows, epsilon {epsilon:g}, delta {delta:g} for each row of {table}")
    for what, cost in model.ledger:
        typer.echo(f"  rho {cost:.5f}  {what}")
