"""What `bottega generate` and `bottega reproduce` do with models of pictures and with PNG files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bottega.commands.common import emit, model_path

if TYPE_CHECKING:
    from bottega.core.request import Controls


def is_picture_model(model: str | None) -> bool:
    """Return whether the named (or newest) model makes pictures; names that are no model are left to others."""
    from bottega.core.bundle import META
    from bottega.core.errors import BottegaError
    from bottega.core.files import read_json

    try:
        return bool(read_json(model_path(model) / META).get("codec") == "image")
    except (BottegaError, AttributeError):
        return False


def generate(prompt: str, model: str | None, controls: Controls, output: Path | None, grid: bool,
             as_json: bool) -> None:
    """Draw pictures of a prompt into PNG files and say where they are.

    Raises:
        BottegaError: as in `workshop.pictures.draw`, or a file cannot be written.
    """
    from bottega.core.files import write_atomic
    from bottega.core.request import Request
    from bottega.generation.pictures import PictureEngine

    with _Easel(model) as easel:
        engine: PictureEngine = easel.engine
        work, files = easel.draw(Request(prompt=prompt, controls=controls))
    places: list[Path] = []
    stem = output or Path(f"{work.id}.png")
    for number, file in enumerate(files):
        place = stem if len(files) == 1 else stem.with_name(f"{stem.stem}-{number}{stem.suffix or '.png'}")
        write_atomic(place, file)
        places.append(place)
    if grid and len(files) > 1:
        from bottega.evaluation.picture_sheet import contact_sheet

        sheet = contact_sheet([engine.codec.decode_file(file) for file in files], columns=_columns(len(files)))
        places.append(stem.with_name(f"{stem.stem}-grid.png"))
        write_atomic(places[-1], engine.codec.png(sheet, {"id": work.id, "grid": len(files)}))
    if as_json:
        emit({"id": work.id, "files": [str(place) for place in places], "seed": work.seed, "lineage": work.lineage})
    else:
        typer.echo("\n".join(str(place) for place in places))


def reproduce(file: Path, model: str | None, as_json: bool) -> None:
    """Make a PNG file again from what it carries, and check that every pixel is the same; exit code 1 if not.

    Raises:
        InputError: the file carries nothing, or the model is another one.
    """
    from bottega.codecs.image import ImageCodec
    from bottega.core.errors import InputError
    from bottega.core.request import Request
    from bottega.core.validate import validate

    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", fix="give a PNG file") from None
    facts = ImageCodec.facts_of(data)
    if facts is None or not isinstance(facts.get("model"), dict) or "controls" not in facts:
        raise InputError(f"{file} does not say how it was made", fix="give a single picture that Bottega drew")
    wish = validate(Request, {"prompt": facts.get("prompt") or "", "controls": facts["controls"]}, where=str(file),
                    error=InputError)
    with _Easel(model or str(facts["model"].get("name"))) as easel:
        if easel.served.digest != facts["model"].get("digest"):
            raise InputError(f"the model is not the one that made {file}", fix="name the right one with --model")
        result = easel.engine.generate(wish)
        pixels = result.outputs[int(facts.get("output", 0))].steps[-1].data
        same = bool((easel.engine.codec.decode_file(data) == pixels).all())
    if as_json:
        emit({"same": same})
    else:
        typer.echo("same pixels" if same else "different pixels")
    if not same:
        raise typer.Exit(1)


def _columns(count: int) -> int:
    return max(1, math.isqrt(count))


class _Easel:
    """A model of pictures with the workshop's guard and store around it."""

    def __init__(self, model: str | None) -> None:
        import os

        from bottega.core.home import workshop
        from bottega.generation.pictures import PictureEngine
        from bottega.workshop.workshop import Workshop

        self._workshop = Workshop.open(workshop(), database=os.environ.get("BOTTEGA_DATABASE") or None, scan=False)
        path = model_path(model)
        self.served = self._workshop.models.add(path)
        self.engine = PictureEngine.open(path)

    def __enter__(self) -> _Easel:
        return self

    def __exit__(self, *_: object) -> None:
        self._workshop.store.close()

    def draw(self, request: Any) -> Any:
        """See `workshop.pictures.draw`."""
        from bottega.workshop.pictures import draw

        return draw(self._workshop.store, self._workshop.guard, self.engine, self.served, request, door="cli")
