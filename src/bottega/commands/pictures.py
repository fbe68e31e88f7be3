"""What `bottega generate` and `bottega reproduce` do with models of pictures and with PNG files."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bottega.commands.common import emit, medium_of, model_path

if TYPE_CHECKING:
    from bottega.commands.session import Session
    from bottega.core.request import Controls, Request
    from bottega.workshop.works import Work


@dataclass(frozen=True)
class Wish:
    """What the command line says of pictures beside prompt and controls; paths as they were given."""

    output: Path | None = None
    grid: bool = False
    image: Path | None = None
    mask: Path | None = None
    toward: str | None = None

    @property
    def said(self) -> str | None:
        """The first option that only a model of pictures understands, if one was given."""
        names = {"--output": self.output, "--grid": self.grid or None, "--image": self.image, "--mask": self.mask,
                 "--toward": self.toward}
        return next((name for name, value in names.items() if value is not None), None)


def wanted(model: str | None, wish: Wish) -> bool:
    """Return whether pictures are asked for: of a model that makes them, or by an option that only they have.

    Without a model and without such an option, texts are meant as long as there is a model that makes them.
    """
    from bottega.core.errors import BottegaError

    if model is None and wish.said:
        return True
    for medium in (None,) if model is not None else ("text", "image"):
        try:
            return medium_of(model_path(model, medium)) == "image"
        except BottegaError:  # no model, or an alias: left to who opens it
            continue
    return False


def generate(prompt: str, model: str | None, controls: Controls, wish: Wish, as_json: bool) -> None:
    """Draw pictures of a prompt into PNG files and say where they are.

    Raises:
        BottegaError: as in `Commission.open`, or a file cannot be read or written.
    """
    from bottega.codecs.image import ImageCodec
    from bottega.commands.session import Session
    from bottega.core.files import write_atomic

    request = _request(prompt, controls, wish)
    with Session(model, "image") as session:
        work, files = _draw(session, request)
    stem = wish.output or Path(f"{work.id}.png")
    places: list[Path] = []
    for number, file in files.items():
        place = stem if len(work.outputs) == 1 else stem.with_name(f"{stem.stem}-{number}{stem.suffix or '.png'}")
        write_atomic(place, file)
        places.append(place)
    if wish.grid and len(files) > 1:
        from bottega.evaluation.picture_sheet import contact_sheet

        sheet = contact_sheet([ImageCodec.pixels_of(file) for file in files.values()], columns=_columns(len(files)))
        places.append(stem.with_name(f"{stem.stem}-grid.png"))
        write_atomic(places[-1], ImageCodec.png(sheet, {"id": work.id, "grid": len(files)}))
    held = [output.index for output in work.outputs if output.index not in files]
    if as_json:
        emit({"id": work.id, "files": [str(place) for place in places], "filtered": held, "seed": work.seed,
              "lineage": work.lineage})
        return
    if places:
        typer.echo("\n".join(str(place) for place in places))
    if held:
        typer.secho(f"{len(held)} of {len(work.outputs)} pictures were held back by the model's own check", fg="yellow",
                    err=True)


def _request(prompt: str, controls: Controls, wish: Wish) -> Request:
    from bottega.core.errors import InputError
    from bottega.core.request import Request
    from bottega.core.validate import validate

    if prompt == "-":
        prompt = sys.stdin.read().strip()
    if wish.mask is not None and wish.image is None:
        raise InputError("--mask says where to draw anew, but there is no picture", fix="add --image FILE")
    if wish.toward is not None and (wish.image is not None or (controls.n or 1) < 2):
        raise InputError("--toward draws several pictures between two prompts", fix="give --n of at least 2, and no "
                                                                                    "--image")
    given = {name: _read(path) for name, path in (("image", wish.image), ("mask", wish.mask)) if path is not None}
    return validate(Request, {"prompt": prompt, "toward": wish.toward, "controls": controls, **given},
                    where="the command line", error=InputError)


def _read(path: Path) -> bytes:
    from bottega.core.errors import InputError

    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", fix="give a PNG, JPEG or WebP file") from None


def _draw(session: Session, request: Request) -> tuple[Work, dict[int, bytes]]:
    """Make a request's pictures with a progress bar; return the work and the PNG files by number of the picture."""
    from bottega.core.progress import track

    files: dict[int, bytes] = {}
    wanted = request.controls.over(session.engine.controls)
    for delta in track(session.stream(request, previews=True), "drawing", (wanted.n or 1) * (wanted.steps or 1)):
        if delta.finish and delta.png is not None:
            files[delta.output] = delta.png
    assert session.done is not None
    return session.done.work, files


def reproduce(file: Path, model: str | None, as_json: bool) -> None:
    """Make a PNG file again from what it carries, and check that every pixel is the same; exit code 1 if not.

    A picture that started from another one needs the workshop that made it: only there the other one is kept.

    Raises:
        InputError: the file carries nothing, the model is another one, or the picture it started from is forgotten.
    """
    import numpy as np

    from bottega.codecs.image import ImageCodec
    from bottega.commands.session import Session
    from bottega.core.errors import InputError

    data = _read(file)
    facts = ImageCodec.facts_of(data)
    if facts is None or not isinstance(facts.get("model"), dict) or "controls" not in facts:
        raise InputError(f"{file} does not say how it was made", fix="give a single picture that Bottega drew")
    with Session(model or str(facts["model"].get("name"))) as session:
        if session.served.digest != facts["model"].get("digest"):
            raise InputError(f"the model is not the one that made {file}", fix="name the right one with --model")
        _, files = _draw(session, _again(session, facts, file))
    made = files.get(int(facts.get("output", 0)))
    same = made is not None and np.array_equal(ImageCodec.pixels_of(made), ImageCodec.pixels_of(data))
    if as_json:
        emit({"same": same})
    else:
        typer.echo("same pixels" if same else "different pixels")
    if not same:
        raise typer.Exit(1)


def _again(session: Session, facts: dict[str, Any], file: Path) -> Request:
    """Return the request that a file was made by."""
    from bottega.core.errors import InputError, NotFoundError
    from bottega.core.request import Request
    from bottega.core.validate import validate
    from bottega.workshop import works

    if "image" not in facts:
        known = {name: facts.get(name) for name in ("toward", "controls")}
        return validate(Request, {"prompt": facts.get("prompt") or "", **known}, where=str(file), error=InputError)
    try:
        work, _ = works.output(session.workshop.store, str(facts.get("id")))
    except NotFoundError:
        work = None
    if work is None or "image" not in work.request:
        raise InputError(f"{file} started from another picture, which this workshop does not have",
                         fix="run it in the workshop (BOTTEGA_HOME) that made the file")
    return validate(Request, work.request, where=str(file), error=InputError)


def _columns(count: int) -> int:
    return max(1, math.isqrt(count))
